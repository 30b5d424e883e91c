"""Counts: every input goes in, what the charts of the page show comes out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from toplabel.errors import ErrorCode
from toplabel.runs.report.shown import Shown

BINS = 20
"""Of the histogram of scores, equally wide, over [0, 1]."""


@dataclass(slots=True)
class Counts:
    """How many inputs there are of each kind.

    `labels` counts by class index; `scores` holds `BINS` counts, of the best scores.
    """

    inputs: int = 0
    unsure: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    errors: Counter[ErrorCode] = field(default_factory=Counter)
    scores: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def failed(self) -> int:
        """Inputs without a label."""
        return self.errors.total()

    def add(self, shown: Shown) -> None:
        """Count one input."""
        self.inputs += 1
        if shown.error is not None:
            self.errors[shown.error.code] += 1
            return
        self.unsure += shown.unsure
        self.labels[shown.top[0][0]] += 1
        self.scores[min(max(int(shown.score * BINS), 0), BINS - 1)] += 1
