"""Lists of sources: lines of text, a column of CSV, or a field of JSON lines."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import IO, BinaryIO, cast

from toplabel._internal.mistaken import mistaken_for
from toplabel._internal.text_table import (
    DELIMITERS,
    SOURCE_COLUMNS,
    as_text,
    choose_delimiter,
    encoding_of,
    find_columns,
)
from toplabel.errors import ImageError, RunError, UsageError
from toplabel.image.files import sniff
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import is_list
from toplabel.runs.readers.random_access import FileObject, open_random_access

_BUFFER_BYTES = 1 << 20
_HEAD_BYTES = 4096
_MOST_CHARACTERS = 32 << 20
"""Of one line: an image in base64 may be one."""


def read_list(name: str, *, column: str | None = None) -> Iterator[str | Entry]:
    """The sources that a list names; an unreadable entry for a line that names none.

    Text is UTF-8, UTF-16 or UTF-32. Lines end as on any system, or with a NUL, as `find -print0`
    writes them.

    Args:
        name: A file or URL that ends in .txt, .csv, .tsv, .jsonl or .ndjson.
        column: Which column or field has the source.

    Raises:
        RunError: The list cannot be read.
        UsageError: It is empty, is no text, or has no such column.
    """
    try:
        content = open_random_access(name)
        head = content.read_at(0, _HEAD_BYTES)
    except ImageError as error:
        raise RunError(f"cannot read the list {name!r}: {error.message}") from error
    _check_text(name, head)
    empty = True
    with as_text(
        cast(BinaryIO, io.BufferedReader(FileObject(content), _BUFFER_BYTES)), head
    ) as file:
        for number, source in enumerate(_read(name, file, head, column), start=1):
            empty = False
            if isinstance(source, str) and is_list(source):
                source = Entry.unreadable(
                    f"{name}#{number}", "unsupported_format", f"it names the list {source!r}"
                )
            yield source
    if empty:
        raise UsageError(f"the list {name!r} is empty; expected a source in each line")


def _check_text(name: str, head: bytes) -> None:
    """Refuse what only has the suffix of a list."""
    other = mistaken_for(head) if head.strip() else None
    if head and not head.strip(b"\0"):
        other = "a file of zeros"
    with suppress(ImageError):
        other = f"a {sniff(head)} image"
    if other is not None:
        raise UsageError(f"the list {name!r} is {other}; expected text, a source in each line")


def _read(name: str, file: IO[str], head: bytes, column: str | None) -> Iterator[str | Entry]:
    lower = name.lower()
    if lower.endswith(".tsv"):
        return _read_table(name, file, column, ("\t",))
    if lower.endswith(".csv"):
        return _read_table(name, file, column, DELIMITERS)
    if lower.endswith(".txt"):
        by_nuls = b"\0" in head and encoding_of(head).startswith("utf-8")
        return _read_lines(name, _split(file) if by_nuls else _each(file))
    return _read_objects(name, file, column)


def _each(file: IO[str]) -> Iterator[str]:
    lines = _Lines(file)
    for line in lines:
        lines.taken = 0
        yield line


class _Lines:
    """The lines of a file, in bounded memory: one that is too long is cut.

    `taken`: characters since somebody, having made something of them, set it to zero.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(_MOST_CHARACTERS):
            self.taken += len(line)
            if self.taken > _MOST_CHARACTERS:
                raise csv.Error("it goes on for too long")
            yield line
            while len(line) == _MOST_CHARACTERS and not line.endswith("\n"):  # the rest of it
                line = self._file.readline(_MOST_CHARACTERS)


def _split(file: IO[str]) -> Iterator[str]:
    """What stands between NULs; what is too long is cut."""
    rest = ""
    while piece := file.read(_BUFFER_BYTES):
        *whole, rest = (rest + piece).split("\0")
        yield from whole
        rest = rest[:_MOST_CHARACTERS]
    yield rest


def _read_lines(name: str, lines: Iterable[str]) -> Iterator[str | Entry]:
    for number, line in enumerate(lines, start=1):
        if len(line) >= _MOST_CHARACTERS:
            yield _too_long(name, number)
        elif source := line.rstrip("\r\n"):
            yield source


def _too_long(name: str, number: int) -> Entry:
    reason = f"line {number} has more than {_MOST_CHARACTERS:,} characters"
    return Entry.unreadable(f"{name}#{number}", "too_large", reason)


def _read_table(
    name: str, file: IO[str], column: str | None, delimiters: Sequence[str]
) -> Iterator[str | Entry]:
    before = csv.field_size_limit(sys.maxsize)  # of the process; the limit is that of lines
    lines = _Lines(file)
    first = next(iter(lines), "")
    delimiter = choose_delimiter(first, [column] if column else SOURCE_COLUMNS, delimiters)
    if first.startswith("sep="):  # as Excel writes
        first, delimiter = "", first[4:5] or ","
    rows = csv.reader(itertools.chain([first] if first else [], lines), delimiter=delimiter)
    number = 1
    try:
        header = next(rows, [])
        index = _choose(name, header, column) if header else 0
        for number, row in enumerate(rows, start=2):
            lines.taken = 0
            source = row[index] if len(row) > index else ""
            if source and ("\n" not in source or os.path.lexists(source)):
                yield source
            elif row:
                why = "a source of several lines; is a quote missing?" if source else "no source"
                reason = f"row {number} has {why}"
                yield Entry.unreadable(f"{name}#{number}", "not_found", reason)
    except csv.Error as error:
        reason = f"it cannot be read from row {number} on ({error}); is a quote missing?"
        raise ImageError("corrupt", reason) from error
    finally:
        csv.field_size_limit(before)


def _read_objects(name: str, file: IO[str], column: str | None) -> Iterator[str | Entry]:
    lines = _Lines(file)
    for number, line in enumerate(lines, start=1):
        lines.taken = 0
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, str) and column is None:
            yield row
            continue
        known = row if isinstance(row, dict) else {}
        field = column or _source_field(tuple(known))
        source = known.get(field)
        if isinstance(source, str) and source:
            yield source
        elif len(line) >= _MOST_CHARACTERS:
            yield _too_long(name, number)
        else:
            reason = f"line {number} is not a JSON object with the field {field!r}"
            yield Entry.unreadable(f"{name}#{number}", "not_found", reason)


def _choose(name: str, header: list[str], column: str | None) -> int:
    """The index of the column of sources.

    Raises:
        UsageError: There is none.
    """
    if column in header:
        return header.index(column)
    found = [] if column else find_columns(header, SOURCE_COLUMNS)
    if not found:
        wanted = [column] if column else SOURCE_COLUMNS
        raise UsageError(
            f"the list {name!r} has no column {' or '.join(map(repr, wanted))}; its columns are"
            f" {', '.join(map(repr, header))}; choose one with column=..."
        )
    return found[0]


@lru_cache(maxsize=4)  # objects of a list mostly have the same fields
def _source_field(fields: tuple[str, ...]) -> str:
    found = find_columns(fields, SOURCE_COLUMNS)
    return fields[found[0]] if found else "path"
