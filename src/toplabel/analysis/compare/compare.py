"""Comparing: two sides and pictures in, the first stage at which they differ out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from toplabel.analysis.compare.difference import Difference, of_logits, of_pixels, of_tensors
from toplabel.analysis.compare.variant import Side, Stages
from toplabel.errors import ImageError, UsageError
from toplabel.image.reading import source_name
from toplabel.inference.predictor import Predictor
from toplabel.models.load import shared_predictor

Stage = Literal["pixels", "tensor", "logits", "label"]
STAGES: tuple[Stage, ...] = ("pixels", "tensor", "logits", "label")


@dataclass(frozen=True, slots=True, eq=False)
class ImageComparison:
    """One picture through both sides.

    Args:
        source: It.
        pixels: How what was read differs; None: it does not, or a side does not tell.
        tensor: How the model's input does.
        logits: How its output does.
        a: (label, score) of the first side; None where it failed.
        b: The same of the second.
        error: Why it could not be compared; "" where it could.
    """

    source: str
    pixels: Difference | None
    tensor: Difference | None
    logits: Difference | None
    a: tuple[str, float] | None
    b: tuple[str, float] | None
    error: str = ""

    @property
    def first(self) -> Stage | None:
        """The first stage that differs."""
        for stage in STAGES[:3]:
            if getattr(self, stage) is not None:
                return stage
        return "label" if self.labels_differ else None

    @property
    def labels_differ(self) -> bool:
        """Whether the labels do."""
        return self.a is not None and self.b is not None and self.a[0] != self.b[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = {stage: getattr(self, stage) for stage in STAGES[:3]}
        return {
            "source": self.source,
            "first": self.first,
            **{stage: one and one.to_dict() for stage, one in found.items()},
            "a": self.a and {"label": self.a[0], "score": self.a[1]},
            "b": self.b and {"label": self.b[0], "score": self.b[1]},
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All pictures through both sides.

    Args:
        a: The first side, in words.
        b: The second.
        images: Each picture.
        note: How the sides' class names differ; "" where they do not.
    """

    a: str
    b: str
    images: tuple[ImageComparison, ...]
    note: str = ""

    @property
    def firsts(self) -> Counter[Stage]:
        """How many pictures differ first at each stage."""
        return Counter(one.first for one in self.images if one.first is not None)

    @property
    def first(self) -> Stage | None:
        """The earliest stage at which any picture differs."""
        return next((stage for stage in STAGES if self.firsts[stage]), None)

    @property
    def same(self) -> bool:
        """Whether no picture differs anywhere, and all could be compared."""
        return not self.note and self.first is None and not any(one.error for one in self.images)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "note": self.note or None,
            "first": self.first,
            "firsts": dict(self.firsts),
            "labels_changed": sum(one.labels_differ for one in self.images),
            "images": [one.to_dict() for one in self.images],
        }


Given = Predictor | str | os.PathLike[str] | None


def compare(
    a: Given | Side,
    b: Given | Side,
    images: Sequence[object],
    *,
    a_preprocess: Callable[..., Any] | None = None,
    b_preprocess: Callable[..., Any] | None = None,
) -> Comparison:
    """Where two ways to run a model begin to differ: pixels, tensor, logits or label.

    >>> toplabel.compare("best.toplabel", "best.toplabel", photos, b_preprocess=my_transform).first
    'tensor'

    Args:
        a: A predictor, or what `load` takes.
        b: The other.
        images: At least one: paths, as a predictor takes them.
        a_preprocess: The user's own function for the first side, see `Side`.
        b_preprocess: The same for the second.

    Raises:
        UsageError: There are no images.
    """
    if not images:
        raise UsageError("got no images to compare; expected at least one")
    first, second = _side(a, a_preprocess), _side(b, b_preprocess)
    found = tuple(_compare(source, number, first, second) for number, source in enumerate(images))
    return Comparison(first.name, second.name, found, _names_differ(first, second))


def _names_differ(first: Side, second: Side) -> str:
    """How the class names of both sides differ, in words."""
    a, b = first.predictor.labels, second.predictor.labels
    if len(a) != len(b):
        return f"A has {len(a)} classes, B {len(b)}"
    other = [index for index, (one, two) in enumerate(zip(a, b, strict=True)) if one != two]
    if not other:
        return ""
    index = other[0]
    return (
        f"{len(other)} of {len(a)} class names differ: class {index} is {a[index]!r} in A,"
        f" {b[index]!r} in B"
    )


def _side(given: Given | Side, preprocess: Callable[..., Any] | None) -> Side:
    if isinstance(given, Side):
        return given
    predictor = given if isinstance(given, Predictor) else shared_predictor({"model": given})
    own = "" if preprocess is None else f" after {getattr(preprocess, '__name__', 'a function')}"
    exact = ", exact" if predictor.exact else ""
    return Side(predictor, preprocess, f"{predictor.name} by {predictor.engine}{exact}{own}")


def _compare(source: object, number: int, first: Side, second: Side) -> ImageComparison:
    name = source_name(source, number)
    looked: list[Stages] = []
    for letter, side in (("A", first), ("B", second)):
        try:
            looked.append(side.look(source))
        except ImageError as error:
            return ImageComparison(name, None, None, None, None, None, f"{letter}: {error}")
    a, b = looked
    pixels = None
    if a.pixels is not None and b.pixels is not None:
        pixels = of_pixels(a.pixels, b.pixels)
    return ImageComparison(
        name,
        pixels,
        of_tensors(a.tensor, b.tensor),
        of_logits(a.logits, b.logits),
        (a.label, a.score),
        (b.label, b.score),
    )
