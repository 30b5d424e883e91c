"""Orientation: the EXIF tag 0x0112, and pixels turned upright by it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from toplabel.image.picture import Pixels

_TAG = 0x0112
_WIDTHS = {1: 1, 3: 2, 4: 4}  # TIFF types BYTE, SHORT and LONG, in bytes


def exif_orientation(exif: bytes) -> int:
    """The orientation 1 to 8 that an EXIF block states; 1 where it states none or nonsense.

    Args:
        exif: A TIFF structure, with or without the "Exif" that JPEG puts before it.
    """
    tiff = exif
    while tiff.startswith(b"Exif\0\0"):
        tiff = tiff[6:]
    order: Literal["little", "big"]
    if tiff[:2] == b"II":
        order = "little"
    elif tiff[:2] == b"MM":
        order = "big"
    else:
        return 1
    directory = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[directory : directory + 2], order)
    last = min(directory + 2 + 12 * entries, len(tiff) - 11)
    for at in range(directory + 2, last, 12):
        if int.from_bytes(tiff[at : at + 2], order) == _TAG:
            width = _WIDTHS.get(int.from_bytes(tiff[at + 2 : at + 4], order), 2)
            value = int.from_bytes(tiff[at + 8 : at + 8 + width], order)
            return value if 1 <= value <= 8 else 1
    return 1


def is_sideways(orientation: int) -> bool:
    """Whether turning upright swaps height and width."""
    return orientation >= 5


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels as people see the picture; C-contiguous.

    Args:
        pixels: (H, W, 3) as stored.
        orientation: 1 to 8; others leave the pixels as stored.
    """
    if is_sideways(orientation) and orientation <= 8:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
