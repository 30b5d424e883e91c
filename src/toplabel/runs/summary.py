"""Summary: what a run has come to. Counted from its marks, never from its records."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.runs.shard_result import Mark

if TYPE_CHECKING:
    from toplabel.labels.labels import Labels


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many inputs have a class as their best; names need not be unique, the index is."""

    label: str
    index: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run has come to, all calls of it together.

    Args:
        output: The file or folder with the records.
        model: What labelled them, in full.
        inputs: All inputs; `labelled` + `failed`.
        labelled: Those with a label.
        failed: Those with an error.
        unsure: Those with a label below the threshold.
        new: Those that this call worked on; the others were done before.
        missing: Those of earlier calls that are no longer listed; their records stay.
        seconds: Of this call.
        labels: Inputs by label, the most frequent first.
        errors: Inputs by error code, the most frequent first.
    """

    output: Path
    model: str
    inputs: int
    labelled: int
    failed: int
    unsure: int
    new: int
    missing: int
    seconds: float
    labels: tuple[LabelCount, ...]
    errors: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {**asdict(self), "output": str(self.output)}


class Tally:
    """Counts marks.

    Args:
        labels: The model's.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._counts = np.zeros(len(labels), np.int64)
        self._errors: Counter[str] = Counter()
        self.rows = 0
        self.unsure = 0

    @property
    def failed(self) -> int:
        """How many inputs have an error."""
        return self._errors.total()

    @property
    def errors(self) -> dict[str, int]:
        """Inputs by error code, the most frequent first."""
        return dict(self._errors.most_common())

    @property
    def labels(self) -> tuple[LabelCount, ...]:
        """Inputs by label, the most frequent first."""
        order = np.argsort(-self._counts, kind="stable")
        return tuple(
            LabelCount(self._labels[int(i)], int(i), int(self._counts[i]))
            for i in order[: np.count_nonzero(self._counts)]
        )

    def add(self, mark: Mark) -> None:
        """Count one shard's outcomes."""
        best = mark.indices[:, 0]
        self._counts += np.bincount(best[best >= 0], minlength=len(self._counts))
        self._errors.update(failure.code for failure in mark.failures.values())
        self.rows += len(mark)
        self.unsure += int(mark.unsure.sum())
