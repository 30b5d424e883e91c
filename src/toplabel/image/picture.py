"""What reading gives and how it may be told to read: `Picture` and `ReadOptions`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, 3), uint8, 0 to 255, RGB, upright, C-contiguous. Other channel counts only from arrays."""


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
