"""Parquet tables with a column of images: bytes, or Hugging Face's {bytes, path}."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.errors import ImageError, UsageError
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import is_remote
from toplabel.runs.readers.random_access import (
    FileObject,
    RandomAccessFile,
    open_listed,
    open_random_access,
)

pa: Any = require("pyarrow", extra="parquet", purpose="reading Parquet")
pq: Any = require("pyarrow.parquet", extra="parquet", purpose="reading Parquet")

_DAMAGES = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, StopIteration)
_USUAL = "image"
_ROWS_AT_ONCE = 32
_KEPT_BATCHES = 8
_OPEN_AT_ONCE = 4


def list_members(name: str, *, column: str | None = None) -> Iterator[Entry]:
    """Every row: "data.parquet#17"; only the table's schema is read.

    Raises:
        UsageError: No column holds images, several may, or `column` is not one that does.
    """
    try:
        source = open_random_access(name)
        file = _open(source)
        index = _find_column(file.schema_arrow, name, column)
        row = 0
        for group in range(file.num_row_groups):
            for at in range(file.metadata.row_group(group).num_rows):
                location = (index, group, at, source.size, source.mtime_ns)
                yield Entry(f"{name}#{row}", "parquet", name, location)
                row += 1
    except UsageError:
        raise
    except ImageError as error:
        yield Entry.unreadable(name, error.code, error.message)
    except _DAMAGES as error:
        reason = f"it is not a complete Parquet file: {first_line(error)}"
        yield Entry.unreadable(name, "corrupt", reason)


def read_member(entry: Entry, size: int) -> bytes:
    """The bytes of the image in a row, `size` of them at most; all where that is negative.

    Where there is a path and no bytes, the file of that path is read, if the table is a file of
    this machine: a table from elsewhere does not open files here.

    Raises:
        ImageError: There are none, or the table is gone, damaged or rewritten.
    """
    column, group, row, *stamp = entry.location
    try:
        value = _window(entry.container, stamp[0], stamp[1], column, group).take(row)
    except ImageError:
        raise
    except _DAMAGES as error:
        raise ImageError("corrupt", f"the table is damaged: {first_line(error)}") from error
    path = value.get("path") if isinstance(value, dict) else None
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None and path and not is_remote(entry.container):
        return _read_file(path, size)
    if content is None:
        raise ImageError("empty", "the row has no image")
    return bytes(content if size < 0 else content[:size])


class _Window:
    """A row group's images, a few rows at a time, mostly forward; for several threads."""

    def __init__(self, file: Any, column: str, group: int) -> None:
        self._file, self._column, self._group = file, column, group
        self._turn = threading.Lock()
        self._batches: Iterator[Any] = iter(())
        self._kept: dict[int, Any] = {}
        self._next = -1

    def take(self, row: int) -> Any:
        """The value of a row of the group."""
        with self._turn:
            number = row // _ROWS_AT_ONCE
            if number not in self._kept and not 0 <= self._next <= number:
                self._restart()
            while number not in self._kept:
                self._kept[self._next] = next(self._batches).column(0)
                self._next += 1
                if len(self._kept) > _KEPT_BATCHES:
                    del self._kept[min(self._kept)]
            return self._kept[number][row % _ROWS_AT_ONCE].as_py()

    def _restart(self) -> None:
        self._batches = self._file.iter_batches(
            batch_size=_ROWS_AT_ONCE, row_groups=[self._group], columns=[self._column]
        )
        self._kept.clear()
        self._next = 0


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _window(name: str, size: int, mtime_ns: int, column: int, group: int) -> _Window:
    file = _open(open_listed(name, size, mtime_ns))
    return _Window(file, file.schema_arrow.names[column], group)


def _open(file: RandomAccessFile) -> Any:
    return pq.ParquetFile(pa.PythonFile(FileObject(file), mode="r"))


def _find_column(schema: Any, name: str, wanted: str | None) -> int:
    """The index of the column that holds images.

    Raises:
        UsageError: It is not clear.
    """
    holding = [field.name for field in schema if _holds_images(field.type)]
    if wanted is None and len(holding) > 1 and _USUAL in holding:
        wanted = _USUAL
    if wanted is None and len(holding) == 1:
        wanted = holding[0]
    if wanted in holding:
        return int(schema.get_field_index(wanted))
    if wanted is not None:
        raise UsageError(
            f"got the column {wanted!r}, which holds no images in {name!r}; columns with images:"
            f" {', '.join(holding) or 'none'}"
        )
    if holding:
        raise UsageError(
            f"{name!r} has several columns that may hold images ({', '.join(holding)}); choose one"
            " with column=..."
        )
    raise UsageError(
        f"{name!r} has no column with images: expected one of bytes, or of {{bytes, path}}; its"
        f" columns are {', '.join(schema.names) or 'none'}"
    )


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return {"bytes", "path"} >= names and "bytes" in names
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _read_file(path: str, size: int) -> bytes:
    if is_remote(path):
        raise ImageError("unsupported_format", "the row names a URL and has no bytes")
    file = open_random_access(path)
    return file.read_at(0, file.size if size < 0 else min(size, file.size))
