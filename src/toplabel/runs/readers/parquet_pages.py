"""Pages of a Parquet column: what each takes in memory, read from their headers before any is.

Neither the table's footer nor Arrow says how large a page becomes: 9 kB on disk may be 300 MB. The
layout is Thrift's compact protocol and `PageHeader` of the Parquet format's `parquet.thrift`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

ReadAt = Callable[[int, int], bytes]
"""Offset and size in, those bytes out, or as many as there are."""

_HEAD_BYTES = 1 << 12
_MOST_HEAD_BYTES = 1 << 20  # statistics with long values stand in it
_DEPTH = 16


class PageError(ValueError):
    """A page's header is damaged."""


@dataclass(frozen=True, slots=True)
class PageSize:
    """Bytes of a page in memory, and in the file."""

    unpacked: int
    packed: int


def largest_page(read_at: ReadAt, start: int, size: int) -> PageSize:
    """The page of a column chunk that takes the most memory when it is decompressed.

    Args:
        read_at: Reads the file.
        start: Offset of the chunk's first page.
        size: Of all its pages with their headers.

    Raises:
        PageError: They are damaged.
    """
    at, end, largest = start, start + size, PageSize(0, 0)
    while at < end:
        length, page = _read_header(read_at, at, end)
        if page.unpacked > largest.unpacked:
            largest = page
        at += length + page.packed
    return largest


def _read_header(read_at: ReadAt, at: int, end: int) -> tuple[int, PageSize]:
    """The header's own length, and its page's size."""
    room = _HEAD_BYTES
    while True:
        content = read_at(at, min(room, end - at))
        try:
            return _parse(content)
        except IndexError:
            if len(content) < room or room >= _MOST_HEAD_BYTES:
                raise PageError("a page's header is damaged") from None
        room *= 16


def _parse(content: bytes) -> tuple[int, PageSize]:
    sizes = {2: -1, 3: -1}
    reader = _Compact(content)
    for field, kind in reader.fields():
        if field in sizes and kind == _I32:
            sizes[field] = reader.number()
        else:
            reader.skip(kind, _DEPTH)
    if min(sizes.values()) < 0:
        raise PageError("a page has no size")
    return reader.at, PageSize(sizes[2], sizes[3])


_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_STRUCT = 12


class _Compact:
    """Thrift's compact protocol, as far as headers need it. An IndexError: the bytes end early."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self._content[self.at - 1]

    def unsigned(self) -> int:
        value = shift = 0
        while shift < 64:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise PageError("a number in a page's header is too long")

    def number(self) -> int:
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """The number and kind of each field of a struct; who asks reads or skips its value."""
        field = 0
        while byte := self.byte():
            delta, kind = byte >> 4, byte & 0xF
            field = field + delta if delta else self.number()
            yield field, kind

    def skip(self, kind: int, depth: int) -> None:
        if not depth:
            raise PageError("a page's header is too deep")
        if kind in (_TRUE, _FALSE):
            return
        if kind in (_BYTE, _DOUBLE, _BINARY):
            length = self.unsigned() if kind == _BINARY else {_BYTE: 1, _DOUBLE: 8}[kind]
            self.at += length
            if self.at > len(self._content):
                raise IndexError
        elif kind in (_I16, _I32, _I64):
            self.unsigned()
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth - 1)
        else:
            raise PageError("a page's header holds what none has")
