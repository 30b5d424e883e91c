"""Thumbnails: sources go in, small WebP images within a number of bytes come out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from toplabel._internal.ordered_map import batched, ordered_map
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

GROUP = 50
"""Images that share bytes, one quality, and an element of the page."""

# WebP: at equal SSIM to the small original a thumbnail of 48 to 160 pixels takes a third fewer
# bytes than as JPEG with tables of its own, half of which are its header.
_METHOD = 4  # 6 saves 6 % more and takes 2.5 times as long

# Images on the page, at most -> (edge in pixels, first quality tried).
_SIZES = ((500, 160, 75), (2000, 112, 72), (5000, 88, 60))
_SMALLEST = (72, 45)
_QUALITY_STEP = 0.8
_LEAST_QUALITY = 8
_SHRINKING = 0.7

_LONGEST = 2.5  # longer images are shown at this ratio's length, not as a line
_OPTIONS = ReadOptions(timeout_seconds=10.0, allow_truncated=True)


@dataclass(frozen=True, slots=True)
class Size:
    """How large thumbnails are.

    Args:
        edge: Of a square one, in pixels; others have as many pixels in all.
        quality: Of WebP, the first that is tried.
        max_bytes: Of one thumbnail, on average over a group.
    """

    edge: int
    quality: int
    max_bytes: int


def size_for(images: int, *, max_bytes: int) -> Size:
    """The fewer images, the larger; all of them together take at most `max_bytes`."""
    edge, quality = _SMALLEST
    for most, larger, better in reversed(_SIZES):
        if images <= most:
            edge, quality = larger, better
    return Size(edge, quality, max_bytes // max(1, images))


def thumbnails(sources: Iterable[object], *, size: Size, threads: int) -> Iterator[list[bytes]]:
    """Groups of at most `GROUP` WebP files, in order; b"" where an image cannot be read.

    Args:
        sources: What `read_image` takes, or None for an image that is not to be read.
        size: Of the thumbnails.
        threads: That read images.
    """
    groups = batched(sources, GROUP)
    return ordered_map(partial(_encode_group, size=size), groups, workers=threads)


def _encode_group(group: list[object], *, size: Size) -> list[bytes]:
    """All at the best quality, then at the largest size, with which they fit."""
    images = [_read(source, size.edge) for source in group]
    quality: float = size.quality
    while True:
        files = [b"" if image is None else _encode(image, int(quality)) for image in images]
        if sum(map(len, files)) <= size.max_bytes * len(group):
            return files
        if quality >= _LEAST_QUALITY:
            quality *= _QUALITY_STEP
        elif not any(image is not None and max(image.size) > 1 for image in images):
            return [b""] * len(group)
        else:
            images = [None if image is None else _shrunk(image, _SHRINKING) for image in images]


def _read(source: object, edge: int) -> Image | None:
    """The image at its size on the page, or None: a report never fails for one image."""
    from PIL import Image

    if source is None:
        return None
    try:
        decoded = read_image(
            source,
            options=_OPTIONS,
            resized_size=lambda height, width: _half(fitted(height, width, edge=edge)),
        )
        image = Image.fromarray(decoded.pixels)
        height, width = fitted(decoded.height, decoded.width, edge=edge)
        return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    except Exception:  # moved, changed, or no photo (an array of six channels): a placeholder
        return None


def fitted(height: int, width: int, *, edge: int) -> tuple[int, int]:
    """(height, width) with about edge x edge pixels, in shape like the image, never enlarged."""
    ratio = min(max(width / height, 1 / _LONGEST), _LONGEST)
    longest = edge * max(ratio, 1 / ratio) ** 0.5
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _half(size: tuple[int, int]) -> tuple[int, int]:
    """The size to read at: decoding gives twice that or more, which is enough here."""
    height, width = size
    return -(-height // 2), -(-width // 2)


def _shrunk(image: Image, scale: float) -> Image:
    width, height = image.size
    return image.resize((max(1, int(width * scale)), max(1, int(height * scale))))


def _encode(image: Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=_METHOD)
    return buffer.getvalue()
