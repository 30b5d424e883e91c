"""Scoring: logits and labels in, ranked candidates out; and which answers are close."""

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


MARGIN = 0.4
"""In logits (log odds). A scaled decode is trusted where it is farther from every boundary.

Of 828 photos whose scaled decode was compared with the full one, none changed the distance of its
first two logits by more than 0.32; 10 changed their label, all with the two at most 0.22 apart
(docs/benchmarks.md: `python -m benchmarks margin`).
"""


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
    multi_label: bool = False,
    top_k: int,
    threshold: float | None = None,
    temperature: float = 1.0,
) -> Ranking:
    """Ranking of one input's classes.

    Args:
        logits: Shape (K,), float32.
        labels: K names.
        activation: How logits become scores; "none" where they are scores already.
        multi_label: Classes are independent: those at or above the threshold apply, and are `top`.
        top_k: How many classes to return where they are exclusive; more than K means K.
        threshold: In [0, 1]. A best score below it is `unsure`.
        temperature: The logits are divided by it before they become scores.

    Raises:
        ImageError: `non_finite`, where a logit is NaN or plus infinity.
    """
    if not np.isfinite(logits.max()):  # minus infinity is a class that is left out
        raise ImageError(
            "non_finite",
            "the model answered NaN or infinity for this image; its weights or input are broken",
        )
    scores = probabilities(logits / np.float32(temperature), activation)
    if multi_label:
        threshold = MULTI_LABEL_THRESHOLD if threshold is None else threshold
        top_k = max(1, int((scores >= threshold).sum()))
    order = _best_indices(logits, min(top_k, len(logits)))
    candidates = tuple(Candidate(labels.names[i], i, float(scores[i])) for i in order)
    unsure = threshold is not None and candidates[0].score < threshold
    return Ranking(candidates[0], () if multi_label and unsure else candidates, unsure)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of logits: how they become an answer.

    Args:
        activation: How they become scores.
        multi_label: Classes are independent.
        threshold: The score below which an answer is unsure, or a class does not apply.
        temperature: What the logits are divided by before they become scores.
    """

    activation: Activation = "softmax"
    multi_label: bool = False
    threshold: float | None = None
    temperature: float = 1.0

    def distance(self, logits: NDArray[np.float32]) -> float:
        """`boundary_distance` of logits (K,)."""
        return boundary_distance(
            logits,
            activation=self.activation,
            multi_label=self.multi_label,
            threshold=self.threshold,
            temperature=self.temperature,
        )

    def answer(self, logits: NDArray[np.float32]) -> tuple[object, ...]:
        """What must not change: the label; whether it is unsure; the classes that apply."""
        if not np.isfinite(logits.max()):
            return ("no answer",)
        scores = probabilities(logits / np.float32(self.temperature), self.activation)
        best = int(logits.argmax())
        if self.multi_label:
            threshold = MULTI_LABEL_THRESHOLD if self.threshold is None else self.threshold
            return best, tuple(np.flatnonzero(scores >= threshold).tolist())
        return best, self.threshold is not None and scores[best] < self.threshold


def boundary_distance(
    logits: NDArray[np.float32],
    *,
    activation: Activation,
    multi_label: bool = False,
    threshold: float | None = None,
    temperature: float = 1.0,
) -> float:
    """How far an answer is from the nearest boundary, in logits (log odds); 0 where it is none.

    Where it changes: between the first two classes; where the best score falls below the threshold;
    of independent classes where any comes to apply, or no longer does.

    Args:
        logits: Shape (K,), float32.
        activation: How they become scores.
        multi_label: Classes are independent.
        threshold: The score below which an answer is `unsure`, if there is one.
        temperature: What the logits are divided by before they become scores.
    """
    if not np.isfinite(logits.max()):
        return 0.0
    values = logits.astype(np.float64)
    if activation == "none":
        values = np.clip(values, 1e-12, 1 - 1e-12 if multi_label else None)
        values = np.log(values) - (np.log1p(-values) if multi_label else 0.0)
    first, second = np.partition(values, -2)[[-1, -2]] if len(values) > 1 else (values[0], -np.inf)
    nearest = float(first - second)
    if multi_label:
        boundary = log_odds(MULTI_LABEL_THRESHOLD if threshold is None else threshold)
        return min(nearest, float(np.abs(values - boundary * temperature).min()))
    if threshold is None:
        return nearest
    found = best_log_odds(logits, activation=activation, temperature=temperature)
    return min(nearest, temperature * abs(found - log_odds(threshold)))


def best_log_odds(
    logits: NDArray[np.float32], *, activation: Activation, temperature: float = 1.0
) -> float:
    """The log odds of the best score of one input's exclusive classes, (K,)."""
    if activation == "none":
        return log_odds(float(logits.max()))
    scaled = logits.astype(np.float64) / temperature
    if activation == "sigmoid":
        return float(scaled.max())
    others = np.logaddexp.reduce(np.delete(scaled, int(scaled.argmax())))  # -inf where none
    return float(scaled.max() - others)


def log_odds(probability: float) -> float:
    """log(p / (1 - p)); finite at 0 and 1, too."""
    clipped = min(max(probability, 1e-12), 1 - 1e-12)
    return float(np.log(clipped / (1 - clipped)))
