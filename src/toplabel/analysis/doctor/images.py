"""Pictures: sources in, their pixels at a network's size out; what cannot be read is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.errors import UsageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.inference.batch import image_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.preprocess import Preprocess


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures at one size.

    Args:
        pixels: uint8 (M, h, w, C) of those that could be read.
        read: Their places among the sources, int (M,).
        failed: How many could not, by code.
    """

    pixels: NDArray[np.uint8]
    read: NDArray[np.int64]
    failed: Counter[str]


def read_pictures(sources: Sequence[object], geometry: Preprocess) -> Pictures:
    """All that can be read, by a recipe's resizing and cropping.

    Raises:
        UsageError: None can.
    """
    options, crops, places = ReadOptions(), [], []
    failed: Counter[str] = Counter()
    for place, source in enumerate(sources):
        try:
            picture = read_image(source, options=options, resized_size=geometry.resized_size)
            crop = geometry.resize_and_crop(
                picture.pixels,
                original_size=(picture.height, picture.width),
                scale=picture.scale,
                max_pixels=options.max_pixels,
            )
        except Exception as error:
            failed[image_error(error).code] += 1
            continue
        crops.append(crop)
        places.append(place)
    if not crops:
        codes = ", ".join(f"{count} {code}" for code, count in failed.items())
        raise UsageError(
            f"none of {len(sources)} pictures could be read: {codes or 'there are none'}"
        )
    return Pictures(np.stack(crops), np.array(places, np.int64), failed)
