"""Resample: pixels, a size and a crop in, the cropped pixels out, equal to the bit to Pillow.

Libraries round sizes and offsets differently; a `Convention` names whose rounding is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, __version__ as pillow_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Convention = Literal["torchvision", "timm", "hf"]
Size = tuple[int, int]
"""(height, width) in pixels."""

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}

_REACH: dict[Interpolation, float] = {
    "bilinear": 1.0,
    "bicubic": 2.0,
    "box": 0.5,
    "hamming": 1.0,
    "lanczos": 3.0,
}
"""The largest distance at which a pixel counts, in places of the smaller of the two sides."""

_KNOWN_PILLOW = "13.0"
"""Whose order of passes is known; of others the whole image is resized, which is slower."""

_FLOAT32_BITS = 1 << 24

_MOST_AT_ONCE = 8_000_000
"""Pixels of a resized image of which a part is cut out: of more, only that part is made."""


class Window(NamedTuple):
    """A part of an image, in pixels: rows top to bottom, columns left to right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int


def fitted_size(size: Size, target: Size, convention: Convention, *, cover: bool) -> Size:
    """The size that keeps the image's proportions, at least one pixel each way.

    Args:
        size: Of the image.
        target: What it shall cover or fit into.
        convention: `timm` rounds to the nearest, the others down.
        cover: True: the smallest size that covers the target (the shortest side of a square one);
            False: the largest that fits into it.
    """
    height, width = size
    if convention == "timm":  # both sides by one ratio, as its ResizeKeepRatio does
        ratios = height / target[0], width / target[1]
        ratio = min(ratios) if cover else max(ratios)
        fitted = round(height / ratio), round(width / ratio)
    elif convention == "hf" and not cover:
        scale = min(target[0] / height, target[1] / width)
        fitted = int(height * scale), int(width * scale)
    elif (target[0] * width >= target[1] * height) == cover:
        fitted = target[0], int(target[0] * width / height)
    else:
        fitted = int(target[1] * height / width), target[1]
    return max(fitted[0], 1), max(fitted[1], 1)  # where the library itself would fail


def crop_window(size: Size, crop: Size, convention: Convention) -> Window:
    """Where the centre crop lies; it reaches beyond the image where that is smaller."""
    top = _crop_start(size[0], crop[0], convention)
    left = _crop_start(size[1], crop[1], convention)
    return Window(top, left, top + crop[0], left + crop[1])


