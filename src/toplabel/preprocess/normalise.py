"""Normalise: uint8 crops in, float32 planes out, as the model's own library computes them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arithmetic = Literal["divide", "multiply", "multiply64"]
"""How 0..255 becomes the range: `divide` x / 255 in float32 (torchvision and timm), `multiply`
x * (1 / 255) in float32 (torchvision's v2 ToDtype), `multiply64` the same in float64, then
rounded to float32 (transformers). They differ in the last bit."""


def normalise(
    crops: NDArray[np.uint8], tables: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Look every value up: float32 (C, h, w) for crops of uint8 (h, w, C), or (h, w, 1).

    A model has 256 answers per channel, so a table has the library's own bits by construction.

    Args:
        crops: The model's channels, in its order; a single plane serves every channel.
        tables: Of shape (C, 256), from `lookup_tables`.
        out: Written to and returned where given, float32 (C, h, w).
    """
    height, width, planes = crops.shape
    if out is None:
        out = np.empty((len(tables), height, width), np.float32)
    for channel, table in enumerate(tables):
        plane = crops[..., channel if planes > 1 else 0]
        np.take(table, plane, out=out[channel], mode="clip")  # "clip" spares a buffer
    return out


@lru_cache(maxsize=32)
def lookup_tables(
    *,
    limits: tuple[float, float],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    std_again: tuple[float, ...],
    arithmetic: Arithmetic,
) -> NDArray[np.float32]:
    """What each of the 256 values becomes in each channel: float32 (C, 256), not writable."""
    values = scaled_values(limits, arithmetic)
    tables = (values - _column(mean)) / _column(std)  # (C, 256), float32 throughout
    if std_again:
        tables = tables / _column(std_again)
    tables.flags.writeable = False
    return tables


def scaled_values(limits: tuple[float, float], arithmetic: Arithmetic) -> NDArray[np.float32]:
    """What 0 to 255 become before mean and std: float32 (256,)."""
    low, span = limits[0], limits[1] - limits[0]
    values = np.arange(256, dtype=np.float32)
    if span == 255:
        scaled = values
    elif arithmetic == "divide" and span == 1:
        scaled = values / np.float32(255)
    elif arithmetic == "multiply":
        scaled = values * np.float32(span / 255)
    else:
        scaled = (values.astype(np.float64) * (span / 255)).astype(np.float32)
    return scaled + np.float32(low) if low else scaled


def _column(numbers: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32)[:, None]
