"""Measures: answers in, how good they are out, with intervals. The metrics are scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.evaluate.outputs import Answers
    from toplabel.labels.labels import Labels

TOP = 5
BINS = 15
"""Of equal width, for the expected calibration error (Guo et al. 2017)."""

RESAMPLES = 1000
LEVEL = 0.95
_SEED = 0
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure and its bootstrap interval (95 %, percentiles over images)."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain data."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """How one class does. `recall` and what follows are of the images that could be labelled.

    `mistaken`: the class that its images are most often taken for, and how often.
    """

    index: int
    label: str
    images: int
    failed: int
    recall: float
    precision: float
    f1: float
    mistaken: tuple[str, int] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """How good a model is on N images, M of which could be labelled.

    Args:
        images: N.
        failed: N - M.
        top1: Share of the M whose label is right.
        top1_of_all: Share of the N; what failed counts as wrong.
        top5: Share of the M whose class is among the five best; None where there are no more.
        macro_recall: Mean recall of the classes that occur (balanced accuracy).
        macro_f1: Mean F1 of the same.
        nll: Mean negative log likelihood of the true class, natural logarithm.
        brier: Mean over images of the summed squared error of all scores, in [0, 2].
        ece: Expected calibration error of the best score, over 15 bins of equal width.
        classes: Each class that occurs.
        confusions: (true index, predicted index, count), the most frequent mistakes first.
    """

    images: int
    failed: int
    top1: Measure
    top1_of_all: Measure
    top5: Measure | None
    macro_recall: Measure
    macro_f1: Measure
    nll: Measure
    brier: Measure
    ece: Measure
    classes: tuple[ClassMeasures, ...]
    confusions: tuple[tuple[int, int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        found: dict[str, Any] = {"images": self.images, "failed": self.failed}
        for name in ("top1", "top1_of_all", "top5", "macro_recall", "macro_f1"):
            measure = getattr(self, name)
            found[name] = None if measure is None else measure.to_dict()
        for name in ("nll", "brier", "ece"):
            found[name] = getattr(self, name).to_dict()
        found["classes"] = [one.to_dict() for one in self.classes]
        found["confusions"] = [list(one) for one in self.confusions]
        return found


def measure(answers: Answers, labels: Labels) -> Measures:
    """All measures of some answers; at least one image could be labelled."""
    top1, of_all, top5, recall, f1, nll, brier, ece = _bootstrapped(answers)
    return Measures(
        images=len(answers.truth),
        failed=len(answers.failures),
        top1=top1,
        top1_of_all=of_all,
        top5=top5 if answers.scores.shape[1] > TOP else None,
        macro_recall=recall,
        macro_f1=f1,
        nll=nll,
        brier=brier,
        ece=ece,
        classes=_per_class(answers, labels),
        confusions=_confusions(answers.known, answers.best),
    )


def _in_top(scores: NDArray[np.float64], known: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Whether fewer than `count` classes score higher; among equals the lower index is better."""
    own = scores[np.arange(len(known)), known][:, None]
    before = np.arange(scores.shape[1]) < known[:, None]
    better = (scores > own) | ((scores == own) & before)
    return np.asarray(better.sum(axis=1) < count)


