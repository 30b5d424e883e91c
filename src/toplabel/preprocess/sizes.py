"""Sizes: a picture's size in, the size it is resized to and the place of its crop out.

Libraries round these differently; a recipe says whose rounding it means.
"""

from __future__ import annotations

from typing import Literal

from toplabel.preprocess.window import Window

Convention = Literal["torchvision", "timm", "hf"]
Size = tuple[int, int]
"""(height, width) in pixels."""


def fitted_size(size: Size, target: Size, convention: Convention, *, cover: bool) -> Size:
    """The size that keeps the picture's proportions, at least one pixel each way.

    Args:
        size: Of the picture.
        target: What it shall cover or fit into.
        convention: `timm` rounds to the nearest, the others down.
        cover: True: the smallest size that covers the target (the shortest side of a square one);
            False: the largest that fits into it.
    """
    if convention == "timm":
        fitted = _timm_size(size, target, cover=cover)
    elif convention == "hf" and not cover:
        scale = min(target[0] / size[0], target[1] / size[1])
        fitted = int(size[0] * scale), int(size[1] * scale)
    else:
        fitted = _torchvision_size(size, target, cover=cover)
    return max(fitted[0], 1), max(fitted[1], 1)  # where the library itself would fail


def _torchvision_size(size: Size, target: Size, *, cover: bool) -> Size:
    """One side is the target's, the other is rounded down."""
    height, width = size
    by_height = target[0] * width >= target[1] * height
    if by_height == cover:
        return target[0], int(target[0] * width / height)
    return int(target[1] * height / width), target[1]


def _timm_size(size: Size, target: Size, *, cover: bool) -> Size:
    """Both sides are divided by one ratio and rounded, as timm's ResizeKeepRatio does."""
    ratios = size[0] / target[0], size[1] / target[1]
    ratio = min(ratios) if cover else max(ratios)
    return round(size[0] / ratio), round(size[1] / ratio)


def crop_window(size: Size, crop: Size, convention: Convention) -> Window:
    """Where the centre crop lies; it reaches beyond the picture where that is smaller."""
    top = _crop_start(size[0], crop[0], convention)
    left = _crop_start(size[1], crop[1], convention)
    return Window(top, left, top + crop[0], left + crop[1])


def _crop_start(length: int, crop: int, convention: Convention) -> int:
    if convention == "hf":
        return (length - crop) // 2
    if length < crop:
        return -((crop - length) // 2)  # the odd row goes below, the odd column to the right
    return round((length - crop) / 2)  # halves go to the even number
