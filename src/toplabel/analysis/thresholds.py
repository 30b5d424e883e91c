"""Thresholds: scores and whether they were right in; the lowest score to rely on out."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEVEL = 0.95
"""Of intervals, and with which a threshold that is chosen keeps its promise."""

_STARTS = 4
_STEP = 1.15


def choose_threshold(
    scores: NDArray[np.float64], right: NDArray[np.bool_], *, precision: float
) -> float | None:
    """The lowest score such that predictions at or above it reliably reach a precision.

    None where no score does. "Reliably": on images like these the precision is too low in at most
    5 % of the choices. Thresholds are tested from the highest score down, each only if the one
    before it passed (fixed-sequence testing, as in Angelopoulos et al. 2021, "Learn then Test"),
    by the one-sided Clopper-Pearson bound. The best images alone are too few to show a precision,
    and a first miss ends a sequence, so there are four: they begin at the fewest images that could
    show it, and at 2, 4 and 8 times as many, each with a quarter of the error.
    `scripts/simulate_thresholds.py` counts how often the precision is too low.

    Args:
        scores: Shape (M,): of the best class, in [0, 1].
        right: Shape (M,): whether it was right.
        precision: In (0, 1).
    """
    from scipy.stats import beta

    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(right[order])
    starts = _starts(len(scores), precision)
    chosen = 0
    for count in starts:
        while True:
            taken = int(np.searchsorted(-falling, -falling[count - 1], side="right"))  # and equals
            found = int(hits[taken - 1])
            error = (1 - _LEVEL) / len(starts)
            if found == 0 or beta.ppf(error, found, taken - found + 1) < precision:
                break
            chosen = max(chosen, taken)
            if taken == len(falling):
                break
            count = min(len(falling), ceil(taken * _STEP))
    return float(falling[chosen - 1]) if chosen else None


def _starts(images: int, precision: float) -> list[int]:
    """How many of the best images each sequence begins with; none where all are too few."""
    for number in range(_STARTS, 0, -1):
        fewest = ceil(log((1 - _LEVEL) / number) / log(precision))  # all of them right
        if fewest << (number - 1) <= images:
            return [fewest << step for step in range(number)]
    return []


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision of predictions at or above a threshold, and their share of all images."""

    value: float
    low: float
    high: float
    coverage: float


def check_threshold(
    scores: NDArray[np.float64], right: NDArray[np.bool_], *, threshold: float
) -> Precision:
    """The precision on images that did not choose the threshold; Clopper-Pearson, 95 %."""
    from scipy.stats import binomtest

    sure = scores >= threshold
    count, hits = int(sure.sum()), int(right[sure].sum())
    if count == 0:
        return Precision(0.0, 0.0, 1.0, 0.0)
    interval = binomtest(hits, count).proportion_ci(_LEVEL, method="exact")
    return Precision(hits / count, float(interval.low), float(interval.high), count / len(scores))
