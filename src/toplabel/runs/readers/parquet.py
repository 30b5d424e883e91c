"""Parquet tables with a column of images: bytes, or Hugging Face's {bytes, path}."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.errors import ImageError, UsageError
from toplabel.runs.entry import Entry
from toplabel.runs.readers.kinds import is_remote
from toplabel.runs.readers.parquet_pages import Page, largest_page, read_pages
from toplabel.runs.readers.parquet_values import ColumnValues, can_walk
from toplabel.runs.readers.random_access import (
    FileObject,
    RandomAccessFile,
    open_listed,
    open_random_access,
)

pa: Any = require("pyarrow", extra="parquet", purpose="reading Parquet")
pq: Any = require("pyarrow.parquet", extra="parquet", purpose="reading Parquet")

_DAMAGES = (
    *(pa.ArrowException, OSError, ValueError, LookupError, OverflowError, StopIteration),
    *(EOFError, zlib.error),
)
_USUAL = "image"
_ROWS_AT_ONCE = 32
_KEPT_BATCHES = 8
_OPEN_AT_ONCE = 4
_BUFFER_BYTES = 1 << 20
_MOST_PAGE_BYTES = 96 << 20
"""A page is decompressed at once, and its values are copied out of it."""

_WALKED_BYTES = 48 << 20
"""Of a larger page the values are read one by one, where that is possible."""

_MOST_RATIO = 20
"""How much smaller than in memory a large page of images may be on disk: they are compressed."""


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


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that is open, and the lock for the thread that reads it."""

    source: RandomAccessFile
    file: Any
    turn: threading.Lock


