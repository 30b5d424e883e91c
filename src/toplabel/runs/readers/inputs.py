"""Inputs: names that a user gives in, entries out; and from an entry what a predictor reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

from toplabel._internal.text import unescape_name
from toplabel.errors import ImageError, ToplabelError, UsageError
from toplabel.image.failures import from_decoder
from toplabel.image.files import is_url
from toplabel.image.paths import expand
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import CONTAINERS, is_list, is_remote, kind_of_container
from toplabel.runs.readers.lists import read_list

_READERS = {**CONTAINERS, "remote": "toplabel.runs.readers.remote"}

Item = TypeVar("Item")


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

    @property
    def stored_bytes(self) -> int:
        """How many bytes its archive says that it has; 0 where that is not known."""
        place = {"tar": 1, "zip": 2}.get(self.entry.kind)
        return 0 if place is None else self.entry.location[place]

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
            for source in _going_on(name, read_list(name, column=column)):
                if isinstance(source, Entry):  # a line without a source
                    yield source
                else:
                    yield from _list_line(source, column)
        else:
            alone = len(inputs) == 1 and os.path.isfile(name)
            yield from _going_on(name, _list_source(name, column, alone=alone))


def _going_on(name: str, found: Iterator[Item], kind: str = "input") -> Iterator[Item | Entry]:
    """What is found; where a library fails in a way that nobody foresaw, a record in its place."""
    try:
        yield from found
    except Exception as error:
        if isinstance(error, ToplabelError) and not isinstance(error, ImageError):
            raise
        failure = from_decoder(error, format_name=kind)
        yield Entry.unreadable(name, failure.code, failure.message)


def _list_line(name: str, column: str | None) -> Iterator[Entry]:
    """The entries of a line of a list, which nothing ends."""
    if not os.path.lexists(name):  # as records have a name that is no UTF-8
        name = unescape_name(name)
    try:
        yield from _going_on(name, _list_named(name, column))
    except UsageError as error:
        yield Entry.unreadable(name, "not_found", str(error))


def _list_named(name: str, column: str | None) -> Iterator[Entry]:
    """The entries of a name that is no pattern, whatever stands in it."""
    if is_remote(name):
        from toplabel.runs.readers.remote import expand_remote  # imports fsspec

        for entry in expand_remote(name, literal=True):
            yield from _open_up(entry, column)
    elif os.path.isdir(name):
        yield from map(Entry, expand([name]))
    else:
        yield from _open_up(Entry(name), column)


def _list_source(name: str, column: str | None, *, alone: bool) -> Iterator[Entry]:
    """The entries of anything but a list; `alone` where it is one file, and the only input."""
    if is_remote(name):
        from toplabel.runs.readers.remote import expand_remote  # imports fsspec

        for entry in expand_remote(name):
            yield from _open_up(entry, column)
    elif os.path.isdir(name):  # of which only the images count
        yield from map(Entry, expand([name]))
    else:
        for path in [name] if os.path.isfile(name) else expand([name]):
            try:
                yield from _open_up(Entry(path), column)
            except UsageError as error:  # a table without images
                if alone:
                    raise
                yield Entry.unreadable(path, "unsupported_format", str(error))


def _open_up(entry: Entry, column: str | None) -> Iterator[Entry]:
    """The images in a container; an image itself."""
    kind = kind_of_container(entry.name)
    if kind is None or entry.problem is not None or (entry.kind == "path" and is_url(entry.name)):
        yield entry
        return
    members = import_module(CONTAINERS[kind]).list_members(entry.name, column=column)
    empty = kind != "parquet"  # a split of a data set may have no rows
    for member in _going_on(entry.name, members, kind):
        empty = False
        yield member
    if empty:
        reason = f"the {kind} has no image in it; its files count as images by their suffix"
        yield Entry.unreadable(entry.name, "empty", reason)


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
