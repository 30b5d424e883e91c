"""Placing: a heat map over the model's input in, the same over the picture out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toplabel.preprocess.sizes import crop_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.preprocess import Preprocess


def place(
    heat: NDArray[np.float32],
    recipe: Preprocess,
    *,
    picture: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """The heat over the upright picture: float32 (H, W); 0 where the model saw nothing of it.

    Args:
        heat: float32 (h, w) in [0, 1], over the model's input or coarser.
        recipe: What made the input of the picture: resized, cropped or padded.
        picture: (height, width) of the upright picture.
        size: (H, W) of the answer, where the picture is shown at another size.
    """
    size = size or picture
    resized = recipe.resized_size(*picture)
    window = crop_window(resized, recipe.input_size, recipe.convention)
    rows = _positions(size[0], resized[0], window.top, window.bottom)
    columns = _positions(size[1], resized[1], window.left, window.right)
    return _blend(_blend(heat, rows).T, columns).T


def _positions(outputs: int, resized: int, start: int, stop: int) -> NDArray[np.float64]:
    """Where in the input each row of the picture lies: 0 to 1; beyond that outside of it."""
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
