"""Whether a file is cut short, by the lengths that its own structure states."""

from __future__ import annotations

import io
from typing import BinaryIO


def ends_early(file: BinaryIO, format_name: str) -> bool:
    """Whether the file is cut short, by the lengths that its own structure states.

    Only asked once decoding has failed: many good files have careless structures.
    """
    check = {
        "PNG": _png_ends_early,
        "WEBP": _riff_ends_early,
        "AVIF": _boxes_end_early,
        "HEIF": _boxes_end_early,
        "GIF": _gif_ends_early,
        "TIFF": _tiff_ends_early,
    }.get(format_name)
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return check is not None and check(file, size)
    except Exception:  # damaged, in whatever way; or the file was closed
        return False


def _png_ends_early(file: BinaryIO, size: int) -> bool:
    position = 8
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        if head[4:] == b"IEND":
            return False
        position += 12 + int.from_bytes(head[:4], "big")
    return True


def _riff_ends_early(file: BinaryIO, size: int) -> bool:
    return size < 12 or int.from_bytes(file.read(8)[4:], "little") + 8 > size


def _gif_ends_early(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 1))
    return file.read(1) != b";"


def _boxes_end_early(file: BinaryIO, size: int) -> bool:
    """AVIF and HEIF: a sequence of boxes, each with its length."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 0:  # to the end
            return False
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        position += max(8, length)
    return position != size


def _tiff_ends_early(file: BinaryIO, size: int) -> bool:
    from toplabel.image.tiff.pages import ends_early as tiff_ends_early

    return tiff_ends_early(file)
