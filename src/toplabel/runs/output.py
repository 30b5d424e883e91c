"""Output: where a run's records go. A file that appears whole, or a folder of parts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from toplabel.errors import UsageError
from toplabel.runs.formats import FORMATS

STATE_NAME = "_toplabel"
_SUFFIXES = {".ndjson": "jsonl", **{f".{name}": name for name in FORMATS}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where records go.

    Args:
        path: As the user named it.
        format: "parquet", "csv" or "jsonl".
        parts: The folder of parts: `path` itself, or for a single file `.NAME.run` beside it.
        is_file: Whether the parts are joined into one file at `path`.
    """

    path: Path
    format: str
    parts: Path
    is_file: bool

    @property
    def state(self) -> Path:
        """What the run remembers; readers of tables leave out folders that begin with _."""
        return self.parts / STATE_NAME

    def part(self, number: int) -> Path:
        """The file of one shard's records."""
        return self.parts / f"part-{number:06d}.{self.format}"

    @classmethod
    def of(cls, path: str | os.PathLike[str], *, format: str | None = None) -> Self:
        """The output that a user names: `labels.parquet`, or a folder.

        Args:
            path: A file with one of the endings .parquet, .csv and .jsonl; else a folder: one
                that exists, or a name that ends in a slash or has no ending.
            format: Of the parts in a folder; by default Parquet.

        Raises:
            UsageError: It is neither, or `format` contradicts the ending.
        """
        text = os.fspath(path)
        if "://" in text:
            raise UsageError(
                f"got the output {text!r}; expected a file or folder of this machine: write there,"
                " then copy it"
            )
        target = Path(text)
        if _names_folder(text):
            known = format or "parquet"
            _check_format(known)
            return cls(path=target, format=known, parts=target, is_file=False)
        suffix = target.suffix.lower()
        if suffix not in _SUFFIXES:
            raise UsageError(
                f"got the output {text!r}; expected a file that ends in {', '.join(_SUFFIXES)}, or"
                " a folder: a name without ending, or with a slash at its end"
            )
        if format not in (None, _SUFFIXES[suffix]):
            raise UsageError(f"got the format {format!r} for {text!r}; expected one of them alone")
        parts = target.with_name(f".{target.name}.run")
        return cls(path=target, format=_SUFFIXES[suffix], parts=parts, is_file=True)


def _names_folder(text: str) -> bool:
    return text.endswith("/") or os.path.isdir(text) or not os.path.splitext(text)[1]


def _check_format(name: str) -> None:
    if name not in FORMATS:
        raise UsageError(f"got the format {name!r}; expected one of {', '.join(FORMATS)}")
