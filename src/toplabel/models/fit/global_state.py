"""A process's state that code of users' sets when it is imported; as it was before, out."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Whatever runs inside: dtype, device, gradients, threads, seeds, warnings, folder as before.

    Files of networks set them at their top, for their training; other networks of this process,
    and the user's own session, are not to compute with that.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
    deterministic = _deterministic()
    seeds, numpy_seeds = random.getstate(), np.random.get_state()
    folder = os.getcwd() if os.path.exists(os.curdir) else None
    filters = list(warnings.filters)
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            if torch.get_default_device() != device:
                torch.set_default_device(None if device.type == "cpu" else device)
            torch.set_grad_enabled(gradients)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if _deterministic() != deterministic:  # to set it imports the whole compiler
                torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
            if warnings.filters != filters:
                warnings.filters[:] = filters  # type: ignore[index]
                warnings._filters_mutated()  # type: ignore[attr-defined]
            random.setstate(seeds)
            np.random.set_state(numpy_seeds)
            if folder is not None:
                os.chdir(folder)


def _deterministic() -> tuple[bool, bool]:
    """Whether torch's algorithms are to be deterministic, and only warned of."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
