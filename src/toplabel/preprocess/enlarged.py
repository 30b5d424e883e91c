"""Enlarged: the part of an enlarged image that lies in a window, without the whole of it.

An image of 1 x 1000 pixels becomes 256 x 256,000 before 224 x 224 of them are cut out. The
arithmetic is Pillow's, to the bit, where both sides grow (it resamples rows first then): weights in
float64 by its filters, rounded to 22 bits, and 8 bits between the two passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

Size = tuple[int, int]

_BITS = 22
_A = -0.5  # of the bicubic


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    return math.sin(x) / x * (0.54 + 0.46 * math.cos(x))


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * _A if x < 2.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {
    "bilinear": (_bilinear, 1.0),
    "box": (_box, 0.5),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""How much a pixel weighs at a distance, and the largest distance at which it does."""


def enlarge_window(
    pixels: NDArray[np.uint8], *, size: Size, rows: range, columns: range, interpolation: str
) -> NDArray[np.uint8]:
    """The rows and columns of the image resized to `size`: uint8, of their number and C channels.

    Args:
        pixels: uint8 (H, W, C) or (H, W), as Pillow takes them.
        size: (height, width), neither less than the image's.
        rows, columns: Within that.
        interpolation: The filter, by Pillow's name; not `nearest`.
    """
    resampling = Image.Resampling[interpolation.upper()]
    if size[0] >= size[1]:  # few columns, of which Pillow makes all
        needed = list(_weights(len(pixels), size[0], (rows[0], rows[-1]), interpolation))
        first, last = needed[0][0], needed[1][0] + len(needed[1][1])
        part = Image.fromarray(np.ascontiguousarray(pixels[first:last]))
        wide = np.asarray(part.resize((size[1], last - first), resampling))
        wide = wide[:, columns.start : columns.stop]
        weights = _weights(len(pixels), size[0], rows, interpolation)
        return _weighted(wide, ((start - first, one) for start, one in weights))
    weights = _weights(pixels.shape[1], size[1], columns, interpolation)
    narrow = np.swapaxes(_weighted(np.swapaxes(pixels, 0, 1), weights), 0, 1)
    image = Image.fromarray(np.ascontiguousarray(narrow))
    return np.asarray(image.resize((len(columns), size[0]), resampling))[rows.start : rows.stop]


def _weights(
    length: int, size: int, places: Iterable[int], interpolation: str
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For each place of the resized side the first pixel that counts, and what each weighs."""
    weigh, support = _FILTERS[interpolation]
    scale = length / size
    for place in places:
        center = (place + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), length)
        found = [weigh(at - center + 0.5) for at in range(first, last)]
        total = sum(found)
        shares = [one / total for one in found] if total else found
        whole = [int((-0.5 if share < 0 else 0.5) + share * (1 << _BITS)) for share in shares]
        yield first, np.array(whole, np.int64)


def _weighted(
    pixels: NDArray[np.uint8], weights: Iterable[tuple[int, NDArray[np.int64]]]
) -> NDArray[np.uint8]:
    """Sums of rows, one for each of the weights."""
    sums = [
        np.tensordot(weight, pixels[first : first + len(weight)].astype(np.int64), 1)
        for first, weight in weights
    ]
    rounded = (np.stack(sums) + (1 << _BITS - 1)) >> _BITS
    return np.asarray(rounded.clip(0, 255), np.uint8)
