"""Verify: a `Preprocess` and the transform that it was read from in; it again where they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from toplabel._internal.notices import quiet_libraries
from toplabel.errors import PreprocessError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.preprocess.preprocess import Preprocess

_SHAPES = ((120, 161), (163, 110), (64, 64), (19, 75), (9, 5), (1, 1))  # (height, width)


def drawn_photos(
    shapes: Sequence[tuple[int, int]] = _SHAPES, *, seed: int = 2026
) -> Iterator[NDArray[np.uint8]]:
    """Images of these (height, width), smooth and noisy, always the same: uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    for height, width in shapes:
        down, across = np.mgrid[0:height, 0:width]
        smooth = np.stack([down * 2, across + 40, 200 - down // 2 + across // 3], axis=-1)
        noise = random.integers(-60, 60, smooth.shape)
        yield np.clip(smooth % 256 + noise, 0, 255).astype(np.uint8)


def verify(
    preprocess: Preprocess, transform: Callable[[Image.Image], NDArray[np.float32]], *, name: str
) -> Preprocess:
    """The preprocessing, after it gave what the transform gives on every drawn photo, to the bit.

    Args:
        preprocess: To be trusted or not.
        transform: Gives float32 (C, h, w) for a Pillow image, mode RGB.
        name: Of the transform, for people.

    Raises:
        PreprocessError: They differ, or the transform itself fails.
    """
    for pixels in drawn_photos():
        shape = f"{pixels.shape[1]}x{pixels.shape[0]}"
        try:
            with quiet_libraries():  # of their own options
                expected = transform(Image.fromarray(pixels))
        except Exception as error:
            raise PreprocessError(f"{name} fails on an image of {shape}: {error}") from error
        _compare(preprocess(pixels), np.asarray(expected), name=name, shape=shape)
    return preprocess


def _compare(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], *, name: str, shape: str
) -> None:
    if ours.shape != theirs.shape:
        raise PreprocessError(
            f"{name} gives shape {theirs.shape} for an image of {shape}; the preprocessing"
            f" read from it gives {ours.shape}"
        )
    if not np.array_equal(ours, theirs):
        difference = float(np.abs(ours.astype(np.float64) - theirs).max())
        raise PreprocessError(
            f"{name} does not do what its operations say: its tensor for an image of {shape}"
            f" differs by up to {difference:.3g} from theirs; write the preprocessing as a JSON"
            " file instead"
        )
