"""Finding: one thing that was looked at, what was seen, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Topic = Literal[
    "architecture",
    "weights",
    "outputs",
    "repeats",
    "labels",
    "order",
    "family",
    "colour",
    "geometry",
]
State = Literal["fine", "wrong", "told", "cannot tell"]
"""fine: nothing is the matter; wrong: something is; told: it has been found out; cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found out about one topic.

    Args:
        topic: What was looked at.
        state: What came of it.
        text: One sentence for people.
        evidence: The figures behind it.
        line: What to paste, or to do; "" where there is nothing.
    """

    topic: Topic
    state: State
    text: str
    evidence: str = ""
    line: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
