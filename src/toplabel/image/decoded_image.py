"""What reading gives: `DecodedImage`, how large it may be, and its EXIF orientation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.platform import fork_safe
from toplabel.errors import ImageError

Pixels = NDArray[np.uint8]
"""(H, W, 3), uint8, 0 to 255, RGB, upright, C-contiguous. Other channel counts only from arrays."""

ResizedSize = Callable[[int, int], tuple[int, int]]
"""(height, width) of an upright image -> (height, width) that it will be resized to."""

MAX_SIDE = 65_535
"""Longest side in pixels; what JPEG and GIF can hold. Longer ones are bombs or slides."""

LARGE_PIXELS = 25_000_000
"""Images above this are decoded one at a time, so that threads do not multiply the peak."""

USUAL_BYTES = 7.5
"""Peak memory of decoding, in bytes for each pixel, that `max_pixels` counts on."""

_TAG = 0x0112
_WIDTHS = {1: 1, 3: 2, 4: 4}  # TIFF types BYTE, SHORT and LONG, in bytes


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image, read.

    Args:
        pixels: (H, W, 3), uint8, upright RGB, C-contiguous. Arrays with a channel count other
            than 1, 3 and 4 pass through as (H, W, C).
        height: Of the whole upright image, in pixels, before any scaled decode.
        width: The same.
        scale: 1, or 2, 4, 8 where a JPEG was decoded at that fraction of its size.
        warnings: What is doubtful about these pixels, in words; empty where nothing is.
        is_cropped: `pixels` are what the model sees of it, as its preprocessing's
            `resize_and_crop` gives them; so where that was made along with reading.
    """

    pixels: Pixels
    height: int
    width: int
    scale: int = 1
    warnings: tuple[str, ...] = ()
    is_cropped: bool = False


def exif_orientation(exif: bytes) -> int:
    """The orientation 1 to 8 in an EXIF block; 1 where it has none or nonsense.

    Args:
        exif: A TIFF structure, with or without the "Exif" that JPEG puts before it.
    """
    tiff = exif
    while tiff.startswith(b"Exif\0\0"):
        tiff = tiff[6:]
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
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
    """Pixels as people see the image; C-contiguous.

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


def check_pixels(
    height: int, width: int, *, max_pixels: int, bytes_per_pixel: float = USUAL_BYTES
) -> None:
    """Refuse an image by the size in its header.

    Args:
        height: In pixels.
        width: In pixels.
        max_pixels: The limit for kinds of images that decode with usual memory.
        bytes_per_pixel: Peak memory of decoding this kind; those that need more have a limit
            that is lower in proportion.

    Raises:
        ImageError: `too_large`.
    """
    allowed = int(max_pixels * min(1.0, USUAL_BYTES / bytes_per_pixel))
    if height * width > allowed:
        raise ImageError(
            "too_large",
            f"the image has {width} x {height} = {height * width:,} pixels; the limit for this kind"
            f" is {allowed:,} (max_pixels {max_pixels:,}); make it smaller or raise the limit",
        )
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            "too_large",
            f"the image is {width} x {height} pixels; the longest accepted side is {MAX_SIDE:,};"
            " cut it into parts",
        )


@contextmanager
def turn(pixels: int) -> Iterator[None]:
    """Wait for one's turn to decode `pixels` pixels; small images never wait."""
    if pixels <= LARGE_PIXELS:
        yield
        return
    with _turn_of_large():
        yield


def take_turns_at(turn_of_large: Callable[[], AbstractContextManager[object]]) -> None:
    """Have large images wait for their turn there, as processes do that share a machine."""
    global _turn_of_large
    _turn_of_large = turn_of_large


_LARGE = fork_safe(threading.Lock())


def _one_at_a_time() -> AbstractContextManager[object]:
    turn: AbstractContextManager[object] = _LARGE
    return turn


_turn_of_large: Callable[[], AbstractContextManager[object]] = _one_at_a_time
