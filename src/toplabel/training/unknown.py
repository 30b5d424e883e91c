"""Features of training images in; what tells that another image is unlike all of them out."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from toplabel.bundle.unknown import Memory, UnknownDetector, nearest
from toplabel.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 5
MOST_KEPT = 1000
"""Images that are kept of any number: a photo costs 0.1 ms against them."""

MOST_BYTES = 2500
"""That a training image may take in the bundle, on average."""

_MOST_LEFT_OUT = 50  # classes, each in turn
_MOST_QUERIES = 2000  # images that these are measured on
_BLOCK = 256


def fit_unknown(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    *,
    false_alarm: float = 0.05,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> UnknownDetector:
    """A detector of images that are unlike the training images.

    The distance of an image is the mean one to the 5 nearest of those that are kept, which are
    drawn at random, class by class: so all others are as far from them as new photos of the same
    kind, and the threshold is the distance that only so many exceed (of those that are kept, each
    without itself).

    Args:
        features: float32 (N, D), of the training images.
        targets: int (N,), their classes.
        false_alarm: The share of photos like these that may be flagged, in (0, 0.5].
        seed: Chooses which images are kept, where there are more than 1,000.
        groups: int (N,), equal for copies of one image, which are no neighbours of each other.

    Raises:
        UsageError: The rate is none, or there are fewer than two images that are no copies.
    """
    if not 0 < false_alarm <= 0.5:
        raise UsageError(f"got unknown={false_alarm!r}; expected a share above 0, at most 0.5")
    groups = np.arange(len(features)) if groups is None else groups
    kept = choose_kept(targets, groups, features.shape[1], seed)
    if len(kept) < 2:
        raise UsageError("got a single image, or copies of it; unknown images need two at least")
    memory = Memory.of(features[kept], targets[kept])
    distances = np.empty((len(features), len(kept)), np.float32)
    for start in range(0, len(features), _BLOCK):
        distances[start : start + _BLOCK] = memory.distances(features[start : start + _BLOCK])
    distances[groups[:, None] == groups[kept]] = np.inf
    neighbours = min(NEIGHBOURS, len(kept) - 1)
    return UnknownDetector(
        threshold=threshold_for(nearest(distances, neighbours), false_alarm),
        neighbours=neighbours,
        false_alarm=false_alarm,
        images=len(features),
        siblings=_siblings(distances, targets, targets[kept], neighbours, false_alarm),
        memory=memory,
    )


def choose_kept(
    targets: NDArray[np.int64], groups: NDArray[np.int64], size: int, seed: int
) -> NDArray[np.int64]:
    """The images that are kept, in order: one of each group of copies, and as many as may be.

    Each class has its share of them, and two at least.
    """
    firsts = np.sort(np.unique(groups, return_index=True)[1])
    most = min(MOST_KEPT, max(2, len(targets) * MOST_BYTES // (size + 8)))
    if len(firsts) <= most:
        return firsts
    order = np.random.default_rng(seed).permutation(firsts)
    order = order[np.argsort(targets[order], kind="stable")]  # class by class, mixed within
    counts = np.bincount(targets[order])
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rank = (within + 0.5) / counts[targets[order]]  # in [0, 1]: the same share of each class
    return np.sort(order[np.argsort(rank, kind="stable")[:most]])


def threshold_for(distances: NDArray[np.float32], false_alarm: float) -> float:
    """The distance that a new image of the same kind exceeds with that probability at most.

    As in conformal prediction: the rank counts the new one, too. Of fewer than 1 / false_alarm
    images it is the largest.
    """
    count = len(distances)
    rank = min(count, ceil((count + 1) * (1 - false_alarm)))
    finite = np.where(np.isfinite(distances), distances, 2.0)
    return max(float(np.sort(finite)[rank - 1]), float(np.finfo(np.float32).eps))


def _siblings(
    distances: NDArray[np.float32],
    targets: NDArray[np.int64],
    kept_targets: NDArray[np.int64],
    neighbours: int,
    false_alarm: float,
) -> float | None:
    """The mean share of a class that is flagged where the detector knows the others alone."""
    classes = np.unique(targets)
    if len(classes) < 2:
        return None
    step = max(1, ceil(len(targets) / _MOST_QUERIES))
    distances, targets = distances[::step], targets[::step]
    shares = []
    for left_out in classes[:: max(1, ceil(len(classes) / _MOST_LEFT_OUT))]:
        own, others = targets == left_out, kept_targets != left_out
        if not own.any() or others.sum() <= neighbours:
            continue
        found = nearest(distances[:, others], neighbours)
        shares.append(float((found[own] > threshold_for(found[~own], false_alarm)).mean()))
    return float(np.mean(shares)) if shares else None
