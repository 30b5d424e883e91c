"""Zip archives: their pictures in the order of the central directory, which is not held in memory.

The layout is that of PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from toplabel.errors import ImageError
from toplabel.image.paths import is_picture
from toplabel.runs.entry import Entry
from toplabel.runs.readers.blob import Blob, known_blob, open_blob
from toplabel.runs.readers.problems import problem, problem_of

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 65_535
_WINDOW_BYTES = 1 << 20
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNKNOWN = 0xFFFFFFFF


def list_members(name: str, *, column: str | None = None) -> Iterator[Entry]:
    """The pictures of an archive: "photos.zip#cats/1.jpg".

    Of one whose directory is damaged, those before the damage, and then an entry that says so.
    """
    try:
        blob = open_blob(name)
        start, size, shift = _find_directory(blob)
        for member, place, flags in _walk(blob, start, size):
            if not is_picture(member):
                continue
            source = f"{name}#{member}"
            if flags & _ENCRYPTED:
                yield problem(source, "unsupported_format", "it is encrypted")
            elif place[3] not in (_STORED, _DEFLATED):
                text = f"it is compressed by method {place[3]}; accepted are stored and deflated"
                yield problem(source, "unsupported_format", text)
            else:
                at = (place[0] + shift, *place[1:], blob.size, blob.mtime_ns)
                yield Entry(source, "zip", name, at)
    except ImageError as error:
        yield problem_of(name, error)


def read_member(entry: Entry, size: int) -> bytes:
    """The bytes of a picture in an archive, `size` of them at most; all where that is negative.

    Raises:
        ImageError: It is damaged, or the archive was written anew.
    """
    offset, packed, length, method, checksum, *stamp = entry.place
    blob = known_blob(entry.container, stamp[0], stamp[1])
    wanted = length if size < 0 else min(size, length)
    header = blob.read_at(offset, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise ImageError("corrupt", "the archive has no file where its directory says so")
    names = _LOCAL.unpack(header)[9:11]
    start = offset + _LOCAL.size + sum(names)
    if method == _DEFLATED:
        content = _inflate(blob, start, packed, wanted)
    else:
        content = blob.read_at(start, min(packed, wanted))
    if len(content) < wanted:
        raise ImageError("truncated", "the archive ends within this picture")
    if wanted == length and zlib.crc32(content) != checksum:
        raise ImageError("corrupt", "its bytes do not have the checksum of the archive")
    return content


def _inflate(blob: Blob, start: int, packed: int, wanted: int) -> bytes:
    """The first `wanted` bytes of what is deflated there, and never more."""
    inflating, found, end = zlib.decompressobj(-15), [], start + packed
    try:
        while wanted > 0 and start < end and not inflating.eof:
            piece = blob.read_at(start, min(_WINDOW_BYTES, end - start))
            if not piece:
                break
            start += len(piece)
            while piece and wanted > 0:
                found.append(inflating.decompress(piece, wanted))
                wanted -= len(found[-1])
                piece = inflating.unconsumed_tail
    except zlib.error as error:
        raise ImageError("corrupt", f"its compressed bytes are damaged: {error}") from error
    return b"".join(found)


def _find_directory(blob: Blob) -> tuple[int, int, int]:
    """Where the directory begins, its bytes, and how far all offsets are shifted.

    Raises:
        ImageError: There is none.
    """
    tail_start = max(0, blob.size - _END.size - _LONGEST_COMMENT)
    tail = blob.read_at(tail_start, blob.size - tail_start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise ImageError(
            "truncated" if blob.size else "empty",
            "it is no whole zip archive: its directory is missing",
        )
    fields = _END.unpack_from(tail, at)
    size, start, end = _find_directory64(blob, tail_start + at, fields[5], fields[6])
    real_start = end - size
    if real_start < 0 or start > real_start:
        raise ImageError("corrupt", "its directory lies outside of the archive")
    return real_start, size, real_start - start


def _find_directory64(blob: Blob, end: int, size: int, start: int) -> tuple[int, int, int]:
    """Size, start and end of the directory, by the record for large archives where there is one."""
    locator = blob.read_at(max(0, end - _LOCATOR64.size), _LOCATOR64.size)
    if not locator.startswith(b"PK\6\7") or len(locator) < _LOCATOR64.size:
        return size, start, end
    at = _LOCATOR64.unpack(locator)[2]
    record = blob.read_at(at, _END64.size)
    if not record.startswith(b"PK\6\6") or len(record) < _END64.size:
        raise ImageError("corrupt", "its zip64 directory is damaged")
    fields = _END64.unpack(record)
    return fields[8], fields[9], at


def _walk(blob: Blob, start: int, size: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name, place (offset, packed size, size, method, checksum) and flags of each file."""
    at, end, window = start, start + size, b""
    position = 0
    while at < end:
        if len(window) - position < _CENTRAL.size + 3 * 0xFFFF:
            window, position = blob.read_at(at, min(_WINDOW_BYTES, end - at)), 0
        if not window.startswith(b"PK\1\2", position) or len(window) - position < _CENTRAL.size:
            raise ImageError("corrupt", "its directory is damaged")
        fields = _CENTRAL.unpack_from(window, position)
        flags, method, checksum, packed, length = fields[3], fields[4], *fields[7:10]
        lengths, offset = fields[10:13], fields[16]
        name_at = position + _CENTRAL.size
        name = window[name_at : name_at + lengths[0]]
        extra = window[name_at + lengths[0] : name_at + lengths[0] + lengths[1]]
        length, packed, offset = _large(extra, length, packed, offset)
        text = name.decode("utf-8" if flags & _UTF8 else "cp437", "surrogateescape")
        yield text, (offset, packed, length, method, checksum), flags
        step = _CENTRAL.size + sum(lengths)
        at, position = at + step, position + step


def _large(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Size, packed size and offset; those that do not fit into 32 bits stand in the extra field."""
    found, at = list(values), 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind == 1:
            wide = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
            for place, value in enumerate(found):
                if value == _UNKNOWN and wide:
                    found[place] = wide.pop(0)
        at += 4 + length
    return found[0], found[1], found[2]
