"""Unknown: which images are unlike everything that a model was trained on, by their features.

An image is unknown where it lies farther from its nearest training images than all but a few of
these lie from each other. That tells images of another kind. It does not tell another class of the
same kind: how often it does is measured by leaving out each class in turn, and said.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from toplabel._internal.platform import fork_safe
from toplabel._internal.statistics import wilson_interval
from toplabel._internal.text import is_or_are, number_of
from toplabel.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN_NAME = "unknown.npy"
"""The file of what is kept of training images, beside a program."""

EXAMPLES_NAME = "examples.npy"
"""The file of what is kept of further ones, which tell nothing but can be trained on again."""

MARGIN = 0.02
"""In distance. A scaled decode is trusted where it is farther from the threshold.

Of 155 photos whose scaled decode was compared with the full one, none changed its distance by more
than 0.008 (`scripts/measure_unknown.py`).
"""

STANDARD_ERRORS = 2.576  # of an interval of 99 %


class Memory:
    """What is kept of M training images: the direction of their features, in 8 bits a number.

    Args:
        rows: A structured array (M,) of `row`, int8 (D,): features scaled so that the largest is
            127; `scale`, float32: what makes features of it; `target`, int32: its class. Or the
            file with it, which is read when it is first asked for.
    """

    def __init__(self, rows: NDArray[np.void] | Path) -> None:
        self._rows = rows
        self._lock = fork_safe(threading.Lock())
        self._directions: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @classmethod
    def of(cls, features: NDArray[np.float32], targets: NDArray[np.int64]) -> Self:
        """Of float32 (M, D) and int (M,)."""
        count, size = features.shape
        rows = np.zeros(count, [("row", "<i1", (size,)), ("scale", "<f4"), ("target", "<i4")])
        rows["scale"] = np.abs(features).max(axis=1) / 127
        scales = np.where(rows["scale"] > 0, rows["scale"], 1)[:, None]
        rows["row"] = np.clip(np.rint(features / scales), -127, 127)
        rows["target"] = targets
        return cls(rows)

    @property
    def rows(self) -> NDArray[np.void]:
        """The structured array.

        Raises:
            BundleError: The file cannot be read, or holds something else.
        """
        if not isinstance(self._rows, Path):
            return self._rows
        try:
            with self._rows.open("rb") as file:
                rows = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise BundleError(f"cannot read {str(self._rows)!r}: {error}") from error
        names, fits = rows.dtype.names, rows.ndim == 1 and len(rows) > 0
        if names != ("row", "scale", "target") or not fits or rows["row"].dtype != np.int8:
            raise BundleError(f"{str(self._rows)!r} holds no features of training images")
        return rows

    @property
    def features(self) -> NDArray[np.float32]:
        """The features that are kept, as exactly as they are: float32 (M, D)."""
        rows = self.rows
        return np.asarray(rows["row"].astype(np.float32) * rows["scale"][:, None], np.float32)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Their classes: int (M,)."""
        return self.rows["target"].astype(np.int64)

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The distance of each of N images to each that is kept: float32 (N, M), in [0, 2].

        It is that of two points on a sphere: features differ in length as images do in contrast.

        Args:
            features: float32 (N, D).
        """
        directions, lengths = self.directions
        points = unit_rows(features)
        squares = (points * points).sum(axis=1)[:, None] + lengths
        # one image at a time: how many there are changes no bit; and no BLAS, whose threads cost
        # ten times what there is to compute
        products = np.stack([_products(directions, point) for point in points])
        return np.asarray(np.sqrt(np.maximum(squares - 2 * products, 0)), np.float32)

    @property
    def directions(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The features that are kept, scaled to length 1: float32 (M, D); and how long each is."""
        with self._lock:
            if self._directions is None:
                rows = unit_rows(self.rows["row"].astype(np.float32))
                self._directions = rows, (rows * rows).sum(axis=1)
            return self._directions

    def to_bytes(self) -> bytes:
        """The content of its file."""
        file = BytesIO()
        np.lib.format.write_array(file, self.rows, version=(1, 0), allow_pickle=False)
        return file.getvalue()

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(self.to_bytes())

    def __getstate__(self) -> NDArray[np.void] | Path:
        return self._rows

    def __setstate__(self, rows: NDArray[np.void] | Path) -> None:
        self.__init__(rows)  # type: ignore[misc]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Whether more images are unknown than of images like those of the training would be.

    Args:
        unknown: How many are, of `images`.
        images: Those that have a label.
        share: unknown / images; `low` and `high` are its interval of 99 %.
        expected: The share of images like the training's that is flagged, too.
        most_expected: Its upper limit (99 %): the threshold was chosen by so many images alone.
    """

    unknown: int
    images: int
    share: float
    low: float
    high: float
    expected: float
    most_expected: float

    @property
    def is_significant(self) -> bool:
        """Whether it is more than chance explains: the two intervals do not meet."""
        return self.low > self.most_expected

    def __str__(self) -> str:
        text = (
            f"{self.unknown:,} of {number_of(self.images, 'image')} {is_or_are(self.unknown)}"
            f" unknown ({100 * self.share:.1f} %; of"
            f" images like those of the training {100 * self.expected:.2g} % would be)"
        )
        if not self.is_significant:
            return text
        return f"{text}: these images differ from what the model was trained on"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownDetector:
    """Tells images that are unlike all that a model was trained on.

    Args:
        threshold: An image farther than this from its nearest training images is unknown: the
            mean distance to `neighbours` of them, of features scaled to length 1, in [0, 2].
        neighbours: How many.
        false_alarm: The share of photos like those of the training that are flagged too, as it was
            asked for; `expected` is what can be expected.
        images: How many images the threshold was chosen by: training images, each left out in turn;
            after all of a network was trained, those that were held out.
        siblings: The share of the photos of a class that are flagged by a detector made without
            that class, over all classes; None where there is one class.
        memory: What is kept of the training images.
    """

    threshold: float
    neighbours: int = 5
    false_alarm: float = 0.05
    images: int
    siblings: float | None = None
    memory: Memory = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("false_alarm", self.false_alarm)):
            if not (isfinite(value) and value > 0):
                raise BundleError(f"got {name} {value!r} of unknown images; expected one above 0")
        if self.neighbours < 1 or self.images < 1:
            raise BundleError("a detector of unknown images needs an image at least")

    @property
    def expected(self) -> tuple[float, float]:
        """The share of photos like the training's that is flagged, and its upper limit (99 %).

        With few training images the threshold is a rough one: from 19 up a share of 5 % can be
        kept at all.
        """
        share = max(self.false_alarm, 1 / (self.images + 1))
        return share, _interval(share * self.images, self.images)[1]

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far each image lies from its nearest training images: float32 (N,), in [0, 2].

        Args:
            features: float32 (N, D).
        """
        return nearest(self.memory.distances(features), self.neighbours)

    def drift(self, unknown: int, images: int) -> Drift:
        """How so many unknown ones among so many images compare with what can be expected."""
        expected, most = self.expected
        low, high = _interval(unknown, images)
        return Drift(
            unknown=unknown,
            images=images,
            share=unknown / images if images else 0.0,
            low=low,
            high=high,
            expected=expected,
            most_expected=most,
        )

    def is_unknown(self, distance: float) -> bool:
        """Whether an image at this distance is unknown; NaN is."""
        return not distance <= self.threshold

    def __str__(self) -> str:
        share = self.expected[0]
        text = (
            f"flags images unlike its training images ({100 * share:.2g} % of images like them,"
            f" too, measured on {self.images:,})"
        )
        if self.siblings is None:
            return text
        return f"{text}; of a class that it was not trained on it flags {100 * self.siblings:.0f} %"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; not what is kept of the images."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "memory"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], memory: Memory) -> Self:
        """The detector that `to_dict` wrote.

        Raises:
            BundleError: A value is not accepted.
            TypeError: A field is of another type, unknown, or missing.
        """
        for name, value in values.items():
            kind: Any = int if name in ("neighbours", "images") else int | float
            known = value is None and name == "siblings"
            if not known and (isinstance(value, bool) or not isinstance(value, kind)):
                raise TypeError(f"got {name}={value!r}")
        return cls(**values, memory=memory)


