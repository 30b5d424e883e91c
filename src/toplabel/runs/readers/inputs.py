"""Inputs: names that a user gives in, entries out; and from an entry what a predictor reads.

Lists of sources are lines of text, a column of CSV, or a field of JSON lines.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import IO

from toplabel._internal.columns import SOURCE_COLUMNS, find_columns
from toplabel._internal.text import unescape_name
from toplabel.errors import ImageError, RunError, ToplabelError, UsageError
from toplabel.image.failures import from_decoder
from toplabel.image.files import is_url
from toplabel.image.paths import expand
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import CONTAINERS, is_list, is_remote, kind_of_container
from toplabel.runs.readers.random_access import FileObject, open_random_access

_BUFFER_BYTES = 1 << 20
_READERS = {**CONTAINERS, "remote": "toplabel.runs.readers.remote"}


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """An image in an archive, a table or behind a URL, as a file object to read.

    It may be read from several threads at once, and sent to other processes.
    """

    entry: Entry

    @property
    def name(self) -> str:
        """The source in its record."""
        return self.entry.name

    def read(self, size: int = -1) -> bytes:
        """Its bytes, `size` of them at most; all where that is negative.

        Raises:
            ImageError: They cannot be had; `.code` says why.
        """
        content: bytes = import_module(_READERS[self.entry.kind]).read_member(self.entry, size)
        return content


def list_entries(inputs: Sequence[str], *, column: str | None = None) -> Iterator[Entry]:
    """Entries one by one, the same files always in the same order.

    Args:
        inputs: Folders (their images, recursively), patterns, images and http URLs, as on the
            command line. `.txt` lists a source in each line, `.csv`, `.tsv` and `.jsonl` in a
            column or field; relative paths are relative to the current folder. `.tar` (also
            compressed), `.zip` and `.parquet` hold images. All of these may be URLs that fsspec
            opens (`s3://bucket/2024/**/*.jpg`). Duplicates stay.
        column: Of lists and Parquet: which one has the image, or its path.

    Raises:
        UsageError: A folder or list is empty, a pattern matches nothing, a column is missing.
        MissingDependency: pyarrow or fsspec is needed and not installed.
    """
    for name in inputs:
        if is_list(name):
            for source in _read_list(name, column=column):
                if isinstance(source, Entry):  # a line without a source
                    yield source
                else:
                    yield from _list_named(source, column)
        else:
            yield from _list_source(name, column)


def _list_named(name: str, column: str | None) -> Iterator[Entry]:
    """The entries of a line of a list: its name is a name and no pattern, and nothing ends it."""
    if not os.path.lexists(name):  # as records have a name that is no UTF-8
        name = unescape_name(name)
    try:
        if is_remote(name):
            from toplabel.runs.readers.remote import expand_remote  # imports fsspec

            for entry in expand_remote(name, literal=True):
                yield from _open_up(entry, column)
        elif os.path.isdir(name):
            yield from map(Entry, expand([name]))
        else:
            yield from _open_up(Entry(name), column)
    except UsageError as error:
        yield Entry.unreadable(name, "not_found", str(error))


def _list_source(name: str, column: str | None) -> Iterator[Entry]:
    """The entries of anything but a list."""
    if is_remote(name):
        from toplabel.runs.readers.remote import expand_remote  # imports fsspec

        for entry in expand_remote(name):
            yield from _open_up(entry, column)
    elif os.path.isdir(name):  # of which only the images count
        yield from map(Entry, expand([name]))
    else:
        for path in [name] if os.path.isfile(name) else expand([name]):
            yield from _open_up(Entry(path), column)


def _open_up(entry: Entry, column: str | None) -> Iterator[Entry]:
    """The images in a container; an image itself."""
    kind = kind_of_container(entry.name)
    if kind is None or entry.problem is not None or (entry.kind == "path" and is_url(entry.name)):
        yield entry
        return
    try:
        yield from import_module(CONTAINERS[kind]).list_members(entry.name, column=column)
    except ToplabelError:
        raise
    except Exception as error:  # of whichever library reads it; the other inputs go on
        failure = from_decoder(error, format_name=kind)
        yield Entry.unreadable(entry.name, failure.code, f"the {kind} is damaged ({error})")


def open_source(entry: Entry) -> object:
    """The entry as a predictor reads it: a path or URL, or an `ArchiveMember`."""
    return entry.name if entry.kind == "path" else ArchiveMember(entry)


def stamp(entry: Entry) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns of the file that an entry is read from.

    None where there is no such file on this machine.
    """
    path = entry.container or entry.name
    if entry.kind in ("remote", "problem") or is_remote(path) or is_url(path):
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _read_list(name: str, *, column: str | None = None) -> Iterator[str | Entry]:
    """The sources that a list names; an unreadable entry for a line that names none.

    Raises:
        RunError: The list cannot be read.
        UsageError: It is empty, or has no such column.
    """
    try:
        content = open_random_access(name)
        is_utf16 = content.read_at(0, 2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    except ImageError as error:
        raise RunError(f"cannot read the list {name!r}: {error.message}") from error
    file = io.TextIOWrapper(
        io.BufferedReader(FileObject(content), _BUFFER_BYTES),
        encoding="utf-16" if is_utf16 else "utf-8-sig",  # as PowerShell and Excel write
        errors="surrogatepass" if is_utf16 else "surrogateescape",
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
        field = column or _source_field(tuple(known))
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
            f" {', '.join(map(repr, header))}; choose one with column=..."
        )
    return found[0]


@lru_cache(maxsize=4)  # objects of a list mostly have the same fields
def _source_field(fields: tuple[str, ...]) -> str:
    found = find_columns(fields, SOURCE_COLUMNS)
    return fields[found[0]] if found else "path"
