"""Ranges: what sample value means white, what is doubtful where nothing can be seen, and bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toplabel.errors import ImageError

OVERSHOOT = 0.05
"""How far floats from 0 to 1 may lie beyond, as interpolation makes them; they are cut."""

_EXACTLY = 1e-3  # beyond it no rounding error leads
_DARK = 15  # of 255: four of eight bits
_FAINT = 12  # of 255, the most opaque pixel: five percent


def full_scale(low: float, high: float, *, floats: bool) -> tuple[int, tuple[str, ...]]:
    """The sample value that means white in a 32-bit image, which does not state it.

    The first of 1 (floats only), 255, 65,535, 2**31 - 1, 2**32 - 1 and 2**64 (integers only)
    that no sample passes. What is usual, 1 for floats and 65,535 for integers, gives no warning;
    the others do.

    Raises:
        ImageError: `unsupported_format` where samples are negative or too large for that;
            `non_finite`.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("non_finite", "some samples are NaN or infinite; expected numbers")
    if floats and low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return 1, overshoot(low, high) or unfilled(high, 1)
    steps = (255, 65_535) if floats else (255, 65_535, 2**31 - 1, 2**32 - 1, 2**64)
    white = next((step for step in steps if high <= step), None)
    if low < 0 or white is None:
        raise ImageError(
            "unsupported_format",
            f"samples from {low:g} to {high:g} have no known scale; expected"
            f" {'0 to 1' if floats else '0 to 65535'}; scale them to 8 or 16 bits",
        )
    if white == 65_535 and not floats:
        return white, unfilled(high, white)
    kind = "float" if floats else "integer"
    return white, (
        f"{kind} samples from {low:g} to {high:g} do not state their range; read as 0 to {white}",
    )


def overshoot(low: float, high: float) -> tuple[str, ...]:
    """A word on floats that lie a little beyond 0 to 1, more than rounding explains."""
    if low >= -_EXACTLY and high <= 1 + _EXACTLY:
        return ()
    return (f"float samples from {low:g} to {high:g} were cut to 0 to 1",)


def unfilled(high: float, white: int, *, inverted: bool = False) -> tuple[str, ...]:
    """A word on samples of more than 8 bits that fill a fraction of their range.

    A quarter or less, or just the half that signed numbers leave: a camera of 10, 12 or 14 bits,
    8 bits or reflectances in 16. A photo of so many bits has brighter spots, however dark it is.

    Args:
        high: The largest sample.
        white: The value that stands for white.
        inverted: Whether it stands for black: white is zero, or the samples are inks.
    """
    half = white // 2 + 1 if white > 1 else 0
    if high <= 0 or (high > white / 4 and not 0.97 * half <= high <= half):
        return ()
    end, look = ("black", "bright") if inverted else ("white", "dark")
    return (
        f"no sample is above {high:g} where {end} is {white}, so that the image is {look}; if that"
        " is not its brightness, scale the samples to fill their range",
    )


def stated_white(stated: Sequence[int], high: float, full: int) -> int:
    """White as a file states its largest sample: where that is one of fewer bits, and holds."""
    top = max(stated, default=full)
    is_bits = top > 1 and top < full and (top + 1) & top == 0
    return top if is_bits and high <= top else full


def nearly_black(pixels: NDArray[np.uint8]) -> tuple[str, ...]:
    """A word on 8-bit pixels that fill next to nothing of their range: 0 and 1, say.

    It costs no pass over ordinary images, which end the search in a row of their middle.

    Args:
        pixels: (H, W, C), 0 to 255.
    """
    if pixels[len(pixels) // 2].max() > _DARK:
        return ()
    high = int(pixels.max())
    if high == 0 or high > _DARK:
        return ()
    return (
        f"no sample is above {high} of 255, so that the image is all but black; if it is a mask or"
        " has fewer bits, scale its samples to fill 0 to 255",
    )


def invisible(highest_alpha: float) -> tuple[str, ...]:
    """A word on an image in which nothing is to be seen.

    Args:
        highest_alpha: Of all pixels, 0 to 255.
    """
    if highest_alpha > _FAINT:
        return ()
    how = "wholly" if highest_alpha == 0 else "almost wholly"
    return (
        f"the image is {how} transparent, so that white is all that is seen; if its alpha channel"
        " means something else, save it without",
    )


def on_white(
    colours: NDArray[np.float32], cover: NDArray[np.float32], *, premultiplied: bool = False
) -> NDArray[np.float32]:
    """Colours (H, W, C), 0 to 255, composited on white by how opaque they are, 0 to 1."""
    return (colours if premultiplied else colours * cover) + 255 * (1 - cover)


def to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The nearest of 0 to 255."""
    nearest: NDArray[np.uint8] = np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
    return nearest
