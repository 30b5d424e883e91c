"""Old tar: the format of torch before 2017 in, where its pickle stands out; never unpacked."""

from __future__ import annotations

import tarfile
from typing import BinaryIO

_BLOCK = tarfile.BLOCKSIZE
_MOST_MEMBERS = 100


def is_tar(start: bytes) -> bool:
    """Whether a file that begins so is a tar archive of any kind, as Python's reader sees it."""
    return _parse(start) is not None


def find_member(file: BinaryIO, name: str) -> tuple[int, int] | None:
    """Where the bytes of a member begin and end, None where there is no such member."""
    place = 0
    for _ in range(_MOST_MEMBERS):
        file.seek(place)
        member = _parse(file.read(_BLOCK))
        if member is None or member.size < 0:
            return None
        start = place + _BLOCK
        if member.name == name:
            return start, start + member.size
        place = start + -(-member.size // _BLOCK) * _BLOCK
    return None


def _parse(header: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(header[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
