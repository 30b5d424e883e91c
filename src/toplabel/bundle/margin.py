"""Margin: how near to a boundary a cheap answer is not believed, and how that was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Self

from toplabel._internal.text import number_of, percent
from toplabel.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Below which distance from a boundary a reduced answer is computed again, exactly.

    It was found on one part of some images and checked on the other.

    Args:
        logits: In logits (log odds). A boundary is where the label, the set of labels that apply,
            or `unsure` changes.
        features: How far features, scaled to length 1, may lie from the exact ones: a distance
            from training images (`bundle/unknown.py`) closer than this to its threshold is
            computed again. None: it was not measured.
        images: How many images it was checked on, none of which it was found on.
        changed: How many of these had another label, and were not computed again for it.
        again: The share of them that was computed again, in [0, 1].
    """

    logits: float
    features: float | None = None
    images: int
    changed: int = 0
    again: float = 0.0

    def __post_init__(self) -> None:
        for name in ("logits", "features"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise BundleError(f"got a margin of {value!r} ({name}); expected 0 or more")
        if self.images < 1 or not 0 <= self.changed <= self.images or not 0 <= self.again <= 1:
            raise BundleError(
                f"got a margin checked on {self.images} images with {self.changed} labels changed"
                f" and a share of {self.again} computed again"
            )

    @property
    def bound(self) -> float:
        """The highest rate of changed labels that its check leaves room for, at 95 % confidence.

        That of Clopper and Pearson: 1 - 0.05 ** (1 / images), or about 3 / images. Only for a
        margin that no label passed; else 1.
        """
        return 1.0 if self.changed else 1 - 0.05 ** (1 / self.images)

    def __str__(self) -> str:
        if self.changed:
            changed = number_of(self.changed, "label")
            return f"{changed} changed of {self.images:,} computed both ways"
        return (
            f"no label changed in {self.images:,} re-computations: at most"
            f" {percent(self.bound, 2)} at 95 % confidence"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The margin that `to_dict` wrote.

        Raises:
            BundleError: A value is not accepted.
            TypeError: A field is of another type, unknown, or missing.
        """
        for name, value in values.items():
            kind: Any = int if name in ("images", "changed") else int | float
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"got {name}={value!r}")
        return cls(**values)
