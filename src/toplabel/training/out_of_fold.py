"""Features, classes and folds in; what heads fitted without an image say of it, out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.statistics import wilson_interval
from toplabel.analysis.evaluate.metrics import Estimate
from toplabel.analysis.temperature import fit_temperature, has_best_temperature, mean_log_loss
from toplabel.training.head import STRENGTHS, Head, fit_head
from toplabel.training.result import CurvePoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

USUAL_STRENGTH = 0.1
FRACTIONS = (1 / 8, 1 / 4, 1 / 2)
"""Of the images that the learning curve is measured at, before all of them."""

_SLOW, _LARGE = 1e9, 1e10
"""Images x classes x features: above the first it is said that it takes its time; above the second
one strength is tried, and there is no curve."""

_SPARED = 0.1
"""The share of the error that a quarter more images spare, where it falls as their square root."""

_FEWEST_ON_CURVE = 4  # images a class, on average
_FLAT = 1e-3  # of an error's exponent: below, more images bring nothing


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """Changed copies of images, fitted on beside them and predicted never.

    Args:
        features: float32 (M, D).
        images: int (M,), the index of the image that each is a copy of.
    """

    features: NDArray[np.float32]
    images: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Images as a head is fitted on them.

    Args:
        features: float32 (N, D).
        targets: int (N,), the class of each.
        groups: int (N,), equal for copies and near-copies.
        folds: int (N,), the fold of each, from 0.
        classes: K.
        weights: (N,), how often each counts.
        variants: Copies, which share the weight of their image with it and are fitted on where it
            is.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    groups: NDArray[np.int64]
    folds: NDArray[np.int64]
    classes: int
    weights: NDArray[np.float64] | None = None
    variants: Variants | None = None

    @property
    def counts(self) -> NDArray[np.float64]:
        """How many images each class has, as they count: (K,)."""
        return np.bincount(self.targets, self.weights, self.classes).astype(np.float64)

    @property
    def work(self) -> float:
        """Images x classes x features: what a step of a fit grows with."""
        return float(self.features.size) * self.classes

    @property
    def is_large(self) -> bool:
        """Whether a fit takes many minutes."""
        return self.work > _LARGE

    def fit(
        self,
        strength: float,
        *,
        among: NDArray[np.bool_] | None = None,
        start: Head | None = None,
        rough: bool = False,
    ) -> Head:
        """The head that is fitted on some of the images, or on all; see `fit_head`."""
        chosen = np.ones(len(self.targets), np.bool_) if among is None else among
        features, targets, weights = self._chosen(chosen)
        return fit_head(
            features,
            targets,
            classes=self.classes,
            strength=strength,
            weights=weights,
            start=start,
            rough=rough,
        )

    def _chosen(
        self, chosen: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64] | None]:
        """Features, targets and weights of the chosen images and their variants."""
        features, targets, variants = self.features, self.targets, self.variants
        if variants is None:
            weights = None if self.weights is None else self.weights[chosen]
            return features[chosen], targets[chosen], weights
        taken = chosen[variants.images]
        images = variants.images[taken]
        shares = 1 / (1 + np.bincount(variants.images, minlength=len(targets)))
        if self.weights is not None:
            shares = shares * self.weights
        return (
            np.concatenate([features[chosen], variants.features[taken]]),
            np.concatenate([targets[chosen], targets[images]]),
            np.concatenate([shares[chosen], shares[images]]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Logits of each image by a head that was fitted without its fold.

    Args:
        logits: float32 (N, K).
        strength: C of these heads.
        temperature: That makes these logits most likely.
        heads: Of each fold, to start others with.
    """

    logits: NDArray[np.float32]
    strength: float
    temperature: float
    heads: tuple[Head, ...]


def predict_out_of_fold(examples: Examples) -> OutOfFold:
    """Out-of-fold logits at the strength that makes them most likely, once they are calibrated."""
    if examples.work > _SLOW:
        images = len(examples.targets)
        logger.info("fitting %s classes to %s images", f"{examples.classes:,}", f"{images:,}")
    strengths = (USUAL_STRENGTH,) if examples.is_large else STRENGTHS
    shape = (len(strengths), len(examples.targets), examples.classes)
    logits = np.empty(shape, np.float32)
    heads: list[list[Head]] = [[] for _ in strengths]
    for fold in range(int(examples.folds.max()) + 1):
        inside, head = examples.folds == fold, None
        for place, strength in enumerate(strengths):
            head = examples.fit(strength, among=~inside, start=head, rough=True)
            logits[place, inside] = head.logits(examples.features[inside])
            heads[place].append(head)
    temperatures = [temperature_of(one, examples.targets) for one in logits]
    losses = [
        mean_log_loss(one, examples.targets, temperature=temperature)
        for one, temperature in zip(logits, temperatures, strict=True)
    ]
    best = int(np.argmin(losses))
    return OutOfFold(logits[best], strengths[best], temperatures[best], tuple(heads[best]))


