"""Distortions: what pictures may have gone through in training that no candidate states.

Nobody is offered one of these: they are tried to notice that the true preprocessing is none of the
candidates, which then fit worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Distortion:
    """One of them.

    Args:
        words: What the network was given, for a sentence.
        change: uint8 (N, h, w, C) in and out, RGB or grey.
    """

    words: str
    change: Change


def distortions(channels: int) -> tuple[Distortion, ...]:
    """Those of pictures of 1 or 3 channels."""
    of_any = (
        Distortion("inverted pictures", lambda pixels: 255 - pixels),
        Distortion("pictures of squared values", lambda pixels: _power(pixels, 2)),
        Distortion("pictures of cubed values", lambda pixels: _power(pixels, 3)),
        Distortion(
            "pictures of the square roots of their values", lambda pixels: _power(pixels, 0.5)
        ),
    )
    if channels == 1:
        return of_any
    return (
        *of_any,
        Distortion("hue, saturation and value", lambda pixels: _turned(pixels, "HSV")),
        Distortion("luma and chroma", lambda pixels: _turned(pixels, "YCbCr")),
    )


def _power(pixels: NDArray[np.uint8], exponent: float) -> NDArray[np.uint8]:
    table = np.round(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return np.asarray(table[pixels])


def _turned(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.fromarray(one).convert(mode)) for one in pixels])
