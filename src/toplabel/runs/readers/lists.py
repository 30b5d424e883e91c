"""Lists of sources: a line of text, a column of CSV, or a field of JSON lines for each."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from typing import IO

from toplabel._internal.columns import SOURCE_COLUMNS, find_columns
from toplabel.errors import ImageError, RunError, UsageError
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import is_list
from toplabel.runs.readers.random_access import FileObject, open_random_access

_BUFFER_BYTES = 1 << 20


def read_list(name: str, *, column: str | None = None) -> Iterator[str | Entry]:
    """The sources that a list names; an unreadable entry for a line that names none.

    Raises:
        RunError: The list cannot be read.
        UsageError: It is empty, or has no such column.
    """
    try:
        content = open_random_access(name)
    except ImageError as error:
        raise RunError(f"cannot read the list {name!r}: {error.message}") from error
    file = io.TextIOWrapper(
        io.BufferedReader(FileObject(content), _BUFFER_BYTES),
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
    )
    empty = True
    with file:
        for number, source in enumerate(_read(name, file, column), start=1):
            empty = False
            if isinstance(source, str) and is_list(source):
                source = Entry.unreadable(
                    f"{name}#{number}", "unsupported_format", f"it names the list {source!r}"
                )
            yield source
    if empty:
        raise UsageError(f"the list {name!r} is empty; expected a source in each line")


def _read(name: str, file: IO[str], column: str | None) -> Iterator[str | Entry]:
    lower = name.lower()
    if lower.endswith((".csv", ".tsv")):
        return _read_table(name, file, column, "\t" if lower.endswith(".tsv") else ",")
    if lower.endswith(".txt"):
        return _read_lines(file)
    return _read_objects(name, file, column)


def _read_lines(file: IO[str]) -> Iterator[str]:
    for line in file:
        if source := line.rstrip("\r\n"):
            yield source


def _read_table(
    name: str, file: IO[str], column: str | None, delimiter: str
) -> Iterator[str | Entry]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(file, delimiter=delimiter)
    header = next(rows, [])
    index = _choose(name, header, column) if header else 0
    for number, row in enumerate(rows, start=2):
        if len(row) > index and row[index]:
            yield row[index]
        elif row:
            yield Entry.unreadable(f"{name}#{number}", "not_found", f"row {number} has no source")


def _read_objects(name: str, file: IO[str], column: str | None) -> Iterator[str | Entry]:
    for number, line in enumerate(file, start=1):
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
        found = [list(known)[index] for index in find_columns(known, SOURCE_COLUMNS)]
        field = column or (found or ["path"])[0]
        source = known.get(field)
        if isinstance(source, str) and source:
            yield source
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
            f" {', '.join(map(repr, header))}; choose one with column (--column)"
        )
    return found[0]
