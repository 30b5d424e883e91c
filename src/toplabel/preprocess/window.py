"""Window: pixels and a part of the resized picture in, exactly Pillow's values of that part out.

Only the window is ever computed, so a picture of 8000x1 that a recipe makes 2048000x256 costs no
more than its crop. The arithmetic is Pillow's (src/libImaging/Resample.c): weights in double,
rounded to 22-bit fixed point, one axis after the other, each pass rounded to uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]

PRECISION_BITS = 22  # Pillow's 32 - 8 - 2


class Window(NamedTuple):
    """A part of a picture, in pixels: rows top to bottom, columns left to right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int


def resize_window(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    window: Window,
    interpolation: Interpolation,
) -> NDArray[np.uint8]:
    """The part of the resized picture that lies in the window, uint8 (h, w, C).

    Equal to the bit to Pillow's `resize` of each channel, followed by `crop`.

    Args:
        pixels: uint8 (H, W, C).
        size: (height, width) of the whole resized picture, of which only the window is computed.
        window: Within that size.
        interpolation: The filter, by Pillow's name.
    """
    top, left, bottom, right = window
    height, width, _ = pixels.shape
    if interpolation == "nearest":
        rows = _nearest(height, size[0], top, bottom)
        columns = _nearest(width, size[1], left, right)
        return pixels[rows[:, None], columns]
    vertical = weigh(height, size[0], top, bottom, interpolation)
    horizontal = weigh(width, size[1], left, right, interpolation)
    if _rows_first(pixels.shape, size):
        return _two_passes(pixels, (horizontal, vertical), axes=(1, 0))
    return _two_passes(pixels, (vertical, horizontal), axes=(0, 1))


def _rows_first(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether Pillow (from 13 on) blends along the rows first; the order shows in the last bit."""
    fewer_rows, fewer_columns = shape[0] - size[0], shape[1] - size[1]
    return fewer_rows <= 0 or fewer_columns == 0 or fewer_rows <= 2 * fewer_columns


def _two_passes(
    pixels: NDArray[np.uint8], weights: tuple[Weights, Weights], *, axes: tuple[int, int]
) -> NDArray[np.uint8]:
    """Both passes, the first only on what the second needs."""
    first, second = weights
    start, stop = int(second.first.min()), int(second.end.max())
    needed = pixels[start:stop] if axes[1] == 0 else pixels[:, start:stop]
    part = _blend(needed, first, axis=axes[0])
    return _blend(part, second._replace(first=second.first - start), axis=axes[1])


class Weights(NamedTuple):
    """How n outputs along one axis are made of inputs.

    Args:
        first: The first input of each output, int64 (n,).
        end: The one after its last input, int64 (n,).
        fixed: Fixed-point weights, int32 (n, taps), zero beyond the last input.
    """

    first: NDArray[np.int64]
    end: NDArray[np.int64]
    fixed: NDArray[np.int32]


def weigh(
    inputs: int, outputs: int, start: int, stop: int, interpolation: Interpolation
) -> Weights:
    """The weights of outputs start to stop, where `inputs` pixels become `outputs`."""
    if inputs == outputs:  # Pillow skips a pass that would change no size
        places = np.arange(start, stop)
        return Weights(places, places + 1, np.full((len(places), 1), 1 << PRECISION_BITS, np.int32))
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    kernel, radius = _KERNELS[interpolation]
    support = radius * stretch
    centers = (np.arange(start, stop) + 0.5) * scale
    first = np.maximum(np.trunc(centers - support + 0.5).astype(np.int64), 0)
    end = np.minimum(np.trunc(centers + support + 0.5).astype(np.int64), inputs)
    taps = np.arange(int((end - first).max()))
    distances = (taps + first[:, None] - centers[:, None] + 0.5) * (1.0 / stretch)
    weights = np.where(taps < (end - first)[:, None], kernel(distances), 0.0)
    sums = np.cumsum(weights, axis=1)[:, -1:]  # one after the other, as a C loop adds
    weights = np.divide(weights, sums, out=weights, where=sums != 0)
    scaled = weights * (1 << PRECISION_BITS)
    return Weights(first, end, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32))


def _blend(pixels: NDArray[np.uint8], weights: Weights, *, axis: int) -> NDArray[np.uint8]:
    """One pass: weighted sums along an axis, rounded and clipped to uint8."""
    last = pixels.shape[axis] - 1
    shape = [1, 1, 1]
    shape[axis] = -1
    total: NDArray[np.int32] | int = 1 << (PRECISION_BITS - 1)  # rounds half up
    for tap in range(weights.fixed.shape[1]):
        taken = pixels.take(np.minimum(weights.first + tap, last), axis=axis)
        total = total + taken * weights.fixed[:, tap].reshape(shape)
    assert not isinstance(total, int)
    blended: NDArray[np.uint8] = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return blended


def _nearest(inputs: int, outputs: int, start: int, stop: int) -> NDArray[np.int64]:
    """Which input each output copies; steps are added up one by one, as Pillow does."""
    step = inputs / outputs
    steps = np.full(stop, step)
    steps[0] = step * 0.5
    return np.minimum(np.cumsum(steps)[start:].astype(np.int64), inputs - 1)


def _box(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    return np.where(x < 1.0, 1.0 - x, 0.0)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _hamming(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return _each(_hamming_at, x)


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return _each(_lanczos_at, x)


def _each(function: Callable[[float], float], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """One value at a time: numpy's own sine may differ from the C library's in the last bit."""
    return np.array([function(value) for value in x.ravel().tolist()]).reshape(x.shape)


def _hamming_at(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    alpha, beta = 0.5400000214576721, 0.46000000834465027  # float32 constants in Pillow
    return math.sin(x) / x * (alpha + beta * math.cos(x))


def _lanczos_at(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


def _sinc(x: float) -> float:
    if x == 0.0:
        return 1.0
    x *= math.pi
    return math.sin(x) / x


_KERNELS: dict[
    Interpolation, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]
] = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
