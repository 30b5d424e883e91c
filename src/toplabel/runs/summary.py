"""What a run reports: its progress while it works, and its summary in the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toplabel.bundle.unknown import Drift
from toplabel.inference.cascade import ReducedAnswers

_MOST_SHOWN = 10
"""Labels in a notebook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Args:
        inputs: Number of all inputs.
        before: Inputs that were done when this call began.
        done: Inputs that are done now.
        failed: Those of them that have an error.
        seconds: Since this call began to label.
    """

    inputs: int
    before: int
    done: int
    failed: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Images per second in this call."""
        return (self.done - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None where there is none yet."""
        return (self.inputs - self.done) / self.per_second if self.per_second else None


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many inputs have a class as their best, or have it at all where classes are independent.

    Names need not be unique, the index is.
    """

    label: str
    index: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """The result of a run, all calls of it together.

    Args:
        output: The file or folder with the records.
        model: The full name of the model.
        inputs: All inputs; `labelled` + `failed`.
        labelled: Inputs that the model answered.
        failed: Inputs with an error.
        unsure: Inputs whose score is below the threshold.
        new: Inputs that this call worked on; the others were done before.
        recovered: Inputs that failed before and have a label now: their cause has passed.
        passing: Inputs among the failed whose cause may pass (not found, no permission, time-outs,
            a store that is away); the same call tries them again, and no others.
        missing: Inputs of earlier calls that are no longer listed; their records stay.
        seconds: Of this call.
        labels: Inputs by label, the most frequent first.
        errors: Inputs by error code, the most frequent first.
        warnings: What was assumed or noticed in this call that may make labels wrong.
        unlabelled: Of those labelled, the ones that no class of a multi-label model applies to.
        drift: How many of those labelled are unknown, and whether that is more than of images like
            those of the training would be; None where the model cannot tell.
        fast: What came of reduced precision; None where every answer is exact.
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
    warnings: tuple[str, ...] = ()
    recovered: int = 0
    passing: int = 0
    unlabelled: int = 0
    drift: Drift | None = None
    fast: ReducedAnswers | None = None

    def __repr__(self) -> str:
        """One line: how many inputs have a label, and which failed."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"<RunSummary {self.output}: {self.labelled:,} of {self.inputs:,} labelled{failed}>"

    def _repr_html_(self) -> str:
        """HTML for a notebook, escaped: the counts, and the most frequent labels."""
        from toplabel.inference.notebook import table_html  # only there

        facts = ("model", "inputs", "labelled", "failed", "unsure", "new")
        counts = [(name, getattr(self, name)) for name in facts]
        if self.drift is not None:
            counts.append(("unknown", self.drift.unknown))
        if self.fast is not None:
            counts.append(("reduced precision", str(self.fast)))
        labels = [(f"label {one.label}", one.count) for one in self.labels[:_MOST_SHOWN]]
        errors = [(f"error {code}", count) for code, count in self.errors.items()]
        return table_html(str(self.output), [*counts, *labels, *errors])

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {**asdict(self), "output": str(self.output)}
