"""Progress: how far a run is, at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Args:
        inputs: All of them.
        before: Those that were done when this call began.
        done: Those that are done now.
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
        """Images in a second, of this call."""
        return (self.done - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None where there is none yet."""
        return (self.inputs - self.done) / self.per_second if self.per_second else None
