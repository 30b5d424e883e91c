"""A zip file's directory: a way to read the file in, its members out. The parser of every reader.

Strict, because a reader that looks at a file in another way than the next one checks another file.
The layout is that of PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

ReadAt = Callable[[int, int], bytes]
"""Offset and size in, those bytes out, or as many as there are."""

STORED, DEFLATED = 0, 8  # methods of compression
ENCRYPTED, UTF8_NAME, _SIZES_FOLLOW = 0x1, 0x800, 0x8  # flags

_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")  # where the record for large archives stands
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_WINDOW_BYTES = 1 << 20
_NO_OFFSET = 1 << 63  # in no file; the system would not take it


class ZipError(ValueError):
    """What is wrong with a zip file, as "its directory is damaged"."""


class NoDirectory(ZipError):
    """It does not end as a zip file does: cut short, or something else."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the directory stands.

    `shift` is to be added to all offsets in it: the archive follows `shift` bytes of something
    else. `plain`: nothing precedes or follows it, no comment, and it is not split into volumes.
    """

    start: int
    size: int
    count: int
    shift: int
    plain: bool


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One file in the archive.

    `header` is the offset of its local header in the file, `mode` Unix's `st_mode` where stated.
    """

    name: bytes
    flags: int
    method: int
    crc: int
    stored_size: int
    size: int
    header: int
    mode: int

    @property
    def is_stored(self) -> bool:
        """Whether its bytes stand in the file as they are: not compressed, not encrypted."""
        plain = self.method == STORED and not self.flags & ENCRYPTED
        return plain and self.stored_size == self.size


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the bytes of a stored member stand in the file."""

    start: int
    size: int
    crc: int


def find_directory(read_at: ReadAt, size: int) -> Directory:
    """The directory of a zip file of `size` bytes.

    Raises:
        NoDirectory: There is none.
        ZipError: It is damaged.
    """
    tail_start = max(0, size - _END.size - _FULL16)  # a comment may follow
    tail = read_at(tail_start, size - tail_start)
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6":
        at = tail.rfind(b"PK\5\6", 0, max(0, at + 4))
    if at < 0:
        raise NoDirectory("its directory is missing")
    _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, at)
    plain = at + _END.size == len(tail) and tail[-2:] == b"\0\0"
    plain = plain and not disk and not first_disk and here == count
    end = tail_start + at
    locator = read_at(end - _LOCATOR64.size, _LOCATOR64.size) if end >= _LOCATOR64.size else b""
    if locator.startswith(b"PK\6\7"):
        end -= _LOCATOR64.size + _END64.size
        record = read_at(end, _END64.size) if end >= 0 else b""
        if not record.startswith(b"PK\6\6") or _LOCATOR64.unpack(locator)[2] != end:
            raise ZipError("its zip64 directory is damaged")
        count64, length64, start64 = _END64.unpack(record)[7:]
        short = ((count, count64, _FULL16), (length, length64, _FULL32), (start, start64, _FULL32))
        if any(value not in (wide, full) for value, wide, full in short):
            raise ZipError("its two directories, zip and zip64, differ")
        count, length, start = count64, length64, start64
    shift = end - length - start
    if shift < 0 or length > end:
        raise ZipError("its directory lies outside of the file")
    return Directory(end - length, length, count, shift, plain and not shift)


def read_members(read_at: ReadAt, directory: Directory) -> Iterator[ZipMember]:
    """The members in the directory's order, read in pieces, so that it may be of any length.

    Raises:
        ZipError: The directory is damaged from here on.
    """
    at, end = directory.start, directory.start + directory.size
    window, position = b"", 0
    while at < end:
        left = len(window) - position
        if left < _CENTRAL.size + 3 * _FULL16 and left < end - at:
            window, position = read_at(at, min(_WINDOW_BYTES, end - at)), 0
        if not window.startswith(b"PK\1\2", position) or len(window) - position < _CENTRAL.size:
            raise ZipError("its directory is damaged")
        fields = _CENTRAL.unpack_from(window, position)
        flags, method, crc, stored_size, size, named, extra, note = fields[3:5] + fields[7:13]
        name_at = position + _CENTRAL.size
        extra_at = name_at + named
        step = _CENTRAL.size + named + extra + note
        if position + step > len(window):
            raise ZipError("its directory is damaged")
        wide = _wide_sizes(window[extra_at : extra_at + extra], size, stored_size, fields[16])
        size, stored_size, offset = wide
        name = window[name_at:extra_at]
        header = offset + directory.shift
        yield ZipMember(name, flags, method, crc, stored_size, size, header, fields[15] >> 16)
        at, position = at + step, position + step


def _wide_sizes(extra: bytes, *values: int) -> tuple[int, ...]:
    """Those of `values` that 32 bits cannot hold, from the zip64 field of `extra`."""
    if _FULL32 not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            raise ZipError("its directory is damaged")
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return tuple(next(wide, v) if v == _FULL32 else v for v in values)
        at += 4 + length
    return values


def data_start(read_at: ReadAt, header: int, member: ZipMember | None = None) -> int:
    """Where the bytes of a member begin, by its local header at `header`.

    Args:
        read_at: Reads the file.
        header: The offset of the local header.
        member: What the directory knows of it, with which the local header must agree.

    Raises:
        ZipError: There is none, or it does not agree.
    """
    content = read_at(header, _LOCAL.size) if header < _NO_OFFSET else b""
    if len(content) == _LOCAL.size and content.startswith(b"PK\3\4"):
        _, _, flags, method, _, _, crc, stored, size, named, extra = _LOCAL.unpack(content)
        name_at = header + _LOCAL.size
        sizes = (crc, stored, size)
        if member is None or (
            (read_at(name_at, named), method) == (member.name, member.method)
            and (
                flags & _SIZES_FOLLOW
                or _FULL32 in sizes
                or sizes == (member.crc, member.stored_size, member.size)
            )
        ):
            return name_at + int(named) + int(extra)
    what = "a member" if member is None else f"its member {_shown(member)}"
    raise ZipError(f"{what} is not where its directory says")


def locate_stored(
    read_at: ReadAt, members: Iterable[ZipMember], directory: Directory
) -> dict[bytes, Extent]:
    """Where the bytes of each member stand, by name.

    Members do not overlap, so that all of them together are no larger than the file. They must be
    stored as they are (`ZipMember.is_stored`), each under another name.

    Raises:
        ZipError: One lies over another or over the directory, or is not where the directory says.
    """
    extents: dict[bytes, Extent] = {}
    free_from = 0
    for member in sorted(members, key=lambda member: member.header):
        start = data_start(read_at, member.header, member)
        if member.header < free_from or start + member.size > directory.start:
            raise ZipError(
                f"its member {_shown(member)} lies over another or beyond the end of the file"
            )
        free_from = start + member.size
        extents[member.name] = Extent(start, member.size, member.crc)
    return extents


def _shown(member: ZipMember) -> str:
    return repr(member.name.decode("utf-8", "replace")[:100])
