"""Pages of a Parquet column: what each takes in memory, read from their headers before any is.

Neither the table's footer nor Arrow says how large a page becomes: 9 kB on disk may be 300 MB. The
layout is Thrift's compact protocol and `PageHeader` of the Parquet format's `parquet.thrift`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

ReadAt = Callable[[int, int], bytes]
"""Offset and size in, those bytes out, or as many as there are."""

_HEAD_BYTES = 1 << 12
_MOST_HEAD_BYTES = 1 << 20  # statistics with long values stand in it
_DEPTH = 16


class PageError(ValueError):
    """A page's header is damaged."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page, as its header says.

    Args:
        unpacked: Its bytes in memory.
        packed: Its bytes in the file, from `start` on.
        kind: "data" and "data2" of the format's two versions; "dictionary"; "" for others.
        crc: Checksum of the packed bytes, where it has one.
        values: How many it has, nulls too.
        encoding: Of the values, by its number in the format.
        level_bytes: Of "data2" alone, whose levels stand before the values and are not compressed.
        is_compressed: Its values are, where the column's are.
    """

    unpacked: int = 0
    packed: int = 0
    start: int = 0
    kind: str = ""
    crc: int | None = None
    values: int = 0
    encoding: int = 0
    level_bytes: int = 0
    is_compressed: bool = True


def largest_page(read_at: ReadAt, start: int, size: int) -> Page:
    """The page of a column chunk that takes the most memory when it is decompressed.

    Args:
        read_at: Reads the file.
        start: Offset of the chunk's first page.
        size: Of all its pages with their headers.

    Raises:
        PageError: They are damaged.
    """
    return max(read_pages(read_at, start, size), key=lambda page: page.unpacked, default=Page())


def read_pages(read_at: ReadAt, start: int, size: int) -> Iterator[Page]:
    """The pages of a column chunk in order, of which the headers alone are read.

    Raises:
        PageError: They are damaged.
    """
    at, end = start, start + size
    while at < end:
        length, page = _read_header(read_at, at, end)
        yield replace(page, start=at + length)
        at += length + page.packed


def _read_header(read_at: ReadAt, at: int, end: int) -> tuple[int, Page]:
    """The header's own length, and its page, without where that begins."""
    room = _HEAD_BYTES
    while True:
        content = read_at(at, min(room, end - at))
        try:
            return _parse(content)
        except IndexError:
            if len(content) < room or room >= _MOST_HEAD_BYTES:
                raise PageError("a page's header is damaged") from None
        room *= 16


_KINDS = {0: "data", 2: "dictionary", 3: "data2"}
_OF_KIND = {5: {1: "values", 2: "encoding"}, 7: {1: "values", 2: "encoding"}}
_OF_KIND[8] = {1: "values", 4: "encoding", 5: "definitions", 6: "repetitions", 7: "is_compressed"}
"""Numbers of the fields that are needed, in the headers of the three kinds of pages."""


def _parse(content: bytes) -> tuple[int, Page]:
    sizes = {1: -1, 2: -1, 3: -1, 4: -1}
    more: dict[str, int] = {}
    reader = _Compact(content)
    for field, kind in reader.fields():
        if field in sizes and kind == _I32:
            sizes[field] = reader.number()
            more |= {"crc": sizes[4]} if field == 4 else {}
        elif field in _OF_KIND and kind == _STRUCT:
            more |= reader.numbers(_OF_KIND[field])
        else:
            reader.skip(kind, _DEPTH)
    if min(sizes[2], sizes[3]) < 0:
        raise PageError("a page has no size")
    return reader.at, Page(
        unpacked=sizes[2],
        packed=sizes[3],
        kind=_KINDS.get(sizes[1], ""),
        crc=more.get("crc"),
        values=max(0, more.get("values", 0)),
        encoding=more.get("encoding", 0),
        level_bytes=max(0, more.get("definitions", 0)) + max(0, more.get("repetitions", 0)),
        is_compressed=bool(more.get("is_compressed", 1)),
    )


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

    def numbers(self, names: Mapping[int, str]) -> dict[str, int]:
        """The numbers of a struct that have a name; the rest of it is skipped."""
        found = {}
        for field, kind in self.fields():
            if field in names and kind in (_TRUE, _FALSE):
                found[names[field]] = int(kind == _TRUE)
            elif field in names and kind == _I32:
                found[names[field]] = self.number()
            else:
                self.skip(kind, _DEPTH)
        return found

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