def in_words(facts: Mapping[str, Any]) -> str:
    """What people read of the facts in a manifest; that they are damaged, where they are."""
    try:
        return str(UnknownDetector.from_dict(facts, Memory(np.empty(0, np.void))))
    except (BundleError, TypeError):
        return f"damaged: {dict(facts)}"


def nearest(distances: NDArray[np.float32], neighbours: int) -> NDArray[np.float32]:
    """The mean of the smallest in each row: (N, M) -> (N,); infinite ones count for none."""
    count = min(neighbours, distances.shape[1])
    smallest = np.partition(distances, count - 1, axis=1)[:, :count]
    return np.asarray(smallest.mean(axis=1), np.float32)


def _interval(count: float, total: int) -> tuple[float, float]:
    return wilson_interval(count, total, standard_errors=STANDARD_ERRORS)


def unit_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scaled to length 1; one of zeros stays as it is."""
    lengths = np.sqrt((features * features).sum(axis=1, keepdims=True))
    return np.asarray(features / np.where(lengths > 0, lengths, 1), np.float32)


def _products(rows: NDArray[np.float32], point: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product of each row (M, D) with a point (D,): (M,)."""
    if hasattr(np, "vecdot"):  # from numpy 2 on, three times as fast
        return np.asarray(np.vecdot(rows, point))
    return np.asarray(np.einsum("ij,j->i", rows, point))
