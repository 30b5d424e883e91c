"""Calibration: what was learned on held-out images of what a model's scores are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Self

from toplabel.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a model's outputs become scores that mean something, and where it is unsure.

    Args:
        temperature: Outputs are divided by it before the softmax (Guo et al. 2017); above 0. It
            changes no label.
        threshold: In [0, 1]: a best score below it is `unsure`, where no other is asked for; None
            where no precision was wished.
        wished: The precision that the threshold was chosen for, in [0, 1].
        precision: Of the answers at or above it, on images that chose neither it nor the
            temperature; `low` and `high` are its Clopper-Pearson interval of 95 %.
        coverage: Which share of these images such an answer was given for.
        images: How many images there were in all, those that chose and those that checked.
        digest: Of these images and their classes (`Dataset.digest`).
        date: When, as 2026-01-31.
    """

    temperature: float
    threshold: float | None = None
    wished: float | None = None
    precision: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    images: int = 0
    digest: str = ""
    date: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise BundleError(f"got temperature {self.temperature!r}; expected a number above 0")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise BundleError(f"got threshold {self.threshold!r}; expected a score from 0 to 1")

    def __str__(self) -> str:
        text = f"temperature {self.temperature:.3g}, fitted {self.date}"
        if self.threshold is None:
            return text
        return (
            f"{text}; unsure below {self.threshold:.3g}: precision {self.precision:.3f}"
            f" ({self.low:.3f} to {self.high:.3f}) of the {self.coverage:.0%} answered, on held-out"
            " images"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The calibration that `to_dict` wrote.

        Raises:
            BundleError: A value is not accepted.
            TypeError: A field is of another type, unknown, or missing.
        """
        for name, value in fields.items():
            kind: Any = str if name in ("digest", "date") else int | float
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                raise TypeError(f"got {name}={value!r}")
        return cls(**fields)
