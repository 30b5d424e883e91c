"""Features: a layer's output in, what it says of the picture's places out, as (1, D, h, w)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Layout = Literal["maps", "channels_last", "tokens"]

_EXTRA_TOKENS = 16
"""Most class, distillation and register tokens that stand before a picture's own."""

_NEAR = 1.25
"""A grid's cells are squares of the input; rounding makes small ones differ by this much."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How a layer's output lies over the picture.

    Args:
        layout: "maps" is (1, D, h, w), "channels_last" (1, h, w, D), "tokens" (1, T, D): the last
            h x w tokens, row by row, are the picture's.
        height: h, more than 1, or w is.
        width: w.
    """

    layout: Layout
    height: int
    width: int

    def to_maps(self, output: torch.Tensor) -> torch.Tensor:
        """The output as (1, D, h, w), of which the gradient flows back."""
        if self.layout == "maps":
            return output
        if self.layout == "channels_last":
            return output.permute(0, 3, 1, 2)
        own = output[:, -self.height * self.width :]  # (1, h * w, D)
        return own.transpose(1, 2).reshape(1, -1, self.height, self.width)

    def from_maps(self, maps: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The output again, with `maps` in the place of what `to_maps` took from it."""
        if self.layout == "maps":
            return maps
        if self.layout == "channels_last":
            return maps.permute(0, 2, 3, 1)
        own = maps.flatten(2).transpose(1, 2)  # (1, h * w, D)
        return torch.cat([output[:, : -self.height * self.width], own], dim=1)


def find_grid(
    shape: tuple[int, ...], size: tuple[int, int], *, known: list[tuple[int, int]]
) -> Grid | None:
    """How an output of this shape lies over the picture; None where it does not.

    Args:
        shape: Of the output for one picture.
        size: (height, width) of the model's input.
        known: Grids that the network's earlier layers had, first to last.
    """
    if len(shape) == 4 and shape[0] == 1:
        return _find_in_maps(shape, size)
    if len(shape) == 3 and shape[0] == 1:
        return _find_in_tokens(shape[1], size, known)
    return None


def _find_in_maps(shape: tuple[int, ...], size: tuple[int, int]) -> Grid | None:
    if _covers((shape[2], shape[3]), size):
        return Grid("maps", shape[2], shape[3])
    if _covers((shape[1], shape[2]), size):
        return Grid("channels_last", shape[1], shape[2])
    return None


def _find_in_tokens(count: int, size: tuple[int, int], known: list[tuple[int, int]]) -> Grid | None:
    for height, width in reversed(known):
        if 0 <= count - height * width <= _EXTRA_TOKENS:
            return Grid("tokens", height, width)
    for own in range(count, max(count - _EXTRA_TOKENS, 3), -1):
        height = round((own * size[0] / size[1]) ** 0.5)
        if height and own % height == 0 and _covers((height, own // height), size):
            return Grid("tokens", height, own // height)
    return None


def _covers(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid can lie over an input: more than one cell, smaller than it, of squares."""
    if max(grid) < 2 or grid[0] > size[0] or grid[1] > size[1]:
        return False
    cell = size[0] / grid[0], size[1] / grid[1]
    return max(cell) <= min(cell) * _NEAR or abs(grid[0] - round(size[0] / cell[1])) <= 1
