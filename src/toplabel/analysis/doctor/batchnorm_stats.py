"""Moments: a network and its inputs in, what reaches its batch normalisations out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 8


class _Enough(Exception):
    """All that is asked for has been seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What a batch normalisation remembers of its training: float64 (D,) each."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What reached a batch normalisation, of each picture: float64 (N, D) each."""

    mean: NDArray[np.float64]
    square: NDArray[np.float64]


def normalisations(network: nn.Module) -> list[_BatchNorm]:
    """Its batch normalisations that remember a mean and a variance, in no order of running."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and module.running_var is not None
    ]


def in_order(network: nn.Module, inputs: NDArray[np.float32]) -> list[_BatchNorm]:
    """Those that run, as they run, of one input (1, C, h, w). Raises what the network raises."""
    seen: dict[int, _BatchNorm] = {}

    def note(module: nn.Module, _given: Any) -> None:
        assert isinstance(module, _BatchNorm)
        seen.setdefault(id(module), module)

    with _hooked(normalisations(network), note):
        network(torch.from_numpy(inputs))
    return list(seen.values())


def stored(module: _BatchNorm) -> Stored:
    """What it remembers."""
    assert module.running_mean is not None
    assert module.running_var is not None
    mean, variance = module.running_mean.double().numpy(), module.running_var.double().numpy()
    return Stored(mean, np.maximum(variance, 1e-12))


def measure(
    network: nn.Module, layers: list[_BatchNorm], inputs: NDArray[np.float32]
) -> list[Moments]:
    """The moments at each layer, of each input.

    Args:
        network: In eval mode; it is run no farther than the last of the layers needs.
        layers: Of it, in the order in which they run.
        inputs: float32 (N, C, h, w).
    """
    rows: list[list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = [[] for _ in layers]
    places = {id(layer): place for place, layer in enumerate(layers)}

    def keep(module: nn.Module, given: Any) -> None:
        values = given[0].flatten(2) if given[0].ndim > 2 else given[0][..., None]
        mean, square = values.mean(2), torch.square(values).mean(2)  # in doubles: 50 times as long
        place = places[id(module)]
        rows[place].append((mean.double().numpy(), square.double().numpy()))
        if place == len(layers) - 1:
            raise _Enough

    with _hooked(layers, keep):
        for start in range(0, len(inputs), BATCH):
            try:
                network(torch.from_numpy(inputs[start : start + BATCH]))
            except _Enough:
                continue
    return [
        Moments(np.concatenate([m for m, _ in row]), np.concatenate([s for _, s in row]))
        for row in rows
    ]


@contextmanager
def _hooked(modules: list[_BatchNorm], hook: Callable[[nn.Module, Any], None]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