def _crop_start(length: int, crop: int, convention: Convention) -> int:
    if convention == "hf":
        return (length - crop) // 2
    if length < crop:
        return -((crop - length) // 2)  # the odd row goes below, the odd column to the right
    return round((length - crop) / 2)  # halves go to the even number


def resize_and_crop(
    pixels: NDArray[np.uint8],
    *,
    size: Size,
    window: Window,
    interpolation: Interpolation,
    extent: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """The part of the resized image that lies in the window, uint8 (h, w, C).

    Equal to the bit to Pillow's `resize` of each channel, followed by `crop`. Where the window
    reaches beyond the image, that part is left out: see `pad_to_window`.

    Args:
        pixels: uint8 (H, W, C), C of 3 being colours.
        size: (height, width) that the whole image is resized to.
        window: In the resized image.
        interpolation: The filter, by Pillow's name.
        extent: (height, width) that the image covers of the pixels, where that is a fraction:
            of a scaled decode the last row and column may stand for less than a pixel. Then only
            the window is computed, and single values differ from those of the whole.
    """
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.bottom, size[0]), min(window.right, size[1])
    if size == (extent or pixels.shape[:2]):
        return pixels[top:bottom, left:right]

    rows, columns = range(top, bottom), range(left, right)
    window = Window(top, left, bottom, right)
    large = size[0] * size[1] > _MOST_AT_ONCE and _grows(pixels, size, interpolation)

    def resize(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if extent is not None:
            return _resize_extent(plane, extent, size, window, interpolation)
        if large:
            from toplabel.preprocess.enlarged import enlarge_window  # which few images need

            return enlarge_window(
                plane, size=size, rows=rows, columns=columns, interpolation=interpolation
            )
        if is_horizontal_first(plane.shape[:2], size) and interpolation != "nearest":
            return _resize_window(plane, size, rows, columns, interpolation)
        image = Image.fromarray(np.ascontiguousarray(plane))
        image = image.resize((size[1], size[0]), _FILTERS[interpolation])
        return np.asarray(image)[top:bottom, left:right]

    if pixels.shape[2] == 3:
        return resize(pixels)
    return np.stack([resize(pixels[..., at]) for at in range(pixels.shape[2])], axis=-1)


def _resize_extent(
    plane: NDArray[np.uint8],
    extent: tuple[float, float],
    size: Size,
    window: Window,
    interpolation: Interpolation,
) -> NDArray[np.uint8]:
    """The window alone of the extent resized to `size`, single values by other weights."""
    down, across = extent[0] / size[0], extent[1] / size[1]
    top, left, bottom, right = window
    box = (left * across, top * down, right * across, bottom * down)
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((right - left, bottom - top), _FILTERS[interpolation], box))


def is_horizontal_first(shape: tuple[int, ...], size: Size) -> bool:
    """Whether Pillow resamples rows, then columns; False where that is not known of this Pillow.

    Args:
        shape: (height, width) of the image.
        size: What it is resized to.
    """
    (height, width), (down, across) = shape, size
    known = pillow_version.startswith(_KNOWN_PILLOW)
    return known and not (down < height and 2 * (width - across) < height - down)


def _resize_window(
    plane: NDArray[np.uint8],
    size: Size,
    rows: range,
    columns: range,
    interpolation: Interpolation,
) -> NDArray[np.uint8]:
    """The rows and columns of the plane resized to `size`, (H, W, 3) or (H, W), pass by pass.

    The first pass takes the rows that the second one needs. A pass makes its part alone where that
    has the weights of the whole, to the bit (`_has_equal_weights`); else it makes all, from which
    the part is cut.
    """
    height, width = plane.shape[:2]
    resampling = _FILTERS[interpolation]
    first, last = _needed(height, size[0], rows, _REACH[interpolation])
    image = Image.fromarray(np.ascontiguousarray(plane[first:last]))
    if _has_equal_weights(width, size[1]):
        box = (columns.start * width / size[1], 0, columns.stop * width / size[1], last - first)
        image = image.resize((len(columns), last - first), resampling, box)
    else:
        image = image.resize((size[1], last - first), resampling)
        image = image.crop((columns.start, 0, columns.stop, last - first))
    if _has_equal_weights(height, size[0]):
        top, bottom = (place * height / size[0] - first for place in (rows.start, rows.stop))
        image = image.resize((len(columns), len(rows)), resampling, (0, top, len(columns), bottom))
        return np.asarray(image)
    if (first, last) != (0, height):
        whole = Image.new(image.mode, (len(columns), height))
        whole.paste(image, (0, first))
        image = whole
    image = image.resize((len(columns), size[0]), resampling)
    return np.asarray(image)[rows.start : rows.stop]


def _has_equal_weights(length: int, size: int) -> bool:
    """Whether Pillow weighs pixels for a part of a resized side as it does for the whole side.

    It takes a part's ends in float32, and reckons in float64 from there: the centre of place i is
    start + (i + 0.5) * scale. Where `scale`, the pixels for each place, is a whole number of
    1/2**n, ends and centres are exact in both, and so is all that follows from them.
    """
    power = size & -size  # the largest power of two in it
    return length % (size // power) == 0 and length * power <= _FLOAT32_BITS


def _needed(length: int, size: int, places: range, reach: float) -> tuple[int, int]:
    """Between which pixels all lie that count for these places of the resized side."""
    scale = length / size
    margin = reach * max(scale, 1.0) + 1
    first = int(max((places.start + 0.5) * scale - margin, 0))
    return first, min(int((places.stop - 0.5) * scale + margin) + 1, length)


def _grows(pixels: NDArray[np.uint8], size: Size, interpolation: Interpolation) -> bool:
    """Whether a part of the resized image can be had without the whole."""
    larger = size[0] >= pixels.shape[0] and size[1] >= pixels.shape[1]
    return larger and interpolation != "nearest"


def pad_to_window(
    crop: NDArray[np.uint8], *, window: Window, pad_value: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The crop within a field of `pad_value`, of the window's size: uint8 (h, w, C).

    Args:
        crop: What `resize_and_crop` gave for this window.
        window: Where it begins above or left of the image, it is negative.
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
    """The image's brightness as Pillow's mode L has it: uint8 (H, W, 1) for RGB (H, W, 3)."""
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
