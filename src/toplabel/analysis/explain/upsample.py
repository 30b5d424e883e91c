"""Upsample: a coarse heat map in, the same over the model's input or over the image out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from toplabel.preprocess.resample import crop_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.preprocess.preprocess import Preprocess


def over_input(
    heat: NDArray[np.float32], size: tuple[int, int], *, cell: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """A map over the model's input, linear between the centres of its cells: (h, w) in [0, 1].

    Args:
        heat: float32 (rows, columns), at least 0, of no fixed scale.
        size: (h, w) of the input.
        cell: (height, width) of a cell in pixels of the input, beyond whose edge the last ones
            may stand; None: the cells divide the input evenly.
    """
    rows, columns = heat.shape
    height, width = size if cell is None else (rows * cell[0], columns * cell[1])
    whole = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))
    whole = whole[: size[0], : size[1]]
    highest = float(whole.max())
    return np.clip(whole / highest, 0, 1) if highest > 0 else np.zeros_like(whole)


def over_image(
    heat: NDArray[np.float32],
    preprocess: Preprocess,
    *,
    image_size: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """The heat over the upright image: float32 (H, W); 0 where the model sees nothing of it.

    Args:
        heat: float32 (h, w) in [0, 1], over the model's input or coarser.
        preprocess: What made the input from the image: resized, cropped or padded.
        image_size: (height, width) of the upright image.
        size: (H, W) of the result, where the image is shown at another size.
    """
    size = size or image_size
    resized = preprocess.resized_size(*image_size)
    window = crop_window(resized, preprocess.input_size, preprocess.convention)
    rows = _positions(size[0], resized[0], window.top, window.bottom)
    columns = _positions(size[1], resized[1], window.left, window.right)
    return _blend(_blend(heat, rows).T, columns).T


def seen_box(
    preprocess: Preprocess, *, image_size: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """What the model sees of the image: left, top, right, bottom, in pixels of `size`.

    Args:
        preprocess: What makes the input from the image.
        image_size: (height, width) of the upright image.
        size: (H, W) at which it is shown.
    """
    resized = preprocess.resized_size(*image_size)
    window = crop_window(resized, preprocess.input_size, preprocess.convention)
    down, across = size[0] / resized[0], size[1] / resized[1]
    left, right = max(0, window.left) * across, min(resized[1], window.right) * across
    top, bottom = max(0, window.top) * down, min(resized[0], window.bottom) * down
    return left, top, right, bottom


def _positions(outputs: int, resized: int, start: int, stop: int) -> NDArray[np.float64]:
    """Where in the input each row of the image lies: 0 to 1; beyond that outside of it."""
    centres = (np.arange(outputs) + 0.5) * (resized / outputs)
    return (centres - start) / (stop - start)


def _blend(heat: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of the heat at these positions, linearly between their centres; outside of it 0."""
    last = len(heat) - 1
    places = np.clip(positions * len(heat) - 0.5, 0, last)
    lower = np.floor(places).astype(np.int64)
    share = (places - lower).astype(np.float32)[:, None]
    blended = heat[lower] * (1 - share) + heat[np.minimum(lower + 1, last)] * share
    blended[(positions < 0) | (positions >= 1)] = 0
    return blended
