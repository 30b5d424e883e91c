"""A zip file in, its members out, checked for what `torch.save` never writes; needs no torch.

Read by our own hand, because a reader that looks at a file in another way than torch does would
check another file: what two readers could disagree on is refused.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from toplabel.errors import CheckpointError

_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCATOR = struct.Struct("<4sLQL")  # where its zip64 form stands
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _SIZES_FOLLOW = 0x1, 0x8
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_MAX_MEMBERS = 50_000
_MAX_DIRECTORY = 8_000_000  # bytes
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive; `header` is the offset of its local header."""

    name: str
    method: int
    flags: int
    crc: int
    stored_size: int
    size: int
    header: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file's members by name, in its own order; `directory` is where their table begins."""

    members: tuple[Member, ...]
    directory: int


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the bytes of a member stand in the file."""

    start: int
    size: int
    crc: int


def read_archive(file: BinaryIO, size: int) -> Archive:
    """The table of contents of a zip file of `size` bytes.

    Raises:
        CheckpointError: It is not there, is damaged or is absurdly long.
    """
    count, length, start, end = _find_directory(file, size)
    if count > _MAX_MEMBERS or length > _MAX_DIRECTORY:
        raise CheckpointError(
            f"it has {count} members; expected one for each tensor, at most {_MAX_MEMBERS}"
        )
    if start + length != end:
        raise CheckpointError("its table of contents is damaged; copy or download it again")
    file.seek(start)
    table = file.read(length)
    try:
        members = _parse_directory(table, count)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise CheckpointError(
            "its table of contents is damaged; copy or download it again"
        ) from error
    return Archive(members, start)


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Number of members, then length, start and end of their table."""
    if size < _END.size:
        raise _cut_short(size)
    place = size - _END.size
    file.seek(place)
    signature, disk, first_disk, here, count, length, start, comment = _END.unpack(
        file.read(_END.size)
    )
    if signature != b"PK\x05\x06" or comment or disk or first_disk or here != count:
        raise _cut_short(size)
    if place < _LOCATOR.size:
        return count, length, start, place
    file.seek(place - _LOCATOR.size)
    signature, _, place64, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if signature != b"PK\x06\x07":
        return count, length, start, place
    if place64 + _END64.size != place - _LOCATOR.size:
        raise CheckpointError("its table of contents is damaged; copy or download it again")
    file.seek(place64)
    signature, _, _, _, _, _, _, count64, length64, start64 = _END64.unpack(file.read(_END64.size))
    short = ((count, count64, _FULL16), (length, length64, _FULL32), (start, start64, _FULL32))
    if signature != b"PK\x06\x06" or any(a not in (b, full) for a, b, full in short):
        raise CheckpointError("its two tables of contents differ; copy or download it again")
    return count64, length64, start64, place64


def _cut_short(size: int) -> CheckpointError:
    return CheckpointError(
        f"it is cut short: its {size} bytes begin as a zip archive and do not end as one;"
        " copy or download it again"
    )


def _parse_directory(table: bytes, count: int) -> tuple[Member, ...]:
    members, at = [], 0
    for _ in range(count):
        entry = _ENTRY.unpack_from(table, at)
        signature, _, _, flags, method, _, _, crc, stored, size, named, extra, note = entry[:13]
        name_at = at + _ENTRY.size
        at = name_at + named + extra + note
        if signature != b"PK\x01\x02" or at > len(table):
            raise IndexError(at)
        fields = table[name_at + named : name_at + named + extra]
        size, stored, header = _wide_sizes(fields, size, stored, entry[-1])
        name = table[name_at : name_at + named].decode("utf-8")
        members.append(Member(name, method, flags, crc, stored, size, header))
    if at != len(table):
        raise IndexError(at)
    return tuple(members)


def _wide_sizes(extra: bytes, *values: int) -> tuple[int, ...]:
    """Those of `values` that 32 bits cannot hold, from the zip64 field of `extra`."""
    if _FULL32 not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return tuple(next(wide, v) if v == _FULL32 else v for v in values)
        at += 4 + length
    return values


def check_structure(file: BinaryIO, archive: Archive) -> dict[str, Extent]:
    """Where the bytes of each member stand, by name.

    Members are stored as they are and do not overlap, so that all of them together are no larger
    than the file.

    Raises:
        CheckpointError: A member is compressed, encrypted, lies outside the file or over another,
            or has a name that is used twice or leads out of the archive.
    """
    names: set[str] = set()
    extents: dict[str, Extent] = {}
    free_from = 0
    for member in sorted(archive.members, key=lambda member: member.header):
        _check_name(member.name)
        # torch looks members up without regard to case
        if member.name.lower() in names:
            raise CheckpointError(f"its member {member.name!r} is there twice; save it anew")
        names.add(member.name.lower())
        if member.method or member.flags & _ENCRYPTED or member.stored_size != member.size:
            raise CheckpointError(
                f"its member {member.name!r} is compressed; expected members stored as they are,"
                " as torch.save writes them: load it where it was made and save it anew"
            )
        start = _data_start(file, member)
        if member.header < free_from or start + member.size > archive.directory:
            raise CheckpointError(
                f"its member {member.name!r} lies over another or beyond the end of the file"
            )
        free_from = start + member.size
        extents[member.name] = Extent(start, member.size, member.crc)
    return extents


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or parts[0] == "" or ".." in parts or any(c in name for c in "\\:\0"):
        raise CheckpointError(f"its member {name[:100]!r} has a name that leads out of the archive")


def _data_start(file: BinaryIO, member: Member) -> int:
    """Where a member's bytes begin, by its local header, which must agree with the table."""
    file.seek(member.header)
    header = file.read(_LOCAL.size)
    if len(header) == _LOCAL.size:
        signature, _, flags, method, _, _, crc, stored, size, named, extra = _LOCAL.unpack(header)
        name: bytes = file.read(named)
        sizes = (crc, stored, size)
        agrees = flags & _SIZES_FOLLOW or sizes == (member.crc, member.stored_size, member.size)
        if (signature, name, method) == (b"PK\x03\x04", member.name.encode(), member.method) and (
            agrees or _FULL32 in sizes
        ):
            return file.tell() + int(extra)
    raise CheckpointError(
        f"its member {member.name!r} is not where its table of contents says;"
        " copy or download it again"
    )


def check_contents(file: BinaryIO, extents: dict[str, Extent]) -> None:
    """Compare every member with its checksum, in little memory.

    Raises:
        CheckpointError: One differs, or the file ends before it does.
    """
    for name, extent in extents.items():
        file.seek(extent.start)
        left, crc = extent.size, 0
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
        if left or crc != extent.crc:
            raise CheckpointError(
                f"its member {name!r} is damaged: it differs from its checksum;"
                " copy or download it again"
            )