def _brier(scores: NDArray[np.float64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    own = scores[np.arange(len(known)), known]
    return np.asarray((scores**2).sum(axis=1) - 2 * own + 1)


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each score in [0, 1]: int (M,)."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def surprises(scores: NDArray[np.float64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    """The negative log likelihood of each true class, natural logarithm: (M,)."""
    own = scores[np.arange(len(known)), known]
    return np.asarray(-np.log(np.clip(own, _LEAST, None)))


def calibration_error(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    weights: NDArray[Any] | None = None,
) -> float:
    """The expected calibration error over `BINS` bins; each image counts as `weights` say."""
    weights = np.ones(len(right)) if weights is None else weights
    gaps = np.bincount(bins_of(confidence), weights * (right - confidence), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _bootstrapped(answers: Answers) -> list[Measure]:
    """All figures, in the order of `_Figures`, each with its interval."""
    figures, count = _Figures(answers), len(answers.truth)
    chance = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(RESAMPLES):
        images = chance.integers(count, size=count)
        drawn.append(figures.of(np.bincount(images, minlength=count)))
    tail = 50 * (1 - LEVEL)
    # a resample may hold no image that could be labelled: its figures are NaN
    low, high = np.nanpercentile(drawn, [tail, 100 - tail], axis=0)
    values = figures.of(np.ones(count))
    return [Measure(*map(float, one)) for one in zip(values, low, high, strict=True)]


class _Figures:
    """The figures of some answers where each image counts as often as weights say."""

    def __init__(self, answers: Answers) -> None:
        known, best, scores = answers.known, answers.best, answers.scores
        right = best == known
        self._read = answers.read
        self._right_of_all = answers.right.astype(np.float64)
        self._means = np.stack(
            [right, _in_top(scores, known, TOP), surprises(scores, known), _brier(scores, known)]
        ).astype(np.float64)  # (4, M)
        self._confidence, self._right = scores.max(axis=1), right
        classes, self._known = np.unique(known, return_inverse=True)
        self._best = np.searchsorted(classes, best)
        self._best[~np.isin(best, classes)] = len(classes)  # a class that does not occur
        self._count = len(classes)

    def of(self, every: NDArray[Any]) -> list[float]:
        """All figures, where the N images count so often."""
        weights = every[self._read]
        total = weights.sum()
        if not total:
            return [np.nan, 0.0, *[np.nan] * 6]
        top1, top5, nll, brier = self._means @ weights / total
        recall, f1 = self._of_classes(weights)
        ece = calibration_error(self._confidence, self._right, weights)
        of_all = float(self._right_of_all @ every / every.sum())
        return [top1, of_all, top5, recall, f1, nll, brier, ece]

    def _of_classes(self, weights: NDArray[Any]) -> tuple[float, float]:
        """Mean recall and mean F1 of the classes that these weights hold something of."""
        size = self._count
        hits = np.bincount(self._known, weights * self._right, size)
        true = np.bincount(self._known, weights, size)
        said = np.bincount(self._best, weights, size + 1)[:size]
        occurs = true > 0
        hits, true, said = hits[occurs], true[occurs], said[occurs]
        return float((hits / true).mean()), float((2 * hits / (true + said)).mean())


def _per_class(answers: Answers, labels: Labels) -> tuple[ClassMeasures, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    known, best = answers.known, answers.best
    occurring = np.unique(answers.truth)
    precision, recall, f1, _ = precision_recall_fscore_support(
        known, best, labels=occurring, zero_division=0.0
    )
    failed = np.bincount(answers.truth[~answers.read], minlength=len(labels))
    total = np.bincount(answers.truth, minlength=len(labels))
    return tuple(
        ClassMeasures(
            index=int(index),
            label=labels[int(index)],
            images=int(total[index]),
            failed=int(failed[index]),
            recall=float(recall[place]),
            precision=float(precision[place]),
            f1=float(f1[place]),
            mistaken=_mistaken(best[known == index], int(index), labels),
        )
        for place, index in enumerate(occurring)
    )


def _mistaken(best: NDArray[np.int64], index: int, labels: Labels) -> tuple[str, int] | None:
    others = best[best != index]
    if not len(others):
        return None
    counts = np.bincount(others)
    return labels[int(counts.argmax())], int(counts.max())


def _confusions(
    known: NDArray[np.int64], best: NDArray[np.int64]
) -> tuple[tuple[int, int, int], ...]:
    wrong = known != best
    pairs, counts = np.unique(np.stack([known[wrong], best[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple((int(pairs[i][0]), int(pairs[i][1]), int(counts[i])) for i in order)
