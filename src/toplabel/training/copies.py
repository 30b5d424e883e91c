"""Features of images in; which of them are copies of one another, or nearly so, out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.notices import warn
from toplabel.training.data import check_counts
from toplabel.training.options import MIN_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

NEAR = 0.97
"""Cosine of features above which two images are near-copies: the same scene, a crop, a resize."""

_SPREAD = 0.5
"""One less the mean cosine of two images, where `NEAR` holds as it is: photos have 0.5 or more.
Where all images are more alike, as X-rays and parts on a belt are, near-copies must be nearer in
proportion."""

_BLOCK = 1024


def group_copies(
    features: NDArray[np.float32], targets: NDArray[np.int64], names: Sequence[str]
) -> NDArray[np.int64]:
    """The group of each image, as `find_groups`, such that each class has 3 or more.

    In a class whose images are all nearly alike only copies count as such, with a warning: what is
    measured on them is what holds for images that are as alike.

    Args:
        features: float32 (N, D); rows are equal where the pixels are.
        targets: int (N,), the class of each.
        names: K.

    Raises:
        UsageError: A class has too few different images.
    """
    same = [row.tobytes() for row in features]
    groups = find_groups(features, same=same)
    alike = [index for index, count in _counts(targets, groups).items() if count < MIN_IMAGES]
    if not alike:
        return groups
    exact = find_groups(features, same=same, near=np.zeros(len(features), np.bool_))
    counts = {names[index]: count for index, count in _counts(targets, exact).items()}
    check_counts(counts, what="different images")
    listed = ", ".join(repr(names[index]) for index in alike[:4]) + ", ..." * (len(alike) > 4)
    warn(
        f"the images of {listed} are nearly copies of one another: the accuracy holds for images"
        " that are as alike, and may be lower on others"
    )
    return find_groups(features, same=same, near=~np.isin(targets, alike))


def _counts(targets: NDArray[np.int64], groups: NDArray[np.int64]) -> dict[int, int]:
    """How many groups each class has."""
    pairs = set(zip(targets.tolist(), groups.tolist(), strict=True))
    return dict(sorted(Counter(target for target, _ in pairs).items()))


def find_groups(
    features: NDArray[np.float32],
    *,
    same: Sequence[object] = (),
    near: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """The group of each image: int (N,), numbered from 0 in the order of their first images.

    Two images are in one group where they are copies, near-copies, or linked by others that are.
    Exact: every pair is compared, a block of 1,024 x 1,024 at a time, so that memory beyond the
    features is 30 MB however many there are; 50,000 images of 1,280 features take about 25
    CPU-seconds.

    Args:
        features: float32 (N, D).
        same: N keys, equal for images that are the same to the byte or pixel; None where unknown.
        near: bool (N,), which images near-copies are looked for among; None: all.
    """
    union = _Union(len(features))
    first: dict[object, int] = {}
    for index, key in enumerate(same):
        if key is not None:
            union.join(first.setdefault(key, index), index)
    for one, other in near_pairs(features) if near is None or near.any() else ():
        if near is None or (near[one] and near[other]):
            union.join(one, other)
    return union.groups()


def near_pairs(features: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Each pair of images whose features are nearly parallel; the first is before the second.

    Args:
        features: float32 (N, D).
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features, dtype=np.float64))
    scale = (1 / np.maximum(lengths, 1e-12)).astype(np.float32)[:, None]
    near = _threshold(features, scale)
    count = len(features)
    for start in range(0, count, _BLOCK):
        rows = features[start : start + _BLOCK] * scale[start : start + _BLOCK]
        for left in range(start, count, _BLOCK):
            cosines = rows @ (features[left : left + _BLOCK] * scale[left : left + _BLOCK]).T
            for row, column in zip(*np.nonzero(cosines > near), strict=True):
                if start + row < left + column:
                    yield start + int(row), left + int(column)


def _threshold(features: NDArray[np.float32], scale: NDArray[np.float32]) -> float:
    """The cosine of near-copies among these images."""
    count = len(features)
    total = np.zeros(features.shape[1])
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        total += (features[block] * scale[block]).sum(axis=0, dtype=np.float64)
    mean_cosine = (float(total @ total) - count) / max(1, count * (count - 1))
    spread = min(1.0, max(0.0, 1 - mean_cosine) / _SPREAD)
    return 1 - (1 - NEAR) * spread


class _Union:
    """Sets of numbers that are joined two by two (union-find)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parents[max(one, other)] = min(one, other)

    def groups(self) -> NDArray[np.int64]:
        roots = np.array([self._root(one) for one in range(len(self._parents))], np.int64)
        return np.asarray(np.unique(roots, return_inverse=True)[1], np.int64)

    def _root(self, one: int) -> int:
        parents = self._parents
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one
