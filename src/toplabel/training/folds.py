"""Classes and groups of images in; folds, in which each group is whole, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
MIN_FOLDS = 3


def count_folds(targets: NDArray[np.int64], groups: NDArray[np.int64]) -> int:
    """How many folds there can be: 5, or as many as the smallest class has groups, at least 3.

    Args:
        targets: int (N,), the class of each image.
        groups: int (N,), the group of each: images that belong into one fold.
    """
    pairs = np.unique(np.stack([targets, groups], axis=1), axis=0)
    smallest = int(np.unique(pairs[:, 0], return_counts=True)[1].min())
    return max(MIN_FOLDS, min(FOLDS, smallest))


def divide(
    targets: NDArray[np.int64], groups: NDArray[np.int64], *, folds: int, seed: int = 0
) -> NDArray[np.int64]:
    """The fold of each image: int (N,), from 0 to folds - 1.

    A group is in one fold, and each class is spread over the folds as evenly as its groups let it:
    with two groups or more, no fold holds all of a class. Large groups are placed first, each
    where its classes are rarest so far; equals in an order that the seed chooses.

    Args:
        targets: int (N,), the class of each image.
        groups: int (N,), the group of each.
        folds: How many.
        seed: Of the order.
    """
    _, groups = np.unique(groups, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    mixed = np.random.default_rng(seed).permutation(len(members))
    sizes = np.array([len(one) for one in members])
    chosen = np.empty(len(targets), np.int64)
    images = np.bincount(targets).astype(np.float64)  # of each class
    filled = np.zeros((folds, len(images)))
    for place in mixed[np.argsort(-sizes[mixed], kind="stable")]:
        classes, counts = np.unique(targets[members[place]], return_counts=True)
        shares = (filled[:, classes] / images[classes]) @ counts
        fold = int(np.lexsort((filled.sum(axis=1), shares))[0])
        filled[fold, classes] += counts
        chosen[members[place]] = fold
    return chosen
