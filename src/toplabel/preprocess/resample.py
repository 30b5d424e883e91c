"""Resample: pixels and a place in the resized picture in, the crop out, as Pillow has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from toplabel.preprocess.window import Interpolation, Window, resize_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
_MUCH_LARGER = 8  # from here on, computing only the window is cheaper than Pillow's whole picture


def resize_and_crop(
    pixels: NDArray[np.uint8],
    *,
    size: tuple[int, int],
    window: Window,
    interpolation: Interpolation,
    extent: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """The part of the resized picture that lies in the window, uint8 (h, w, C).

    Equal to the bit to Pillow's `resize` of each channel, followed by `crop`. Where the window
    reaches beyond the picture, that part is left out: see `pad_to_window`.

    Args:
        pixels: uint8 (H, W, C), C of 3 being colours.
        size: (height, width) that the whole picture is resized to.
        window: In the resized picture.
        interpolation: The filter, by Pillow's name.
        extent: (height, width) that the picture covers of the pixels, where that is a fraction:
            of a scaled decode the last row and column may stand for less than a pixel. Then only
            the window is computed, and single values differ from those of the whole.
    """
    part = inside(window, size)
    if size == (extent or pixels.shape[:2]):
        return pixels[part.top : part.bottom, part.left : part.right]
    if size[0] * size[1] > _MUCH_LARGER * (part.bottom - part.top) * (part.right - part.left):
        return resize_window(pixels, size, part, interpolation)

    def resize(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if extent is None:
            return _by_pillow(plane, size, part, interpolation)
        return _window_by_pillow(plane, extent, size, part, interpolation)

    if pixels.shape[2] == 3:
        return resize(pixels)
    planes = [resize(pixels[..., channel]) for channel in range(pixels.shape[2])]
    return planes[0][..., None] if len(planes) == 1 else np.stack(planes, axis=-1)


def inside(window: Window, size: tuple[int, int]) -> Window:
    """The part of the window that lies within a picture of this size."""
    top, left, bottom, right = window
    return Window(max(top, 0), max(left, 0), min(bottom, size[0]), min(right, size[1]))


def pad_to_window(
    crop: NDArray[np.uint8], *, window: Window, pad_value: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The crop within a field of `pad_value`, of the window's size: uint8 (h, w, C).

    Args:
        crop: What `resize_and_crop` gave for this window.
        window: Where it begins above or left of the picture, it is negative.
        pad_value: One for each of the C channels.
    """
    height, width = window.bottom - window.top, window.right - window.left
    if crop.shape[:2] == (height, width):
        return crop
    field = np.empty((height, width, crop.shape[2]), np.uint8)
    field[...] = pad_value
    top, left = max(-window.top, 0), max(-window.left, 0)
    field[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return field


def to_grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture's brightness as Pillow's mode L has it: uint8 (H, W, 1) for RGB (H, W, 3)."""
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


def _window_by_pillow(
    pixels: NDArray[np.uint8],
    extent: tuple[float, float],
    size: tuple[int, int],
    part: Window,
    interpolation: Interpolation,
) -> NDArray[np.uint8]:
    """Resize the part alone, with Pillow, from its place in the pixels; shapes as `_by_pillow`."""
    down, across = extent[0] / size[0], extent[1] / size[1]
    box = (part.left * across, part.top * down, part.right * across, part.bottom * down)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    shape = part.right - part.left, part.bottom - part.top
    return np.asarray(image.resize(shape, _FILTERS[interpolation], box=box))


def _by_pillow(
    pixels: NDArray[np.uint8], size: tuple[int, int], part: Window, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize all of it with Pillow; uint8 (h, w, 3) for colours, (h, w) for a plane."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.resize((size[1], size[0]), _FILTERS[interpolation])
    if part != (0, 0, *size):
        image = image.crop((part.left, part.top, part.right, part.bottom))
    return np.asarray(image)
