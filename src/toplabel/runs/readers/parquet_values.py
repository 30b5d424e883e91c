"""Values of a Parquet column whose pages are too large for memory: read one by one from a stream.

Arrow decompresses a page at once and copies it; what writers call a page may be a thousand photos.
Pages of plain byte arrays, or of a dictionary of such, are walked instead: lengths and bytes one
after the other. The layout is that of the Parquet format's Encodings.md and of Snappy's format.
"""

from __future__ import annotations

import gzip
import io
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.optional import require
from toplabel.runs.readers.parquet_pages import Page, PageError, read_pages
from toplabel.runs.readers.random_access import FileObject, ForwardReader, RandomAccessFile, Stream

pa: Any = require("pyarrow", extra="parquet", purpose="reading Parquet")

_PIECE_BYTES = 1 << 20
_PASSED_BYTES = 32 << 20
_MOST_PACKING = 1.25
"""Of Snappy, which is undone here byte for byte where it has found something to pack."""

_MOST_BITS = 32
_MOST_VALUES = 1 << 22  # of one page; each costs some bytes

_PLAIN, _DICTIONARIES = 0, (2, 8)  # a dictionary's own page may say 2 for plain, too


class Part:
    """Some bytes of a file, as a file."""

    def __init__(self, file: RandomAccessFile, start: int, size: int) -> None:
        self._file, self._start, self.size = file, start, size
        self.mtime_ns = 0

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`."""
        return self._file.read_at(self._start + offset, max(0, min(size, self.size - offset)))


class _Readable(Protocol):
    def read_at(self, offset: int, size: int) -> bytes: ...


class ColumnValues:
    """The values of a column chunk of byte arrays, by their row: bytes, or None.

    Args:
        file: The table.
        start: Offset of the chunk's first page.
        size: Of its pages.
        codec: Arrow's name of their compression: "none", "snappy", "gzip", "zstd", "brotli".
        levels: The column's largest definition level: how often it is optional.

    Raises:
        PageError: A page is damaged, or of a kind that cannot be walked.
    """

    def __init__(
        self, file: RandomAccessFile, start: int, size: int, *, codec: str, levels: int
    ) -> None:
        self._file, self._codec, self._levels = file, codec, levels
        self._dictionary: _Plain | None = None
        self._pages: list[Page] = []
        self._starts = [0]
        for page in read_pages(file.read_at, start, size):
            self._check(page)
            if page.kind == "dictionary":
                self._dictionary = _Plain(self._body(page), 0)
            else:
                self._pages.append(page)
                self._starts.append(self._starts[-1] + page.values)
        self._open: tuple[int, Callable[[int], bytes | None]] | None = None

    def take(self, row: int) -> bytes | None:
        """The value of a row; None where there is none."""
        number = bisect_right(self._starts, row) - 1
        if number >= len(self._pages):
            raise PageError("a page of the table has fewer values than its footer says")
        if self._open is None or self._open[0] != number:
            self._open = number, self._values(self._pages[number])
        return self._open[1](row - self._starts[number])

    def _check(self, page: Page) -> None:
        if page.crc is not None:
            found, part = 0, Part(self._file, page.start, page.packed)
            for at in range(0, page.packed, _PIECE_BYTES):
                found = zlib.crc32(part.read_at(at, _PIECE_BYTES), found)
            if found != page.crc & 0xFFFFFFFF:
                raise PageError("a page does not match its checksum (CRC)")

    def _body(self, page: Page, skipped: int = 0) -> _Readable:
        """The page's bytes behind its levels, decompressed as they are read."""
        part = Part(self._file, page.start + skipped, page.packed - skipped)
        codec = self._codec if page.is_compressed else "none"
        return ForwardReader(lambda: _decompressed(part, codec), keep_bytes=_PASSED_BYTES)

    def _values(self, page: Page) -> Callable[[int], bytes | None]:
        """What gives the values of a page by their place."""
        skipped = page.level_bytes if page.kind == "data2" else 0
        body, at = self._body(page, skipped), 0
        present = np.ones(page.values, np.bool_)
        if self._levels:
            if page.kind == "data2":
                levels = self._file.read_at(page.start, page.level_bytes)
            else:
                at = 4 + int.from_bytes(body.read_at(0, 4), "little")
                levels = body.read_at(4, at - 4)
            width = self._levels.bit_length()
            present = _hybrid(levels, width, page.values) == self._levels
        place = np.cumsum(present) - 1
        if page.encoding == _PLAIN:
            get: Callable[[int], bytes] = _Plain(body, at).take
        elif page.encoding in _DICTIONARIES and self._dictionary is not None:
            content = body.read_at(at, page.unpacked - skipped - at)
            indices = _hybrid(content[1:], content[0] if content else 0, int(place[-1]) + 1)
            dictionary = self._dictionary

            def get(at: int) -> bytes:
                return dictionary.take(int(indices[at]))
        else:
            raise PageError(f"a page has the encoding {page.encoding}")
        return lambda row: get(int(place[row])) if present[row] else None


class _Plain:
    """Byte arrays one after the other, each behind its length, by their place."""

    def __init__(self, body: _Readable, start: int) -> None:
        self._body = body
        self._starts = [start]

    def take(self, place: int) -> bytes:
        """The one at that place."""
        while len(self._starts) <= place:
            start = self._starts[-1]
            self._starts.append(start + 4 + self._length(start))
        start = self._starts[place]
        length = self._length(start)
        content = self._body.read_at(start + 4, length)
        if len(content) < length:
            raise PageError("a page ends early")
        return content

    def _length(self, start: int) -> int:
        content = self._body.read_at(start, 4)
        if len(content) < 4:
            raise PageError("a page ends early")
        return int.from_bytes(content, "little")


def _hybrid(content: bytes, width: int, count: int) -> NDArray[np.int64]:
    """The first `count` numbers of Parquet's run lengths and packed bits, each of `width` bits."""
    found: list[NDArray[np.int64]] = []
    at, left = 0, count
    if width > _MOST_BITS:
        raise PageError(f"a page has numbers of {width} bits")
    if not width:
        return np.zeros(count, np.int64)
    while left > 0:
        header = shift = 0
        while True:
            if at >= len(content):
                raise PageError("a page's levels or indices end early")
            header |= (content[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if content[at - 1] < 0x80:
                break
        if header & 1:
            size = (header >> 1) * width
            packed = np.frombuffer(content[at : at + size], np.uint8)
            bits = np.unpackbits(packed, bitorder="little")
            whole = bits[: len(bits) // width * width].reshape(-1, width)
            numbers = whole.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
            at += size
        else:
            size = (width + 7) // 8
            number = int.from_bytes(content[at : at + size], "little")
            numbers = np.full(min(header >> 1, left), number, np.int64)
            at += size
        if not len(numbers):
            raise PageError("a page's levels or indices are damaged")
        found.append(numbers[:left])
        left -= len(found[-1])
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _decompressed(part: Part, codec: str) -> Stream:
    """A page's bytes as they are decompressed."""
    file = io.BufferedReader(FileObject(part), _PIECE_BYTES)
    if codec == "none":
        return cast(Stream, file)
    if codec == "snappy":
        return _Pieces(_unsnapped(cast(IO[bytes], file)))
    if codec == "gzip":
        return cast(Stream, gzip.GzipFile(fileobj=file, mode="rb"))
    stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)
    return _Pieces(iter(lambda: bytes(stream.read(_PIECE_BYTES)), b""))


class _Pieces:
    """Pieces of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read1(self, size: int, /) -> bytes:
        """The next piece, of any size; none at the end."""
        return next(self._pieces, b"")


def _unsnapped(file: IO[bytes]) -> Iterator[bytes]:
    """Snappy's raw format undone, in pieces; copies reach back a mebibyte at most."""
    while file.read(1)[0] >= 0x80:  # the size, which is known
        pass
    done = bytearray()
    while tag := file.read(1):
        kind, more = tag[0] & 3, tag[0] >> 2
        if kind == 0:
            length = more + 1
            if more >= 60:
                length = int.from_bytes(file.read(more - 59), "little") + 1
            while length:
                piece = file.read(min(length, _PIECE_BYTES))
                if not piece:
                    raise PageError("a page ends early")
                done += piece
                length -= len(piece)
                if len(done) >= 2 * _PIECE_BYTES:
                    yield bytes(done[:-_PIECE_BYTES])
                    del done[:-_PIECE_BYTES]
        else:
            length = (more & 7) + 4 if kind == 1 else more + 1
            extra = file.read((0, 1, 2, 4)[kind])
            offset = int.from_bytes(extra, "little") | ((tag[0] >> 5) << 8 if kind == 1 else 0)
            if not 0 < offset <= len(done):
                raise PageError("a page's compressed bytes are damaged")
            run = done[-offset:][:length]
            done += (run * (length // len(run) + 1))[:length]
    yield bytes(done)


def can_walk(pages: Iterable[Page], codec: str) -> bool:
    """Whether the values in such pages can be read one by one, in little time."""
    if codec not in ("none", "snappy", "gzip", "zstd", "brotli"):
        return False
    for page in pages:
        is_plain = (
            page.encoding in (_PLAIN, 2)
            if page.kind == "dictionary"
            else (page.encoding in (_PLAIN, *_DICTIONARIES) and page.kind != "")
        )
        packs = page.unpacked > _MOST_PACKING * page.packed and page.unpacked > _PIECE_BYTES
        if not is_plain or page.values > _MOST_VALUES or (codec == "snappy" and packs):
            return False
    return True
