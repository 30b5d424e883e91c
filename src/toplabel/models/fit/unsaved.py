"""Two networks of one class in; those of their numbers that no state dict has, and differ, out.

A permutation or projection that a constructor draws and keeps in a plain attribute, or in a buffer
that is not persistent, was another one in training: all tensors fit, and the answers are others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

_MOST = 100_000  # numbers of one that are compared


def unsaved_numbers(module: nn.Module) -> dict[str, torch.Tensor]:
    """The numbers in a network that its state dict does not have, by dotted names.

    Tensors, arrays and lists of numbers in attributes, and buffers that are not persistent.
    """
    found = {}
    for at, part in module.named_modules():
        own = f"{at}." if at else ""
        for name, value in _unsaved(part):
            numbers = _numbers(value)
            if numbers is not None and numbers.numel() > 1:
                found[f"{own}{name}"] = numbers
    return found


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    """The names of the unsaved numbers that two networks of one class do not share."""
    theirs = unsaved_numbers(other)
    return [
        name
        for name, numbers in unsaved_numbers(one).items()
        if name in theirs and not _same(numbers, theirs[name])
    ]


def _unsaved(part: nn.Module) -> Iterator[tuple[str, Any]]:
    for name in part._non_persistent_buffers_set:
        yield name, part._buffers.get(name)
    for name, value in vars(part).items():
        if not name.startswith("_") or isinstance(value, torch.Tensor | np.ndarray):
            yield name, value


def _numbers(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return None if value.is_meta or nn.parameter.is_lazy(value) else value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(value.copy())
    listed = value if isinstance(value, list | tuple) and len(value) <= _MOST else ()
    if listed and all(type(one) in (int, float) for one in listed):
        return torch.tensor([float(one) for one in listed], dtype=torch.float64)
    return None


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    ours, theirs = one.flatten()[:_MOST], other.flatten()[:_MOST]
    return bool(torch.allclose(ours.double(), theirs.double(), equal_nan=True))
