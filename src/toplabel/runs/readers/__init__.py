"""Readers: what a user names as the inputs of a run in, entries out; and from an entry its bytes.

Nothing is held but one folder's names, or a window of one archive.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from toplabel.image.paths import expand, is_url
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import CONTAINERS, is_list, is_remote, kind_of_container
from toplabel.runs.readers.member import Member

__all__ = ["Member", "list_entries", "open_source", "stamp"]


def list_entries(inputs: Sequence[str], *, column: str | None = None) -> Iterator[Entry]:
    """Entries one by one, the same files always in the same order.

    Args:
        inputs: Folders (their pictures, recursively), patterns, pictures and http URLs, as on the
            command line. `.txt` lists a source in each line, `.csv`, `.tsv` and `.jsonl` in a
            column or field; relative paths are relative to the current folder. `.tar` (also
            compressed), `.zip` and `.parquet` hold pictures. All of these may be URLs that fsspec
            opens (`s3://bucket/2024/**/*.jpg`). Duplicates stay.
        column: Of lists and Parquet: where the picture, or its path, stands.

    Raises:
        UsageError: A folder or list is empty, a pattern matches nothing, a column is not there.
        MissingDependency: pyarrow or fsspec is needed and not installed.
    """
    for name in inputs:
        if is_list(name):
            from toplabel.runs.readers.lists import read_list

            for source in read_list(name, column=column):
                if isinstance(source, Entry):  # a line that says nothing
                    yield source
                else:
                    yield from _list_source(source, column)
        else:
            yield from _list_source(name, column)


def _list_source(name: str, column: str | None) -> Iterator[Entry]:
    """The entries of anything but a list."""
    if is_remote(name):
        from toplabel.runs.readers.remote import expand_remote  # imports fsspec

        for entry in expand_remote(name):
            yield from _open_up(entry, column)
    elif os.path.isdir(name):  # of which only the pictures count
        yield from map(Entry, expand([name]))
    else:
        for path in [name] if os.path.isfile(name) else expand([name]):
            yield from _open_up(Entry(path), column)


def _open_up(entry: Entry, column: str | None) -> Iterator[Entry]:
    """The pictures in a container; a picture itself."""
    kind = kind_of_container(entry.name)
    if kind is None or entry.problem is not None or (entry.kind == "path" and is_url(entry.name)):
        yield entry
        return
    from importlib import import_module

    yield from import_module(CONTAINERS[kind]).list_members(entry.name, column=column)


def open_source(entry: Entry) -> object:
    """What a predictor takes to read an entry: a path or URL, or a `Member`."""
    return entry.name if entry.kind == "path" else Member(entry)


def stamp(entry: Entry) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns of the file that an entry is read from.

    None where there is no such file on this machine.
    """
    path = entry.container or entry.name
    if is_remote(path) or is_url(path):
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
