"""Messages: what a worker process tells the run."""

from __future__ import annotations

from dataclasses import dataclass

from toplabel.runs.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is open: how many images a chunk has best, and how many chunks go at once."""

    chunk_size: int
    workers: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot work at all."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Warned:
    """A usual mistake that the first answers show."""

    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the chunk of that number."""

    number: int
    outcomes: list[Outcome]


Message = Ready | Refused | Warned | Answer
