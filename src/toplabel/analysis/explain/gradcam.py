"""Grad-CAM: a network, its input and a class in, the heat over its last feature map out.

The arithmetic is captum's (Selvaraju et al. 2017): each channel of the layer weighs as much as
the class grows with it, on average over the map; the weighted sum, where it is positive.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import nn

from toplabel._internal.text import first_line
from toplabel.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layout = Literal["maps", "channels_last", "tokens"]

_EXTRA_TOKENS = 16
"""Most class, distillation and register tokens that stand before an image's own."""

_NEAR = 1.25
"""A grid's cells are squares of the input; rounding makes small ones differ by this much."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradCam:
    """A map, and where it comes from.

    Args:
        heat: float32 (h, w), of the layer's own size, at least 0, of no fixed scale.
        layer: The layer's name in the network.
        logits: The network's, float32 (K,).
    """

    heat: NDArray[np.float32]
    layer: str
    logits: NDArray[np.float32]


def grad_cam(module: nn.Module, tensor: NDArray[np.float32], index: int) -> GradCam:
    """The heat of a class for one input.

    Args:
        module: The network, in eval mode, on the CPU. It is not touched: hooks are set on a copy
            that shares its weights, so that others may run it at the same time.
        tensor: Its input, float32 (C, h, w).
        index: The class.

    Raises:
        ModelError: The network has no layer to show, or does something that gradients cannot
            follow.
    """
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            return _grad_cam(_copy(module), tensor, index)
    except ModelError:
        raise
    except Exception as error:  # networks are other people's code
        raise ModelError(
            f"gradients cannot be computed for this network: {first_line(error)}"
        ) from error


def _grad_cam(network: nn.Module, tensor: NDArray[np.float32], index: int) -> GradCam:
    pixels = torch.from_numpy(tensor[None].copy()).requires_grad_()  # (1, C, h, w)
    layer, logits = find_layer(network, pixels, index)
    with as_maps(layer) as maps:
        attribution = LayerGradCam(network, maps).attribute(
            pixels, target=index, relu_attributions=True
        )  # (1, 1, h, w)
    heat = attribution.detach()[0, 0].float().numpy()
    return GradCam(heat=np.nan_to_num(heat), layer=layer.name, logits=logits)


def _copy(module: nn.Module) -> nn.Module:
    """The network again, of the same tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


@dataclass(frozen=True, slots=True)
class Layer:
    """A module of a network, its name, and how its output lies over the image."""

    name: str
    module: nn.Module
    grid: Grid


def find_layer(network: nn.Module, pixels: torch.Tensor, index: int) -> tuple[Layer, NDArray[Any]]:
    """The last layer with a map of features, and the logits (K,) of the forward that found it.

    A map is a 4-D output larger than 1x1, or the tokens of a transformer. Where the class does not
    depend on the last one (a ViT's patches after its last attention: the class token alone is
    read), the last one of the same shape on which it does.

    Args:
        network: In eval mode.
        pixels: Its input, (1, C, H, W), requiring a gradient.
        index: Of the class.

    Raises:
        ModelError: It has no such layer.
    """
    outputs, logits = _run(network, pixels)
    if not outputs:
        raise ModelError("no layer of this network gives a map of features")
    shape = outputs[-1][1].shape
    same = [(layer, value) for layer, value in outputs if value.shape == shape]
    values = [value for _, value in same]
    gradients = torch.autograd.grad(logits[0, index], values, allow_unused=True)
    for (layer, _), gradient in zip(reversed(same), reversed(gradients), strict=True):
        if gradient is not None and layer.grid.to_maps(gradient).any():
            return layer, logits.detach()[0].float().numpy()
    raise ModelError("this class depends on no layer that gives a map of features")


def _run(
    network: nn.Module, pixels: torch.Tensor
) -> tuple[list[tuple[Layer, torch.Tensor]], torch.Tensor]:
    """One forward: the outputs that are maps, in the order of their layers, and the logits."""
    outputs: list[tuple[Layer, torch.Tensor]] = []
    known: list[tuple[int, int]] = []
    size = pixels.shape[2], pixels.shape[3]

    def hook_of(name: str) -> Any:
        def keep(module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, torch.Tensor) or not output.requires_grad:
                return
            grid = find_grid(tuple(output.shape), size, known=known)
            if grid is not None:
                outputs.append((Layer(name, module, grid), output))
                if grid.layout != "tokens":
                    known.append((grid.height, grid.width))

        return keep

    hooks = [
        module.register_forward_hook(hook_of(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        logits: torch.Tensor = network(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, logits


@contextmanager
def as_maps(layer: Layer) -> Iterator[nn.Module]:
    """While it lasts, a module of its own whose output is the layer's, as (1, D, h, w).

    The network continues from this module's output, so that gradients stop by there.
    """
    if layer.grid.layout == "maps":
        yield layer.module
        return
    maps = nn.Identity()

    def pass_through(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return layer.grid.from_maps(maps(layer.grid.to_maps(output)), output)

    hook = layer.module.register_forward_hook(pass_through)
    try:
        yield maps
    finally:
        hook.remove()


@dataclass(frozen=True, slots=True)
class Grid:
    """How a layer's output lies over the image.

    Args:
        layout: "maps" is (1, D, h, w), "channels_last" (1, h, w, D), "tokens" (1, T, D): the last
            h x w tokens, row by row, are the image's.
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
    """How an output of this shape lies over the image; None where it does not.

    Args:
        shape: Of the output for one image.
        size: (height, width) of the model's input.
        known: Grids that the network's earlier layers had, first to last.
    """
    if len(shape) == 4 and shape[0] == 1:
        if _covers((shape[2], shape[3]), size):
            return Grid("maps", shape[2], shape[3])
        if _covers((shape[1], shape[2]), size):
            return Grid("channels_last", shape[1], shape[2])
    if len(shape) == 3 and shape[0] == 1:
        return _find_in_tokens(shape[1], size, known)
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
