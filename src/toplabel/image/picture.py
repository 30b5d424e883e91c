"""What reading gives and how it may be told to read: `Picture` and `ReadOptions`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, 3), uint8, 0 to 255, RGB, upright, C-contiguous. Other channel counts only from arrays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How sources are read.

    Args:
        max_pixels: Largest picture, as stored, in pixels; checked before anything is decoded.
        max_bytes: Largest file, URL or standard input, in bytes.
        timeout_seconds: For URLs, from the first packet to the last.
        allow_truncated: Read what there is of a file that ends early, and warn, instead of
            failing. JPEG, PNG, GIF, BMP, PPM and most TIFF; the others cannot be read in part.
        srgb: Convert pictures with an embedded colour profile to sRGB. Training pipelines leave
            profiles alone, and so does the default.
        bgr: Arrays and tensors have their channels in the order blue, green, red.
        channels: Arrays and tensors of so many channels are no photos and pass through as they
            are; a predictor says so for a model whose recipe has a number of channels.
    """

    max_pixels: int = 120_000_000
    max_bytes: int = 512 * 2**20
    timeout_seconds: float = 30.0
    allow_truncated: bool = False
    srgb: bool = False
    bgr: bool = False
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, read.

    Args:
        pixels: (H, W, 3), uint8, upright RGB, C-contiguous. Arrays with a channel count other
            than 1, 3 and 4 pass through as (H, W, C).
        height: Of the whole upright picture, in pixels, before any scaled decode.
        width: The same.
        scale: 1, or 2, 4, 8 where a JPEG was decoded at that fraction of its size.
        warnings: What is doubtful about these pixels, in words; empty where nothing is.
    """

    pixels: Pixels
    height: int
    width: int
    scale: int = 1
    warnings: tuple[str, ...] = ()