class _Window:
    """A row group's images, a few rows at a time, mostly forward; for several threads."""

    def __init__(self, table: _Table, column: str, group: int) -> None:
        self._file, self._column, self._group = table.file, column, group
        self._turn = table.turn
        self._type = table.file.schema_arrow.field(column).type
        self._paths: Any = None
        with self._turn:
            largest = _largest_page(table, column, group)
        if largest.unpacked > _MOST_PAGE_BYTES and largest.unpacked > _MOST_RATIO * largest.packed:
            raise ImageError(
                "too_large",
                f"its page of the table takes {largest.unpacked / 2**20:,.0f} MiB of memory and"
                f" {largest.packed / 2**10:,.0f} KiB on disk, which no images do; at most"
                f" {_MOST_PAGE_BYTES >> 20} MiB are read then",
            )
        self._values = None
        if largest.unpacked > _WALKED_BYTES:
            with self._turn:
                self._values = _column_values(table, column, group)
        # a value may stand in a dictionary once and in every row: rows times the page is the most
        self._rows = max(1, min(_ROWS_AT_ONCE, _MOST_PAGE_BYTES // max(1, largest.unpacked)))
        self._batches: Iterator[Any] = iter(())
        self._kept: dict[int, Any] = {}
        self._next = -1
        self._damage: tuple[int, Exception] | None = None  # and from where on

    def take(self, row: int) -> Any:
        """The value of a row of the group."""
        with self._turn:
            if self._values is not None:
                return self._walked(self._values, row)
            number = row // self._rows
            if number not in self._kept and not 0 <= self._next <= number:
                self._restart()
            if self._damage is not None and number >= self._damage[0]:
                raise self._damage[1]
            while number not in self._kept:
                try:
                    self._kept[self._next] = next(self._batches).column(0)
                except ImageError:  # the file cannot be read now; no damage of it
                    self._next = -1
                    raise
                except _DAMAGES as error:
                    self._damage = self._next, error
                    raise
                self._next += 1
                if len(self._kept) > (_KEPT_BATCHES if self._rows == _ROWS_AT_ONCE else 1):
                    del self._kept[min(self._kept)]
            return self._kept[number][row % self._rows].as_py()

    def _walked(self, values: ColumnValues, row: int) -> Any:
        """The same, where values are read one by one."""
        content = values.take(row)
        if content is not None or not pa.types.is_struct(self._type):
            return content
        if self._paths is None:
            only = [f"{self._column}.path"]
            self._paths = self._file.read_row_group(self._group, columns=only).column(0)
        return {"bytes": None, **(self._paths[row].as_py() or {})}

    def _restart(self) -> None:
        self._batches = self._file.iter_batches(
            batch_size=self._rows, row_groups=[self._group], columns=[self._column]
        )
        self._kept.clear()
        self._next = 0


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _window(name: str, size: int, mtime_ns: int, column: int, group: int) -> _Window:
    table = _table(name, size, mtime_ns)
    return _Window(table, table.file.schema_arrow.names[column], group)


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _table(name: str, size: int, mtime_ns: int) -> _Table:
    """The table, whose footer is read once for all of its row groups."""
    source = open_listed(name, size, mtime_ns)
    return _Table(source, _open(source), threading.Lock())


def _open(file: RandomAccessFile) -> Any:
    """Page by page, not a row group at once, and with the checksums of pages that have them."""
    return pq.ParquetFile(
        pa.PythonFile(FileObject(file), mode="r"),
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,
        page_checksum_verification=True,
    )


def _largest_page(table: _Table, column: str, group: int) -> Page:
    """The largest page of a column's chunks in a row group."""
    pages, metadata = [Page()], table.file.metadata.row_group(group)
    for number in range(metadata.num_columns):
        chunk = metadata.column(number)
        if f"{chunk.path_in_schema}.".startswith(f"{column}."):  # itself, or a field of it
            offsets = (chunk.data_page_offset, chunk.dictionary_page_offset or 0)
            start = min(offset for offset in offsets if offset > 0)
            size = chunk.total_compressed_size
            pages.append(largest_page(table.source.read_at, start, size))
    return max(pages, key=lambda page: page.unpacked)


def _column_values(table: _Table, column: str, group: int) -> ColumnValues | None:
    """The values of a column of images, one by one; None where its pages cannot be walked."""
    metadata = table.file.metadata.row_group(group)
    for number in range(metadata.num_columns):
        chunk, kind = metadata.column(number), table.file.schema.column(number)
        if chunk.path_in_schema not in (column, f"{column}.bytes"):
            continue
        offsets = (chunk.data_page_offset, chunk.dictionary_page_offset or 0)
        start, size = min(offset for offset in offsets if offset > 0), chunk.total_compressed_size
        codec = {"UNCOMPRESSED": "none"}.get(chunk.compression, chunk.compression.lower())
        pages = read_pages(table.source.read_at, start, size)
        if chunk.physical_type != "BYTE_ARRAY" or kind.max_repetition_level:
            return None
        if not can_walk(pages, codec):
            return None
        levels = kind.max_definition_level
        return ColumnValues(table.source, start, size, codec=codec, levels=levels)
    return None


def _find_column(schema: Any, name: str, wanted: str | None) -> int:
    """The index of the column that holds images.

    Raises:
        UsageError: It is not clear.
    """
    holding = list(dict.fromkeys(field.name for field in schema if _holds_images(field.type)))
    if wanted is None and len(holding) > 1 and _USUAL in holding:
        wanted = _USUAL
    if wanted is None and len(holding) == 1:
        wanted = holding[0]
    if wanted in holding and schema.names.count(wanted) > 1:
        raise UsageError(f"{name!r} has several columns called {wanted!r}; rename one of them")
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
    while pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind.storage_type
    if pa.types.is_struct(kind):
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return "bytes" in fields and _is_bytes(fields["bytes"])
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*kinds, pa.types.is_fixed_size_binary))


def _read_file(path: str, size: int) -> bytes:
    if is_remote(path):
        raise ImageError("unsupported_format", "the row names a URL and has no bytes")
    file = open_random_access(path)
    return file.read_at(0, file.size if size < 0 else min(size, file.size))
