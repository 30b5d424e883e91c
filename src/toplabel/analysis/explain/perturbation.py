"""Perturbation: a model's input with parts masked in, the evidence and score lost by it out.

Needs no gradients: any model that an engine runs can be explained this way, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.explain.upsample import over_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.inference.engines import Engine

PATCHES_PER_SIDE = 11
"""Positions of the patch along each side: with the two of a row that stick out, 121 at most."""

PATCH_STEPS = 2
"""A patch is so many steps wide, so that each position lies under several."""

SHARE = 0.1
"""How much of the input is masked to measure how faithful a map is."""

RANDOM_PARTS = 8

_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class MaskedInput:
    """One input of a model, of which parts can be masked.

    Args:
        engine: Runs the model.
        tensor: The input, float32 (C, h, w).
        batch_size: Inputs in one call of the engine; no more are held at once.
    """

    engine: Engine
    tensor: NDArray[np.float32]
    batch_size: int

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the input."""
        return self.tensor.shape[1], self.tensor.shape[2]

    def logits(self, masks: Iterable[NDArray[np.bool_]]) -> NDArray[np.float32]:
        """The model's outputs where each of M masks in turn becomes the mean colour: (M, K)."""
        mean = self.tensor.mean(axis=(1, 2), keepdims=True)  # (C, 1, 1)
        rest, outputs = iter(masks), []
        while batch := list(islice(rest, self.batch_size)):
            masked = [np.where(mask, mean, self.tensor) for mask in batch]
            outputs.append(self.engine(np.stack(masked)))
        return np.concatenate(outputs)


def occlusion_heat(
    masked: MaskedInput, *, index: int, activation: Activation
) -> NDArray[np.float32]:
    """The evidence for a class that is lost under a moving patch: float32 (h, w) in [0, 1].

    The engine is asked for `PATCHES_PER_SIDE` squared outputs at most, and one more.

    Args:
        masked: The model's input.
        index: Of the class.
        activation: What makes scores of the model's outputs.
    """
    size = masked.size
    steps = _step(size[0]), _step(size[1])
    patches = [
        (row, column) for row in _spans(size[0], steps[0]) for column in _spans(size[1], steps[1])
    ]
    without = masked.logits(_mask(patch, size) for patch in patches)
    whole = evidence(masked.engine(masked.tensor[None]), index, activation)
    lost, times = np.zeros(size), np.zeros(size)
    for patch, loss in zip(patches, whole - evidence(without, index, activation), strict=True):
        lost[patch] += loss
        times[patch] += 1
    cells = np.maximum(lost / times, 0).astype(np.float32)[:: steps[0], :: steps[1]]
    return over_input(cells, size, cell=steps)


def faithfulness(
    masked: MaskedInput,
    heat: NDArray[np.float32],
    score_of: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    *,
    whole: float,
) -> tuple[float, float]:
    """The drop in score without the hottest tenth, and without a random one.

    The random tenths have the shape of the hottest, moved round the input by a fixed series of
    random steps: what comes of the shape itself, its size and its edges, is the same for all.

    Args:
        masked: The model's input.
        heat: Over that input, float32 (h, w).
        score_of: The class's scores of the model's outputs, (M, K) -> (M,).
        whole: Its score with all of the input.
    """
    if not heat.any():  # no part is hotter than another
        return 0.0, 0.0
    hottest = np.zeros(heat.size, np.bool_)
    count = max(1, round(heat.size * SHARE))
    hottest[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    mask = hottest.reshape(heat.shape)
    moves = np.random.default_rng(_SEED).integers(0, heat.shape, (RANDOM_PARTS, 2))
    moved = (np.roll(mask, move, axis=(0, 1)) for move in moves)
    lost = whole - np.nan_to_num(score_of(masked.logits([mask, *moved])))
    return float(lost[0]), float(lost[1:].mean())


def evidence(
    logits: NDArray[np.float32], index: int, activation: Activation
) -> NDArray[np.float64]:
    """The evidence for a class, against all others, on an unbounded scale: float64 (M,).

    For exclusive classes the log odds, log(p / (1 - p)): a score that is 0.9999 with and without a
    part of the image still tells the two apart. NaN and infinity count as 0.

    Args:
        logits: float32 (M, K).
        index: Of the class.
        activation: What makes scores of the logits.
    """
    values = logits.astype(np.float64)
    own = values[:, index]
    if activation == "softmax" and values.shape[1] > 1:
        others = np.delete(values, index, axis=1)
        most = others.max(axis=1, keepdims=True)
        own = own - (most[:, 0] + np.log(np.exp(others - most).sum(axis=1)))
    return np.nan_to_num(own, nan=0.0, posinf=0.0, neginf=0.0)


def _step(length: int) -> int:
    return max(1, math.ceil(length / (PATCHES_PER_SIDE - PATCH_STEPS + 1)))


def _spans(length: int, step: int) -> Iterator[slice]:
    """The patch's positions along one side; the first and last stick out, and are cut off."""
    for start in range(-step * (PATCH_STEPS - 1), length, step):
        yield slice(max(start, 0), min(start + step * PATCH_STEPS, length))


def _mask(patch: tuple[slice, slice], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[patch] = True
    return mask
