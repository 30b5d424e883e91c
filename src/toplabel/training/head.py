"""Features and classes in; a linear head, fitted by multinomial logistic regression, out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRENGTHS = (0.03, 0.1, 1.0)
"""What C is chosen from, in scikit-learn's convention: the larger, the less regularised."""

_BLOCK_SCORES = 1 << 22
"""Scores that are held at a time: 16 MB in float32, 100 MB with what is computed from them."""
_BLOCK_ROWS = 2048
_LARGE = 4_000_000  # parameters; above, fewer steps are remembered
_MAX_STEPS = 300
_PRECISE, _ROUGH = 3e-7, 2e-5
"""A fit ends where no part of the gradient of an image's mean loss is larger."""

_HALVINGS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear head: logits = features x weight transposed + bias.

    Args:
        weight: float32 (K, D).
        bias: float32 (K,).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (N, K), of features (N, D)."""
        return np.asarray(features @ self.weight.T + self.bias, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """The loss to be minimised, over parameters (K, D + 1) of features less their mean.

    The bias is not regularised, so that the mean changes no answer, only how soon it is found.
    """

    features: NDArray[np.float32]  # (N, D)
    mean: NDArray[np.float32]  # (D,)
    targets: NDArray[np.int64]  # (N,)
    weights: NDArray[np.float64]  # (N,)
    dtype: Any  # of products: float32 or float64

    def loss_and_gradient(
        self, parameters: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        classes = len(parameters)
        drawn = parameters[:, :-1]
        loss = 0.5 * _dot(drawn, drawn)
        gradient = np.concatenate([drawn, np.zeros((classes, 1))], axis=1)
        weight = parameters[:, :-1].T.astype(self.dtype)
        mean = self.mean.astype(np.float64)
        offset = parameters[:, -1] - parameters[:, :-1] @ mean  # no centred copy is made
        rows = max(1, min(_BLOCK_ROWS, _BLOCK_SCORES // classes))
        for start in range(0, len(self.targets), rows):
            block = slice(start, start + rows)
            features = self.features[block].astype(self.dtype, copy=False)
            scores = (features @ weight).astype(np.float64) + offset
            scores -= scores.max(axis=1, keepdims=True)
            own = (np.arange(len(features)), self.targets[block])
            true = scores[own]
            np.exp(scores, out=scores)
            total = scores.sum(axis=1)
            weights = self.weights[block]
            loss += float(((np.log(total) - true) * weights).sum())
            scores *= (weights / total)[:, None]
            scores[own] -= weights
            gradient[:, :-1] += scores.T.astype(self.dtype) @ features
            gradient[:, -1] += scores.sum(axis=0)
        gradient[:, :-1] -= np.outer(gradient[:, -1], mean)
        return loss, gradient


def fit_head(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    *,
    classes: int,
    strength: float,
    weights: NDArray[np.float64] | None = None,
    start: Head | None = None,
    rough: bool = False,
) -> Head:
    """The head that minimises strength x the sum of log losses + half the squared weights.

    That is scikit-learn's `LogisticRegression(C=strength)`. Found by L-BFGS (Nocedal 1980), the
    same to the bit each time on one machine. Beside the features, which are not copied, it takes
    memory for 13 to 25 heads in float64 (1.3 GB for 10,000 classes of 1,280 features), and 100 MB.

    Args:
        features: float32 (N, D).
        targets: int (N,), from 0 to K - 1.
        classes: K, at least 2.
        strength: C.
        weights: (N,), how often each image counts; None: once.
        start: A head to begin with, such as that of another strength.
        rough: Compute in float32 and end early: probabilities are some thousandths off, in a
            third of the time.
    """
    count, size = features.shape
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    # of two classes scikit-learn regularises the difference of their weights
    strength = strength / 2 if classes == 2 else strength
    counted = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    dtype = np.float32 if rough else np.float64
    problem = _Problem(features, mean, targets, counted * strength, dtype)
    parameters = np.zeros((classes, size + 1))
    if start is not None:
        parameters[:, :-1] = start.weight
        parameters[:, -1] = start.bias + start.weight @ mean
    tolerance = (_ROUGH if rough else _PRECISE) * float(problem.weights.sum())
    parameters = _minimise(problem, parameters, tolerance)
    weight = parameters[:, :-1].astype(np.float32)
    bias = parameters[:, -1] - parameters[:, :-1] @ mean.astype(np.float64)
    return Head(weight, bias.astype(np.float32))


def _minimise(
    problem: _Problem, parameters: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """L-BFGS with a step that is halved until it lowers the loss enough (Armijo)."""
    steps = _Steps.remembering(10 if parameters.size <= _LARGE else 4)
    loss, gradient = problem.loss_and_gradient(parameters)
    for _ in range(_MAX_STEPS):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = steps.direction(gradient)
        slope = _dot(direction, gradient)
        length = 1.0 if steps.made else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        for _ in range(_HALVINGS):
            there = parameters + length * direction
            lower, its_gradient = problem.loss_and_gradient(there)
            if lower <= loss + 1e-4 * length * slope:
                break
            length /= 2
        else:  # as low as can be told
            break
        steps.add(there - parameters, its_gradient - gradient)
        parameters, loss, gradient = there, lower, its_gradient
    return parameters


@dataclass(frozen=True, slots=True)
class _Steps:
    """The last steps, and how the gradient changed over each: an idea of the curvature."""

    made: deque[tuple[NDArray[np.float64], NDArray[np.float64], float]]

    @classmethod
    def remembering(cls, count: int) -> Self:
        return cls(deque(maxlen=count))

    def add(self, step: NDArray[np.float64], change: NDArray[np.float64]) -> None:
        curvature = _dot(step, change)
        if curvature > 0:
            self.made.append((step, change, curvature))

    def direction(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where to go from a point with this gradient (the two-loop recursion)."""
        direction = -gradient
        shares = []
        for step, change, curvature in reversed(self.made):
            share = _dot(step, direction) / curvature
            direction -= share * change
            shares.append(share)
        if self.made:
            _, change, curvature = self.made[-1]
            direction *= curvature / _dot(change, change)
        for (step, change, curvature), share in zip(self.made, reversed(shares), strict=True):
            direction += (share - _dot(change, direction) / curvature) * step
        return direction


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The sum of products, in one order however many threads there are."""
    return float(np.einsum("ij,ij->", a, b))
