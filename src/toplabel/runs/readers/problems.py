"""Problems: what is wrong with a container, as an entry whose record says it."""

from __future__ import annotations

from toplabel.errors import ErrorCode, ImageError
from toplabel.inference.prediction import Failure
from toplabel.runs.entry import Entry


def problem(name: str, code: ErrorCode, text: str) -> Entry:
    """An entry that is not read; its record gives the code and the text."""
    return Entry(name, "problem", problem=Failure(code, f"cannot read {name!r}: {text}"))


def problem_of(name: str, error: ImageError) -> Entry:
    """The same for an error that opening it has met with."""
    return problem(name, error.code, error.message)
