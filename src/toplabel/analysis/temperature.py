"""Logits and true classes in; the temperature that makes scores mean something out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.02, 50.0
_PRECISION = 1e-4  # of its logarithm
_GOLDEN = (5**0.5 - 1) / 2


def has_best_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> bool:
    """Whether one temperature is more likely than all others.

    None is where every image is right: the lower the better, without end; nor where the true class
    has no higher output than others on average: the higher.

    Args:
        logits: float32 (M, K).
        truth: int (M,), the class of each.
    """
    true = logits[np.arange(len(truth)), truth]
    is_true = np.arange(logits.shape[1]) == truth[:, None]
    others = np.where(is_true, -np.inf, logits).max(axis=1)
    return not (true > others).all() and float(true.mean()) > float(logits.mean())


def fit_temperature(
    logits: NDArray[np.float32],
    truth: NDArray[np.int64],
    *,
    shift: NDArray[np.float32] | float = 0.0,
) -> float:
    """The temperature that maximises the likelihood of these images, from 0.02 to 50.

    The loss has one minimum, which is found by golden-section search over its logarithm.

    Args:
        logits: float32 (M, K).
        truth: int (M,), the class of each.
        shift: (K,), what a prior adds to the logits once they are divided by the temperature.
    """

    def loss(log_temperature: float) -> float:
        return mean_log_loss(logits, truth, temperature=np.exp(log_temperature), shift=shift)

    low, high = float(np.log(_MIN_TEMPERATURE)), float(np.log(_MAX_TEMPERATURE))
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _PRECISION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def mean_log_loss(
    logits: NDArray[np.float32],
    truth: NDArray[np.int64],
    *,
    temperature: float = 1.0,
    shift: NDArray[np.float32] | float = 0.0,
) -> float:
    """The mean negative log likelihood of the true classes, natural logarithm.

    Args:
        logits, truth, shift: As of `fit_temperature`.
        temperature: What logits are divided by.
    """
    scaled = logits.astype(np.float64) / temperature + shift
    scaled -= scaled.max(axis=1, keepdims=True)
    own = scaled[np.arange(len(truth)), truth]
    return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())
