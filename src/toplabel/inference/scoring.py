"""Scoring: logits and labels in, ranked candidates out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.errors import ImageError
from toplabel.inference.prediction import Candidate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.labels.labels import Labels

MULTI_LABEL_THRESHOLD = 0.5
"""At or above this score a class of a multi-label model counts, unless another is asked for."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best classes of one input, best first, and whether the best falls below the threshold."""

    best: Candidate
    top: tuple[Candidate, ...]
    unsure: bool


def rank(
    logits: NDArray[np.float32],
    labels: Labels,
    *,
    activation: Activation,
    top_k: int,
    threshold: float | None = None,
    temperature: float = 1.0,
) -> Ranking:
    """Ranking of one input's classes.

    Args:
        logits: Shape (K,), float32.
        labels: K names.
        activation: "softmax" for exclusive classes, "sigmoid" for independent ones (multi-label),
            "none" for outputs that are probabilities already.
        top_k: How many classes to return; more than K means K. Multi-label models return all at
            or above the threshold instead.
        threshold: In [0, 1]. A best score below it is `unsure`.
        temperature: The logits are divided by it before they become scores.

    Raises:
        ImageError: `non_finite`, where a logit is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise ImageError(
            "non_finite",
            "the model answered NaN or infinity for this image; its weights or input are broken",
        )
    scores = probabilities(logits / np.float32(temperature), activation)
    if activation == "sigmoid":
        threshold = MULTI_LABEL_THRESHOLD if threshold is None else threshold
        top_k = max(1, int((scores >= threshold).sum()))
    order = _best_indices(logits, min(top_k, len(labels)))
    candidates = tuple(Candidate(labels[i], i, float(scores[i])) for i in order)
    unsure = threshold is not None and candidates[0].score < threshold
    top = () if activation == "sigmoid" and unsure else candidates
    return Ranking(candidates[0], top, unsure)


def probabilities(logits: NDArray[np.float32], activation: Activation) -> NDArray[np.float64]:
    """Scores in [0, 1], float64, of the same shape (..., K); softmax rows sum to 1."""
    values = logits.astype(np.float64)
    if activation == "none":
        return values
    if activation == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # no overflow at either end
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _best_indices(logits: NDArray[np.float32], count: int) -> list[int]:
    """Indices of the `count` largest, largest first; among equals the lowest index first."""
    if count >= len(logits):
        order = np.argsort(-logits, kind="stable")
    else:
        smallest = np.partition(logits, -count)[-count]
        kept = np.flatnonzero(logits >= smallest)  # more than `count` where values tie
        order = kept[np.argsort(-logits[kept], kind="stable")][:count]
    return [int(index) for index in order]
