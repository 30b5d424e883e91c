"""Containers: whether a file that could not be decoded ends before it says it does."""

from __future__ import annotations

import io
from typing import BinaryIO, Literal

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4, 16: 8}
_OFFSETS, _COUNTS = {273, 324}, {279, 325}


def ends_early(file: BinaryIO, format_name: str) -> bool:
    """Whether the file is cut short, by the lengths that its own structure states.

    Only asked once decoding has failed: many good files have careless structures.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    check = _CHECKS.get(format_name)
    return check is not None and check(file, size)


def _png(file: BinaryIO, size: int) -> bool:
    position = 8
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        if head[4:] == b"IEND":
            return False
        position += 12 + int.from_bytes(head[:4], "big")
    return True


def _riff(file: BinaryIO, size: int) -> bool:
    return size < 12 or int.from_bytes(file.read(8)[4:], "little") + 8 > size


def _boxes(file: BinaryIO, size: int) -> bool:
    """AVIF and HEIF: a sequence of boxes, each with its length."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            return False
        position += max(8, length)
    return position != size


def _bmp(file: BinaryIO, size: int) -> bool:
    return size < 26 or int.from_bytes(file.read(6)[2:], "little") > size


def _gif(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 1))
    return file.read(1) != b";"


def _tiff(file: BinaryIO, size: int) -> bool:
    """The first directory or a strip of its picture lies beyond the end."""
    head = file.read(8)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    if len(head) < 8:
        return True
    if head[2:4] not in (b"*\0", b"\0*"):  # BigTIFF
        return False
    start = int.from_bytes(head[4:], order)
    file.seek(min(start, size))
    count = int.from_bytes(file.read(2), order)
    directory = file.read(12 * count)
    if start + 2 + 12 * count > size or count == 0:
        return True
    values: dict[int, list[int]] = {}
    for at in range(0, len(directory), 12):
        entry = directory[at : at + 12]
        tag = int.from_bytes(entry[:2], order)
        if tag in _OFFSETS | _COUNTS:
            values[1 if tag in _COUNTS else 0] = _tiff_values(file, entry, order)
    ends = [
        offset + length
        for offset, length in zip(values.get(0, []), values.get(1, []), strict=False)
    ]
    return any(end > size for end in ends)


def _tiff_values(file: BinaryIO, entry: bytes, order: Literal["little", "big"]) -> list[int]:
    width = _TIFF_SIZES.get(int.from_bytes(entry[2:4], order), 4)
    count = min(int.from_bytes(entry[4:8], order), 100_000)
    raw = entry[8:12]
    if width * count > 4:
        file.seek(int.from_bytes(raw, order))
        raw = file.read(width * count)
    return [int.from_bytes(raw[at : at + width], order) for at in range(0, width * count, width)]


_CHECKS = {
    "PNG": _png,
    "WEBP": _riff,
    "AVIF": _boxes,
    "HEIF": _boxes,
    "BMP": _bmp,
    "GIF": _gif,
    "TIFF": _tiff,
}
