"""Occlusion: a patch moved over the model's input; the heat is what the label loses under it.

Needs no gradients: any model that an engine runs can be explained so, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.explain.perturbation import evidence, masked_logits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.inference.engines import Engine

PATCHES_PER_SIDE = 11
"""Places of the patch along each side: with the two of a row that stick out, 121 at most."""

PATCH_STEPS = 2
"""A patch is so many steps wide, so that each place lies under several."""


def occlusion_heat(
    engine: Engine,
    tensor: NDArray[np.float32],
    *,
    index: int,
    activation: Activation,
    batch_size: int,
) -> NDArray[np.float32]:
    """The heat of the input's cells, a step of the patch each: float32 (rows, columns), >= 0.

    Of no fixed scale; the last cells may stand over the input's edge: `cell_size` says how large
    a cell is.

    The engine is asked for `PATCHES_PER_SIDE` squared answers at most, and one more.

    Args:
        engine: Runs the model.
        tensor: Its input, float32 (C, h, w).
        index: The class to be explained.
        activation: What makes scores of the model's outputs.
        batch_size: Inputs in one call of the engine.
    """
    size = tensor.shape[1], tensor.shape[2]
    patches = list(_patches(size))
    masks = (_mask(patch, size) for patch in patches)
    without = evidence(
        masked_logits(engine, tensor, masks, batch_size=batch_size), index, activation
    )
    whole = evidence(engine(tensor[None]), index, activation)
    lost = np.zeros(size)
    times = np.zeros(size)
    for patch, loss in zip(patches, whole - without, strict=True):
        lost[patch] += loss
        times[patch] += 1
    rows, columns = cell_size(size)
    return np.maximum(lost / times, 0).astype(np.float32)[::rows, ::columns]


def _patches(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Where the patch lies: every place of the input under as many, at the borders too."""
    rows, columns = _spans(size[0]), _spans(size[1])
    return ((row, column) for row in rows for column in columns)


def cell_size(size: tuple[int, int]) -> tuple[int, int]:
    """The patch's step: down and across, in pixels of an input of this (height, width)."""
    return _step(size[0]), _step(size[1])


def _step(length: int) -> int:
    return max(1, math.ceil(length / (PATCHES_PER_SIDE - PATCH_STEPS + 1)))


def _spans(length: int) -> list[slice]:
    """The patch's places along one side; the first and last stick out, and are cut off."""
    step = _step(length)
    first = -step * (PATCH_STEPS - 1)
    return [
        slice(max(start, 0), min(start + step * PATCH_STEPS, length))
        for start in range(first, length, step)
    ]


def _mask(patch: tuple[slice, slice], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[patch] = True
    return mask