def temperature_of(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The most likely temperature; 1 where none is more likely than all others."""
    return fit_temperature(logits, targets) if has_best_temperature(logits, targets) else 1.0


def accuracy_interval(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Estimate:
    """The accuracy with its 95 % interval (Wilson), wider where groups are right or wrong together.

    Copies say the same thing twice: their number is divided by the design effect, the variance of
    the sums of groups over that of single images. And the model is fitted on all images, not on
    four fifths of them, so that the interval reaches a little higher.

    Args:
        right: bool (N,), whether each is predicted right.
        groups: int (N,), the group of each.
    """
    accuracy = float(right.mean())
    residuals = right - accuracy
    alone = float((residuals**2).sum())
    together = float((np.bincount(groups, residuals) ** 2).sum())
    effect = max(1.0, together / alone) if alone else len(right) / len(np.unique(groups))
    count = len(right) / effect
    low, high = wilson_interval(accuracy * count, count)
    return Estimate(accuracy, low, min(1.0, high + _SPARED * (1 - accuracy)))


def learning_curve(
    examples: Examples, found: OutOfFold, shift: NDArray[np.float32], *, seed: int
) -> tuple[CurvePoint, ...]:
    """The out-of-fold accuracy with an eighth, a quarter and half of the images to fit on.

    In each fold's fit, each class keeps that share of its groups, at least two, chosen by the seed;
    larger shares hold the smaller ones.

    Args:
        examples: The images.
        found: What all of them give: strength and temperature stay.
        shift: (K,), what the prior adds to calibrated logits.
        seed: Of the choice.
    """
    count = len(examples.targets)
    fractions = [one for one in FRACTIONS if one * count >= _FEWEST_ON_CURVE * examples.classes]
    if examples.is_large:
        fractions = []
    rank = _ranks(examples, seed)
    points = []
    for fraction in fractions:
        right = np.zeros(count, np.bool_)
        for fold in range(int(examples.folds.max()) + 1):
            inside = examples.folds == fold
            among = _keep(rank, examples.targets, ~inside, fraction)
            head = examples.fit(found.strength, among=among, rough=True)
            logits = head.logits(examples.features[inside])
            best = (logits / found.temperature + shift).argmax(axis=1)
            right[inside] = best == examples.targets[inside]
        estimate = accuracy_interval(right, examples.groups)
        images = round(fraction * count)
        points.append(CurvePoint(images, estimate.value, estimate.low, estimate.high))
    return tuple(points)


def _ranks(examples: Examples, seed: int) -> NDArray[np.int64]:
    """A number for each image, the same within a group: the order in which groups are taken."""
    order = np.random.default_rng(seed).permutation(int(examples.groups.max()) + 1)
    return np.asarray(order[examples.groups])


def _keep(
    rank: NDArray[np.int64],
    targets: NDArray[np.int64],
    among: NDArray[np.bool_],
    fraction: float,
) -> NDArray[np.bool_]:
    """The images of each class's first groups."""
    kept = np.zeros(len(targets), np.bool_)
    for index in np.unique(targets[among]):
        own = among & (targets == index)
        ranks = np.unique(rank[own])
        last = ranks[min(len(ranks), max(2, round(fraction * len(ranks)))) - 1]
        kept |= own & (rank <= last)
    return kept


def project(curve: tuple[CurvePoint, ...]) -> CurvePoint | None:
    """What twice the images of a curve's last point would reach.

    The error falls as a power of the number of images (Hestness et al. 2017); its exponent is
    fitted to the points, the last ones weighing most, and never below 0: more photos of the same
    kind do no harm. The interval is that of today, and half of what the power promises on top.
    None where the curve has less than three points, or no error is left.

    Args:
        curve: Points of rising numbers of images.
    """
    last = curve[-1]
    errors = np.array([1 - point.accuracy for point in curve])
    if len(curve) < 3 or errors[-1] <= 0 or (errors <= 0).any():
        return None
    sizes = np.log([point.images / last.images for point in curve])
    weights = np.array([point.images for point in curve], np.float64)
    slope = np.polynomial.polynomial.polyfit(sizes, np.log(errors), 1, w=np.sqrt(weights))[1]
    exponent = max(0.0, -float(slope))
    gain = float(errors[-1]) * (1 - 2**-exponent) if exponent > _FLAT else 0.0
    return CurvePoint(
        2 * last.images,
        last.accuracy + gain,
        min(1.0, last.low + gain / 2),
        min(1.0, last.high + gain * (1.5 if last.high + 1.5 * gain < 1 else 1)),
    )
