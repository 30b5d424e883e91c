"""Faithfulness: whether the label really hangs on what a heat map says it hangs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.explain.perturbation import masked_logits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.inference.engines import Engine

SHARE = 0.1
"""How much of the input is painted over."""

RANDOM_PARTS = 8

_SEED = 0


def faithfulness(
    engine: Engine,
    tensor: NDArray[np.float32],
    heat: NDArray[np.float32],
    *,
    index: int,
    score: float,
    scores: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    batch_size: int,
) -> tuple[float, float]:
    """How much of the score is lost without the hottest tenth, and without a random one.

    The random tenths have the shape of the hottest, moved round the input by a fixed series of
    random steps: what comes of the shape itself, its size and its edges, is the same for all.

    Args:
        engine: Runs the model.
        tensor: Its input, float32 (C, h, w).
        heat: Over that input, float32 (h, w).
        index: The class that it is of.
        score: Of that class, with all of the input.
        scores: Makes scores of the model's outputs.
        batch_size: Inputs in one call of the engine.
    """
    if not heat.any():  # no part is hotter than another
        return 0.0, 0.0
    hottest = _hottest(heat)
    masks = [hottest, *_moved(hottest)]
    logits = masked_logits(engine, tensor, masks, batch_size=batch_size)
    lost = score - np.nan_to_num(scores(logits)[:, index])
    return float(lost[0]), float(lost[1:].mean())


def _hottest(heat: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The hottest tenth, to the pixel: bool (h, w)."""
    count = max(1, round(heat.size * SHARE))
    mask = np.zeros(heat.size, np.bool_)
    mask[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    return mask.reshape(heat.shape)


def _moved(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The same shape elsewhere; what leaves at one side comes in at the other."""
    steps = np.random.default_rng(_SEED).integers(0, mask.shape, (RANDOM_PARTS, 2))
    return (np.roll(mask, (down, across), axis=(0, 1)) for down, across in steps)
