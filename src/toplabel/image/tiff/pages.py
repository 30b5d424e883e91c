"""Which of a TIFF's images is meant: not a thumbnail, a level of a pyramid or a mask."""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO

from toplabel.errors import ImageError
from toplabel.image.tiff.directory import Directory, read_directories, sub_directory

_MAX_IMAGES = 256  # looked at; more cost time, and change nothing
_MAX_SUB_IMAGES = 16
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType


def main_image(file: BinaryIO) -> tuple[Directory, tuple[str, ...]]:
    """The first image of full resolution, and a word where the file holds several of these.

    Raises:
        ValueError: The first directory is damaged.
        ImageError: `truncated`.
    """
    found = _all(file)
    full = [tags for tags in found if not _is_minor(tags)]
    if not full:
        full = [sub for tags in found for sub in _sub_images(tags) if not _is_minor(sub)] or [
            max(found, key=_area)
        ]
    return full[0], _several(full)


def _all(file: BinaryIO) -> list[Directory]:
    directories = read_directories(file)
    if (first := next(directories, None)) is None:
        raise ValueError("it has no directory")
    found = [first]
    try:
        for tags in islice(directories, _MAX_IMAGES - 1):
            if _area(tags) and not _is_minor(tags):
                found.append(tags)
    except (ValueError, ImageError):  # the first image is whole all the same
        pass
    return found


def _sub_images(tags: Directory) -> list[Directory]:
    try:
        offsets = tags.values(330)[:_MAX_SUB_IMAGES]
        return [sub_directory(tags, offset) for offset in offsets if offset]
    except (ValueError, ImageError):
        return []


def _is_minor(tags: Directory) -> bool:
    """A reduced version or a mask of another image, by the new or the old tag for it."""
    return bool(tags.value(254, 0) & (_REDUCED | _MASK)) or tags.value(255, 1) == 2


def _area(tags: Directory) -> int:
    return tags.value(256, 0) * tags.value(257, 0)


def _several(full: list[Directory]) -> tuple[str, ...]:
    if len(full) == 1:
        return ()
    first, largest = full[0], max(full, key=_area)
    number = f"{len(full)}" if len(full) < _MAX_IMAGES else f"at least {_MAX_IMAGES}"
    text = f"the file holds {number} images; only the first is read"
    if _area(largest) > _area(first):
        sizes = [f"{tags.value(256, 0)} x {tags.value(257, 0)}" for tags in (first, largest)]
        text += f", of {sizes[0]} pixels, and another is larger, {sizes[1]}: is it a thumbnail?"
    return (text,)


def ends_early(file: BinaryIO) -> bool:
    """Whether the main image's directory, or one of its strips or tiles, is not all there."""
    try:
        tags, _ = main_image(file)
        places = ((273, 279), (324, 325))
        return any(
            offset + length > tags.size
            for offsets, lengths in places
            for offset, length in zip(tags.values(offsets), tags.values(lengths), strict=False)
        )
    except ImageError as error:
        return error.code == "truncated"
