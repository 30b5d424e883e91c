"""Fitting: outputs and true classes in, a temperature and a threshold out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLDEST, _HOTTEST = 0.02, 50.0
SURE = 0.95
"""Of intervals, and of the bound that a threshold must keep where it is chosen."""


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature under which these images are most likely, from 0.02 to 50.

    Args:
        logits: float32 (M, K).
        truth: int (M,), the class of each.
    """
    from scipy.optimize import minimize_scalar

    values = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        likely = scaled[np.arange(len(truth)), truth] - np.logaddexp.reduce(scaled, axis=1)
        return float(-likely.mean())

    found = minimize_scalar(
        loss, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x))


def choose_threshold(
    scores: NDArray[np.float64], right: NDArray[np.bool_], *, precision: float
) -> float | None:
    """The lowest score such that the answers at or above it are surely as precise as wished.

    "Surely": the one-sided 95 % Clopper-Pearson bound of their precision is not below it. None
    where no score does that.

    Args:
        scores: Shape (M,): of the best class, in [0, 1].
        right: Shape (M,): whether it was right.
        precision: In (0, 1).
    """
    from scipy.stats import beta

    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    numbers = np.arange(1, len(order) + 1)
    bounds = np.where(hits > 0, beta.ppf(1 - SURE, np.maximum(hits, 1), numbers - hits + 1), 0.0)
    last = np.append(scores[order][1:] < scores[order][:-1], True)  # equal scores go together
    fitting = np.flatnonzero((bounds >= precision) & last)
    return float(scores[order][fitting[-1]]) if len(fitting) else None


@dataclass(frozen=True, slots=True)
class Precision:
    """How precise the answers at or above a threshold are, and for which share there is one."""

    value: float
    low: float
    high: float
    coverage: float


def check_threshold(
    scores: NDArray[np.float64], right: NDArray[np.bool_], *, threshold: float
) -> Precision:
    """What a threshold does on images that had no part in choosing it; Clopper-Pearson, 95 %."""
    from scipy.stats import binomtest

    answered = scores >= threshold
    count, hits = int(answered.sum()), int(right[answered].sum())
    if count == 0:
        return Precision(0.0, 0.0, 1.0, 0.0)
    interval = binomtest(hits, count).proportion_ci(SURE, method="exact")
    return Precision(hits / count, float(interval.low), float(interval.high), count / len(scores))
