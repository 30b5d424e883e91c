"""Formats of a run's records: a shard's outcomes in, the bytes of a part out; parts joined."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from toplabel.errors import UsageError
from toplabel.runs.outcome import Outcome

FORMATS = {
    "parquet": "toplabel.runs.formats.parquet",
    "csv": "toplabel.runs.formats.csv",
    "jsonl": "toplabel.runs.formats.jsonl",
}
"""The name of a format, which is also the ending of its files, and its module."""


class Format(Protocol):
    """How records are written. A module with these two functions."""

    def encode(self, outcomes: Sequence[Outcome], *, all_scores: bool) -> bytes:
        """The whole content of a part: a file of this format."""

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write one file with the records of all parts, in their order.

        Raises:
            OSError: It cannot be written.
        """


def load_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: There is none.
        MissingDependency: Its library is not installed.
    """
    if name not in FORMATS:
        raise UsageError(f"got the format {name!r}; expected one of {', '.join(FORMATS)}")
    return cast(Format, import_module(FORMATS[name]))
