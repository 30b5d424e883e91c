"""Masking: an input and parts to paint over in, the model's answers without these parts out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.inference.engines import Engine


def masked_logits(
    engine: Engine,
    tensor: NDArray[np.float32],
    masks: Iterable[NDArray[np.bool_]],
    *,
    batch_size: int,
) -> NDArray[np.float32]:
    """The model's answers where each mask in turn is painted over: float32 (M, K).

    Args:
        engine: Runs the model.
        tensor: Its input, float32 (C, h, w).
        masks: M of them, bool (h, w): True where the input becomes its own mean colour.
        batch_size: Inputs in one call of the engine; no more are held at once.
    """
    mean = tensor.mean(axis=(1, 2), keepdims=True)  # (C, 1, 1)
    answers = [
        engine(np.stack([np.where(mask, mean, tensor) for mask in chunk]))
        for chunk in _chunks(masks, batch_size)
    ]
    return np.concatenate(answers)


def _chunks(masks: Iterable[NDArray[np.bool_]], size: int) -> Iterator[list[NDArray[np.bool_]]]:
    rest = iter(masks)
    while chunk := list(islice(rest, size)):
        yield chunk


def evidence(
    logits: NDArray[np.float32], index: int, activation: Activation
) -> NDArray[np.float64]:
    """What speaks for a class, against all others, on a scale without ends: float64 (M,).

    For exclusive classes the logarithm of p / (1 - p): a score that is 0.9999 with and without a
    part of the picture still tells the two apart. NaN and infinity say nothing: 0.

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
