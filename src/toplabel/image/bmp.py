"""BMP with masks that Pillow does not know: any bits of 16 or 32 for each colour."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from toplabel.image.decoded_image import Pixels, check_pixels
from toplabel.image.failures import cut_short
from toplabel.image.options import ReadOptions
from toplabel.image.ranges import invisible, on_white, to_bytes

_ROWS = 256  # at once


def read_masked(file: BinaryIO, options: ReadOptions) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels (H, W, 3) of a BMP with bit masks, and what is doubtful about them.

    Raises:
        ImageError: `too_large`, `truncated`.
        ValueError: The header is damaged.
    """
    file.seek(0)
    head = file.read(70).ljust(70, b"\0")
    start, size, width, height = struct.unpack_from("<IIii", head, 10)
    bits, compression = struct.unpack_from("<HI", head, 28)
    masks = list(struct.unpack_from("<4I", head, 54))
    if size < 56 and compression != 6:
        masks[3] = 0
    rows = abs(height)
    if width < 1 or not rows or bits not in (16, 32) or not any(masks[:3]):
        raise ValueError(f"a header of {width} x {height} pixels, {bits} bits and masks {masks}")
    check_pixels(rows, width, max_pixels=options.max_pixels)
    step = -(-width * bits // 32) * 4
    file.seek(start)
    content = file.read(rows * step)
    if len(content) < rows * step:
        raise cut_short("BMP")
    lines = np.frombuffer(content, f"<u{bits // 8}").reshape(rows, -1)[:, :width]
    if height > 0:
        lines = lines[::-1]  # stored from below
    alpha = masks.pop() if masks[3] and (lines & masks[3]).any() else 0
    pixels = np.empty((rows, width, 3), np.uint8)
    highest = 255.0
    for top in range(0, rows, _ROWS):
        band = lines[top : top + _ROWS]
        values = np.stack([_levels(band, mask) for mask in masks[:3]], axis=2)
        if alpha:
            cover = _levels(band, alpha)[:, :, None] / np.float32(255)
            highest = max(highest if top else 0.0, float(cover.max()) * 255)
            values = on_white(values, cover)
        pixels[top : top + _ROWS] = to_bytes(values)
    return pixels, invisible(highest)


def _levels(words: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.float32]:
    """What a mask selects, as 0 to 255; of none, 0."""
    if not mask:
        return np.zeros(words.shape, np.float32)
    shift = (mask & -mask).bit_length() - 1
    factor = np.float32(255 / (mask >> shift))
    return ((words & mask) >> shift).astype(np.float32) * factor
