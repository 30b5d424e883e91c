"""Zip archives: their images in the order of the central directory, which is not held in memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

from toplabel._internal.zip_directory import (
    DEFLATED,
    ENCRYPTED,
    STORED,
    UTF8_NAME,
    NoDirectory,
    ZipError,
    data_start,
    find_directory,
    read_members,
)
from toplabel.errors import ImageError
from toplabel.image.paths import is_image
from toplabel.runs.entry import Entry
from toplabel.runs.readers.random_access import RandomAccessFile, open_listed, open_random_access

_PIECE_BYTES = 1 << 20


def list_members(name: str, *, column: str | None = None) -> Iterator[Entry]:
    """The images of an archive: "photos.zip#cats/1.jpg".

    Of one whose directory is damaged, those before the damage, and then an entry with the error.
    """
    try:
        file = open_random_access(name)
        yield from _list_images(name, file)
    except NoDirectory:
        text = "it is not a complete zip archive: its directory is missing"
        yield Entry.unreadable(name, "truncated" if file.size else "empty", text)
    except ZipError as error:
        yield Entry.unreadable(name, "corrupt", str(error))
    except ImageError as error:
        yield Entry.unreadable(name, error.code, error.message)


def _list_images(name: str, file: RandomAccessFile) -> Iterator[Entry]:
    for member in read_members(file.read_at, find_directory(file.read_at, file.size)):
        encoding = "utf-8" if member.flags & UTF8_NAME else "cp437"
        path = member.name.decode(encoding, "surrogateescape")
        if not is_image(path):
            continue
        source = f"{name}#{path}"
        if member.flags & ENCRYPTED:
            yield Entry.unreadable(source, "unsupported_format", "it is encrypted")
        elif member.method not in (STORED, DEFLATED):
            text = f"it is compressed by method {member.method}; accepted are stored and deflated"
            yield Entry.unreadable(source, "unsupported_format", text)
        else:
            sizes = (member.stored_size, member.size, member.method, member.crc)
            yield Entry(source, "zip", name, (member.header, *sizes, file.size, file.mtime_ns))


def read_member(entry: Entry, size: int) -> bytes:
    """The bytes of an image in an archive, `size` of them at most; all where that is negative.

    Raises:
        ImageError: It is damaged, or the archive was rewritten.
    """
    offset, packed, length, method, checksum, *stamp = entry.location
    file = open_listed(entry.container, stamp[0], stamp[1])
    wanted = length if size < 0 else min(size, length)
    try:
        start = data_start(file.read_at, offset)
    except ZipError:
        raise ImageError(
            "corrupt", "the archive has no file at the offset in its directory"
        ) from None
    if method == DEFLATED:
        content = _inflate(file, start, packed, wanted)
    else:
        content = file.read_at(start, min(packed, wanted))
    if len(content) < wanted:
        raise ImageError("truncated", "the archive ends within this image")
    if wanted == length and zlib.crc32(content) != checksum:
        raise ImageError("corrupt", "its bytes do not match the checksum in the archive")
    return content


def _inflate(file: RandomAccessFile, start: int, packed: int, wanted: int) -> bytes:
    """The first `wanted` bytes of what is deflated there, and never more."""
    inflating, found, end = zlib.decompressobj(-15), io.BytesIO(), start + packed
    try:
        while wanted > 0 and start < end and not inflating.eof:
            piece = file.read_at(start, min(_PIECE_BYTES, end - start))
            if not piece:
                break
            start += len(piece)
            while piece and wanted > 0:
                wanted -= found.write(inflating.decompress(piece, min(wanted, _PIECE_BYTES)))
                piece = inflating.unconsumed_tail
    except zlib.error as error:
        raise ImageError("corrupt", f"its compressed bytes are damaged: {error}") from error
    return found.getvalue()  # which is no copy
