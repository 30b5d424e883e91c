"""A model's outputs in; metrics with their intervals, and the paired test of two models, out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.statistics import wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.evaluate.evaluation import Outputs
    from toplabel.labels.labels import Labels

TOP = 5
BINS = 15
"""Of equal width, for the expected calibration error (Guo et al. 2017)."""

RESAMPLES = 1000
LEVEL = 0.95
_SEED = 0
_LEAST = 1e-12
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class; `recall` and what follows are over readable images.

    `mistaken`: the wrong class that is predicted most often for its images, and how often.
    """

    index: int
    label: str
    images: int
    failed: int
    recall: float
    precision: float
    f1: float
    mistaken: tuple[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Metrics of a model on N images, M of which could be labelled.

    Intervals are percentiles of the bootstrap over images.

    Args:
        images: N.
        failed: N - M.
        top1: Accuracy over the M readable images.
        top1_of_all: Accuracy over all N; one that failed counts as wrong.
        top5: Share of the M whose class is among the five best; None where there are no more.
        macro_recall: Balanced accuracy: the mean recall of the classes that occur.
        macro_f1: The mean F1 of these classes.
        nll: Mean negative log likelihood of the true class, natural logarithm.
        brier: Mean over images of the summed squared error of all scores, in [0, 2].
        ece: Expected calibration error of the best score, over 15 bins of equal width.
        classes: Each class that occurs.
        confusions: (true index, predicted index, count), the most frequent mistakes first.
    """

    images: int
    failed: int
    top1: Estimate
    top1_of_all: Estimate
    top5: Estimate | None
    macro_recall: Estimate
    macro_f1: Estimate
    nll: Estimate
    brier: Estimate
    ece: Estimate
    classes: tuple[ClassMetrics, ...]
    confusions: tuple[tuple[int, int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = asdict(self)
        confusions = [list(one) for one in self.confusions]
        return found | {"classes": list(found["classes"]), "confusions": confusions}


def compute_metrics(outputs: Outputs, labels: Labels) -> Metrics:
    """All metrics of outputs for images of which at least one could be labelled."""
    top1, of_all, top5, recall, f1, nll, brier, ece = _bootstrap(outputs)
    confusions = _confusions(outputs.known, outputs.best)
    return Metrics(
        images=len(outputs.truth),
        failed=len(outputs.failures),
        top1=top1,
        top1_of_all=of_all,
        top5=top5 if outputs.scores.shape[1] > TOP else None,
        macro_recall=recall,
        macro_f1=f1,
        nll=nll,
        brier=brier,
        ece=ece,
        classes=_class_metrics(outputs, labels, confusions),
        confusions=confusions,
    )


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each score in [0, 1]: int (M,)."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def log_losses(scores: NDArray[np.float64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    """The negative log likelihood of each true class, natural logarithm: (M,)."""
    own = scores[np.arange(len(known)), known]
    return np.asarray(-np.log(np.clip(own, _LEAST, None)))


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[Any] | None = None
) -> float:
    """The expected calibration error over `BINS` bins; `weights` (M,) are of the images."""
    weights = np.ones(len(right)) if weights is None else weights
    gaps = np.bincount(bins_of(confidence), weights * (right - confidence), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _in_top(scores: NDArray[np.float64], known: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Whether fewer than `count` classes score higher; among equals the lower index is better."""
    own = scores[np.arange(len(known)), known][:, None]
    before = np.arange(scores.shape[1]) < known[:, None]
    better = (scores > own) | ((scores == own) & before)
    return np.asarray(better.sum(axis=1) < count)


def _brier(scores: NDArray[np.float64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    own = scores[np.arange(len(known)), known]
    return np.asarray((scores**2).sum(axis=1) - 2 * own + 1)


def _bootstrap(outputs: Outputs) -> list[Estimate]:
    """All metrics, in the order of `_WeightedMetrics`, each with its interval."""
    metrics, count = _WeightedMetrics(outputs), len(outputs.truth)
    chance = np.random.default_rng(_SEED)
    resampled = []
    for _ in range(RESAMPLES):
        images = chance.integers(count, size=count)
        resampled.append(metrics.of(np.bincount(images, minlength=count)))
    tail = 50 * (1 - LEVEL)
    # a resample may hold no readable image: its metrics are NaN
    low, high = np.nanpercentile(resampled, [tail, 100 - tail], axis=0)
    values = metrics.of(np.ones(count))
    return [Estimate(*map(float, one)) for one in zip(values, low, high, strict=True)]


class _WeightedMetrics:
    """The metrics where each image counts as often as its weight says."""

    def __init__(self, outputs: Outputs) -> None:
        known, best, scores = outputs.known, outputs.best, outputs.scores
        right = best == known
        self._readable = outputs.readable
        self._right_of_all = outputs.right.astype(np.float64)
        self._means = np.stack(
            [right, _in_top(scores, known, TOP), log_losses(scores, known), _brier(scores, known)]
        ).astype(np.float64)  # (4, M)
        self._confidence, self._right = scores.max(axis=1), right
        classes, self._known = np.unique(known, return_inverse=True)
        self._best = np.searchsorted(classes, best)
        self._best[~np.isin(best, classes)] = len(classes)  # a class that does not occur
        self._count = len(classes)

    def of(self, every: NDArray[Any]) -> list[float]:
        """All metrics, with a weight for each of the N images."""
        weights = every[self._readable]
        total = weights.sum()
        if not total:
            return [np.nan, 0.0, *[np.nan] * 6]
        top1, top5, nll, brier = self._means @ weights / total
        recall, f1 = self._of_classes(weights)
        ece = calibration_error(self._confidence, self._right, weights)
        of_all = float(self._right_of_all @ every / every.sum())
        return [top1, of_all, top5, recall, f1, nll, brier, ece]

    def _of_classes(self, weights: NDArray[Any]) -> tuple[float, float]:
        """Mean recall and mean F1 of the classes with a weight above 0."""
        size = self._count
        hits = np.bincount(self._known, weights * self._right, size)
        true = np.bincount(self._known, weights, size)
        predicted = np.bincount(self._best, weights, size + 1)[:size]
        occurs = true > 0
        hits, true, predicted = hits[occurs], true[occurs], predicted[occurs]
        return float((hits / true).mean()), float((2 * hits / (true + predicted)).mean())


def _class_metrics(
    outputs: Outputs, labels: Labels, confusions: tuple[tuple[int, int, int], ...]
) -> tuple[ClassMetrics, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    occurring = np.unique(outputs.truth)
    precision, recall, f1, _ = precision_recall_fscore_support(
        outputs.known, outputs.best, labels=occurring, zero_division=0.0
    )
    # the rarest mistakes first: of each class the most frequent one stays
    mistaken = {true: (labels[best], count) for true, best, count in reversed(confusions)}
    failed = np.bincount(outputs.truth[~outputs.readable], minlength=len(labels))
    total = np.bincount(outputs.truth, minlength=len(labels))
    return tuple(
        ClassMetrics(
            index=int(index),
            label=labels[int(index)],
            images=int(total[index]),
            failed=int(failed[index]),
            recall=float(recall[place]),
            precision=float(precision[place]),
            f1=float(f1[place]),
            mistaken=mistaken.get(int(index)),
        )
        for place, index in enumerate(occurring)
    )


def _confusions(
    known: NDArray[np.int64], best: NDArray[np.int64]
) -> tuple[tuple[int, int, int], ...]:
    wrong = known != best
    pairs, counts = np.unique(np.stack([known[wrong], best[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple((int(pairs[i][0]), int(pairs[i][1]), int(counts[i])) for i in order)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Model b against model a on the same images; one that could not be labelled counts as wrong.

    Args:
        only_a: Images that only a labels correctly.
        only_b: Images that only b labels correctly.
        both: Images that both do.
        neither: Images that neither does.
        difference: b's accuracy less a's, in [-1, 1], with a Newcombe (1998) interval of 95 %.
        p: Of McNemar's exact test that they are equally accurate, two-sided.
    """

    only_a: int
    only_b: int
    both: int
    neither: int
    difference: Estimate
    p: float

    def __str__(self) -> str:
        change = self.difference
        verdict = "no significant difference"
        if self.p < _SIGNIFICANT:
            verdict = "the second is better" if change.value > 0 else "the second is worse"
        return (
            f"{verdict}: {100 * change.value:+.1f} points ({100 * change.low:+.1f} to"
            f" {100 * change.high:+.1f}); only the first is right on {self.only_a} images, only the"
            f" second on {self.only_b} (McNemar's exact test, p = {self.p:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def paired_test(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> PairedTest:
    """Compare two models by McNemar's exact test.

    Args:
        a: Shape (N,): whether the first model is right on each image.
        b: Shape (N,): whether the second is.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    p = float(binomtest(only_b, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return PairedTest(only_a, only_b, both, neither, _newcombe(both, only_a, only_b, neither), p)


def _newcombe(both: int, only_a: int, only_b: int, neither: int) -> Estimate:
    """Difference of paired proportions: Newcombe's method 10, without continuity correction."""
    a, b, n = both + only_a, both + only_b, both + only_a + only_b + neither
    low_a, high_a = wilson_interval(a, n)
    low_b, high_b = wilson_interval(b, n)
    product = a * (n - a) * b * (n - b)
    phi = 0.0 if product == 0 else (both * neither - only_a * only_b) / product**0.5

    def width(down: float, up: float) -> float:
        return float((down**2 - 2 * phi * down * up + up**2) ** 0.5)

    difference = (b - a) / n
    return Estimate(
        difference,
        difference - width(b / n - low_b, high_a - a / n),
        difference + width(high_b - b / n, a / n - low_a),
    )
