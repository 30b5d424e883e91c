"""How near to a boundary a cheap answer is not to be believed: found on one half of some images.

Cheap logits differ from the exact ones as noise does. What matters is by how much the *distances*
of an answer from its boundaries change: between the first two classes, to any threshold, of a class
of its own from the threshold, and of features from what tells unknown images. The margin is a
multiple of the root mean square of these changes on one half, so that every image has its say, not
only the few whose label changed; and it is above the widest of those that did. Then the other half
is looked at: one changed answer beyond the margin, and there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.bundle.margin import Margin
from toplabel.bundle.unknown import unit_rows
from toplabel.inference.scoring import Question, best_log_odds, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation
    from toplabel.bundle.unknown import UnknownDetector

LEAST_IMAGES = 200
"""For a margin; half of them check it: with 100, at most 3 % of labels change."""

DEVIATIONS = 3.5
"""Of the changes of distances, to the margin.

Of 300 ways to halve 1,458 photos under an int8 EfficientNet-Lite0, a margin of 3.5 let no changed
label pass among 700 held-out photos when it was found on 250 or 500, and in 2 of 100 ways when it
was found on 100; so the fewer there are, the wider it is (`_margin_of`). 1.25 times the widest gap
between the first two of a label that changed, alone, let one pass in 40 to 80 of 100 ways.
"""

OF_WIDEST = 1.25
"""Times the widest distance at which an answer changed is the least margin."""

_CLASSES = 10  # of independent classes so many, the best ones, are looked at


def fit_margin(
    exact: NDArray[np.float32],
    reduced: NDArray[np.float32],
    question: Question,
    *,
    exact_features: NDArray[np.float32] | None = None,
    reduced_features: NDArray[np.float32] | None = None,
    unknown: UnknownDetector | None = None,
) -> Margin | str:
    """The margin of cheap answers; or, in one line, why there is none that holds.

    The same images give the same margin.

    Args:
        exact: Logits of N images, float32 (N, K), as the exact way gives them.
        reduced: The same of the cheap way.
        question: What is asked of them. The margin holds for other thresholds, too.
        exact_features, reduced_features: Float32 (N, D), where they are known.
        unknown: What tells unknown images by them, where the model can.
    """
    usable = np.isfinite(exact.max(axis=1)) & np.isfinite(reduced.max(axis=1))
    order = np.random.Generator(np.random.PCG64(16)).permutation(np.flatnonzero(usable))
    if len(order) < LEAST_IMAGES:
        return f"{len(order):,} images have an answer; a margin needs {LEAST_IMAGES}"
    pairs = _Pairs(exact, reduced, question)
    found, checked = order[: len(order) // 2], order[len(order) // 2 :]
    logits = _margin_of(pairs.changes(found), pairs.widest(found))
    if not np.isfinite(logits):
        return "the two ways leave out different classes, or all but one"
    changed, again = pairs.passed(checked, logits)
    features = None
    if exact_features is not None and reduced_features is not None:
        distances = _Distances.of(exact_features, reduced_features, unknown)
        features = _margin_of([distances.changes[found]], distances.widest(found))
        crossed, near = distances.passed(checked, features)
        changed, again = (changed & ~near) | (crossed & ~again), again | near
    if changed.any():
        return (
            f"of {len(checked):,} images that it was checked on, {int(changed.sum()):,} have"
            f" another answer beyond the margin of {logits:.2g}"
        )
    return Margin(
        logits=logits,
        features=features,
        images=len(checked),
        changed=0,
        again=float(again.mean()),
    )


def _margin_of(changes: Sequence[NDArray[np.float64]], widest: float) -> float:
    """A multiple of their root mean square, upwards of what so few may have come from.

    Args:
        changes: Of each kind of boundary, a row for each image; the kind that changes most counts.
        widest: The farthest distance at which an answer changed.
    """
    margin = OF_WIDEST * widest
    for kind in changes:
        spread = float(np.sqrt(np.mean(np.square(kind)))) if kind.size else 0.0
        upper = 1 + 2 / np.sqrt(2 * max(1, len(kind)))  # two standard errors of a spread
        margin = float(np.maximum(margin, DEVIATIONS * upper * spread))  # NaN stays NaN
    return margin


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Exact and cheap logits of the same images, (N, K) each."""

    exact: NDArray[np.float32]
    reduced: NDArray[np.float32]
    question: Question

    def changes(self, rows: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """By how much distances from boundaries change, (n, 1 or c) of each kind of boundary."""
        kinds = [self._of_classes, self._of_gap] if self.question.multi_label else [self._of_best]
        pairs = [(self.exact[row], self.reduced[row]) for row in rows]
        return [np.array([change(*pair) for pair in pairs]) for change in kinds]

    def widest(self, rows: NDArray[np.int64]) -> float:
        """The farthest that a cheap answer was from a boundary, of those that are not the exact."""
        asked = self.question
        wrong = (row for row in rows if not self._same(row))
        return max((asked.distance(self.reduced[row]) for row in wrong), default=0.0)

    def passed(
        self, rows: NDArray[np.int64], margin: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whose answer changed beyond the margin; and whose is within it."""
        near = np.array([self.question.distance(self.reduced[row]) < margin for row in rows])
        wrong = np.array([not self._same(row) for row in rows])
        return wrong & ~near, near

    def _same(self, row: int) -> bool:
        return self.question.answer(self.exact[row]) == self.question.answer(self.reduced[row])

    def _of_best(self, exact: NDArray[np.float32], reduced: NDArray[np.float32]) -> list[float]:
        """Of exclusive classes: of the first two's gap or the best one's log odds, the larger."""
        asked, one = self.question, len(reduced) == 1
        first, second = (0, 0) if one else np.argsort(reduced)[[-1, -2]]
        gaps = [_log(row, asked.activation) for row in (exact, reduced)]
        change = abs(float((gaps[0][first] - gaps[0][second]) - (gaps[1][first] - gaps[1][second])))
        for temperature in {1.0, asked.temperature}:
            odds = [
                best_log_odds(row, activation=asked.activation, temperature=temperature)
                for row in (exact, reduced)
            ]
            if np.isfinite(odds).all():
                change = max(change, temperature * abs(odds[0] - odds[1]))
        return [change]

    def _of_classes(self, exact: NDArray[np.float32], reduced: NDArray[np.float32]) -> list[float]:
        """Of independent classes: of the log odds of each of the best ones."""
        best = np.argsort(reduced)[-_CLASSES:]
        return [abs(change) for change in self._by_class(exact, reduced, best)]

    def _of_gap(self, exact: NDArray[np.float32], reduced: NDArray[np.float32]) -> list[float]:
        """Of independent classes: of how far the first two are apart, which decides the label."""
        first, *second = self._by_class(exact, reduced, np.argsort(reduced)[:-3:-1])
        return [abs(first - other) for other in second]

    def _by_class(
        self,
        exact: NDArray[np.float32],
        reduced: NDArray[np.float32],
        classes: NDArray[np.int64],
    ) -> list[float]:
        """By how much the log odds of these independent classes change."""
        pairs = zip(exact[classes].tolist(), reduced[classes].tolist(), strict=True)
        if self.question.activation == "none":
            return [log_odds(before) - log_odds(after) for before, after in pairs]
        # A class that both leave out has minus infinity twice, whose difference is no number.
        return [0.0 if before == after else before - after for before, after in pairs]


def _log(values: NDArray[np.float32], activation: Activation) -> NDArray[np.float64]:
    """Logits as they are; the logarithm of what are scores already."""
    values64 = values.astype(np.float64)
    return np.log(np.clip(values64, 1e-12, None)) if activation == "none" else values64


@dataclass(frozen=True, slots=True)
class _Distances:
    """How far features lie from what tells unknown images, exact and cheap, (N,) each.

    Without a detector, `changes` is the most that any could change: how far the two lie apart.
    """

    changes: NDArray[np.float64]
    reduced: NDArray[np.float32] | None = None
    is_unknown: Callable[[float], bool] = bool
    threshold: float = 0.0
    exact: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        exact: NDArray[np.float32],
        reduced: NDArray[np.float32],
        unknown: UnknownDetector | None,
    ) -> _Distances:
        if unknown is None:
            apart = np.linalg.norm(unit_rows(exact) - unit_rows(reduced), axis=1)
            return cls(apart.astype(np.float64))
        before, after = unknown.distance(exact), unknown.distance(reduced)
        changes = np.abs(before.astype(np.float64) - after)
        return cls(changes, after, unknown.is_unknown, unknown.threshold, before)

    def widest(self, rows: NDArray[np.int64]) -> float:
        """The farthest that one was from the threshold, of those on the wrong side of it."""
        if self.reduced is None:
            return 0.0
        return float(np.abs(self.reduced[rows] - self.threshold)[self._wrong(rows)].max(initial=0))

    def passed(
        self, rows: NDArray[np.int64], margin: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which are on the wrong side of the threshold beyond the margin; and which within it."""
        if self.reduced is None:
            none = np.zeros(len(rows), np.bool_)
            return none, none
        near = np.abs(self.reduced[rows] - self.threshold) < margin
        return self._wrong(rows) & ~near, near

    def _wrong(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        assert self.exact is not None
        assert self.reduced is not None
        pairs = zip(self.exact[rows], self.reduced[rows], strict=True)
        return np.array([self.is_unknown(float(e)) != self.is_unknown(float(r)) for e, r in pairs])
