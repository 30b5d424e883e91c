"""Entry: one input of a run, as a reader lists it and as the manifest stores it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, Self, get_args

from toplabel.errors import ERROR_CODES, ErrorCode
from toplabel.inference.prediction import Failure

_as_json = json.encoder.encode_basestring_ascii  # what json.dumps does with text, in C

Kind = Literal["path", "remote", "tar", "zip", "parquet", "problem"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One input, and where its bytes are.

    Args:
        name: The source in its record: a path or URL, "photos.tar#cats/1.jpg", "data.parquet#17".
        kind: How it is read. "path": a local file or an http URL, by its name. "remote": a URL
            that fsspec opens. "problem": not at all; its record has the error.
        container: The path or URL of the archive or table that holds it; "" where there is none.
        location: Where in the container, as numbers that only its reader understands.
        problem: Why it cannot be read, where listing has already found that out.
    """

    name: str
    kind: Kind = "path"
    container: str = ""
    location: tuple[int, ...] = ()
    problem: Failure | None = None

    @classmethod
    def unreadable(cls, name: str, code: ErrorCode, reason: str) -> Self:
        """An entry that is not read; its record has this error."""
        return cls(name, "problem", problem=Failure(code, f"cannot read {name!r}: {reason}"))

    def to_line(self) -> str:
        """One line of JSON in ASCII, without its newline; a plain path is its name alone."""
        if self.kind == "path":
            return _as_json(self.name)
        problem = None if self.problem is None else [self.problem.code, self.problem.message]
        return json.dumps([self.name, self.kind, self.container, self.location, problem])

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """The entry that `to_line` wrote.

        Raises:
            ValueError: The line is damaged.
        """
        row = json.loads(line)
        if isinstance(row, str):
            return cls(row)
        name, kind, container, location, problem = row
        if kind not in get_args(Kind) or (problem is not None and problem[0] not in ERROR_CODES):
            raise ValueError(f"got the entry {row!r}, which this version of toplabel cannot read")
        failure = None if problem is None else Failure(*problem)
        return cls(name, kind, container, tuple(location), failure)
