"""A zip file in, its members out, checked for what `torch.save` never writes; needs no torch.

What torch's reader and ours could disagree on is refused.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import compress
from typing import BinaryIO

from toplabel._internal.zip_directory import (
    Directory,
    Extent,
    NoDirectory,
    ReadAt,
    ZipError,
    ZipMember,
    find_directory,
    locate_stored,
    read_members,
)
from toplabel.errors import CheckpointError

_MAX_MEMBERS = 50_000
_MAX_DIRECTORY = 8_000_000  # bytes
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file's directory, and its members with their names, in its own order."""

    directory: Directory
    members: tuple[ZipMember, ...]
    names: tuple[str, ...]


def read_archive(file: BinaryIO, size: int) -> Archive:
    """The members of a zip file of `size` bytes.

    Raises:
        CheckpointError: Its directory is not there, is damaged or is absurdly long.
    """
    try:
        directory = find_directory(_reader(file), size)
        if not (directory.plain or directory.shift):
            raise NoDirectory
    except NoDirectory:
        raise CheckpointError(
            f"it is truncated: its {size} bytes begin as a zip archive and do not end as one; copy"
            " or download it again"
        ) from None
    except ZipError as error:
        raise _damaged(error) from error
    if directory.count > _MAX_MEMBERS or directory.size > _MAX_DIRECTORY:
        raise CheckpointError(
            f"it has {directory.count} members; expected one for each tensor, at most"
            f" {_MAX_MEMBERS}"
        )
    try:
        members = tuple(read_members(_reader(file), directory))
        names = tuple(member.name.decode("utf-8") for member in members)
        if directory.shift or len(members) != directory.count:
            raise ZipError("its directory is damaged")
    except UnicodeDecodeError as error:
        raise _damaged("its directory is damaged") from error
    except ZipError as error:
        raise _damaged(error) from error
    return Archive(directory, members, names)


def weights_of(archive: Archive) -> Archive:
    """The members of a TorchScript archive without its code, which is compressed."""
    kept = [
        name.partition("/")[2].startswith(("data.pkl", "data/", "byteorder"))
        for name in archive.names
    ]
    members, names = compress(archive.members, kept), compress(archive.names, kept)
    return Archive(archive.directory, tuple(members), tuple(names))


def check_structure(file: BinaryIO, archive: Archive) -> dict[str, Extent]:
    """Where the bytes of each member stand, by name.

    Members are stored as they are and do not overlap, so that all of them together are no larger
    than the file.

    Raises:
        CheckpointError: A member is compressed, encrypted, lies outside the file or over another,
            or has a name that is used twice or leads out of the archive.
    """
    folded: set[str] = set()
    for name, member in zip(archive.names, archive.members, strict=True):
        _check_name(name)
        if name.lower() in folded:  # torch looks members up without regard to case
            raise CheckpointError(f"its member {name!r} appears twice; save the checkpoint again")
        folded.add(name.lower())
        if not member.is_stored:
            raise CheckpointError(
                f"its member {name!r} is compressed; expected members stored as they are, as"
                " torch.save writes them: load it where it was made and save it again"
            )
    try:
        extents = locate_stored(_reader(file), archive.members, archive.directory)
    except ZipError as error:
        raise _damaged(error) from error
    return {name.decode("utf-8"): extent for name, extent in extents.items()}


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or parts[0] == "" or ".." in parts or any(c in name for c in "\\:\0"):
        raise CheckpointError(f"its member {name[:100]!r} has a name that leads out of the archive")


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
            raise _damaged(f"its member {name!r} is damaged: it differs from its checksum")


def _reader(file: BinaryIO) -> ReadAt:
    def read_at(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    return read_at


def _damaged(what: object) -> CheckpointError:
    return CheckpointError(f"{what}; copy or download it again")
