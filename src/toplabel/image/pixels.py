"""What a model gets to see, for users: anything that a predictor takes in, pixels out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toplabel._internal.notices import warn
from toplabel._internal.options import suggests_names
from toplabel.image import reading
from toplabel.image.options import ReadOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@suggests_names
def read_image(source: object, *, read: ReadOptions | None = None) -> NDArray[np.uint8]:
    """An image as a model gets it: uint8 (H, W, 3), upright, RGB, 0 to 255.

    Before the model's own preprocessing. Transparency lies on white, samples of 16 bits are scaled
    to 8, of animations it is the first frame. What is doubtful is warned of.

    >>> import toplabel
    >>> toplabel.read_image("examples/coffee.jpg").shape
    (400, 600, 3)

    Args:
        source: As a predictor takes it: a path, URL, bytes, binary file, PIL image or array.
        read: Limits and choices; with `ReadOptions(channels=C)` the array is (H, W, C).

    Raises:
        ImageError: It cannot be read; `.code` says why.
        TypeError: It is none of these.
    """
    image = reading.read_image(source, options=read or ReadOptions())
    for warning in image.warnings:
        warn(warning)
    return image.pixels
