"""Layers: a network in, the layer out whose output says where in the picture things are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from toplabel.analysis.explain.features import Grid, find_grid
from toplabel.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Layer:
    """A module of a network, its name, and how its output lies over the picture."""

    name: str
    module: nn.Module
    grid: Grid


@dataclass(frozen=True, slots=True)
class _Output:
    layer: Layer
    value: torch.Tensor


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
    shape = outputs[-1].value.shape
    same = [output for output in outputs if output.value.shape == shape]
    gradients = torch.autograd.grad(
        logits[0, index], [output.value for output in same], allow_unused=True
    )
    for output, gradient in zip(reversed(same), reversed(gradients), strict=True):
        if gradient is not None and _reaches(output.layer.grid, gradient):
            return output.layer, logits.detach()[0].float().numpy()
    raise ModelError("this class depends on no layer that gives a map of features")


def _reaches(grid: Grid, gradient: torch.Tensor) -> bool:
    return bool(grid.to_maps(gradient).any())


def _run(network: nn.Module, pixels: torch.Tensor) -> tuple[list[_Output], torch.Tensor]:
    """One forward: the outputs that are maps, in the order in which they were computed."""
    outputs: list[_Output] = []
    known: list[tuple[int, int]] = []
    size = pixels.shape[2], pixels.shape[3]

    def watch(name: str) -> Any:
        def keep(module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, torch.Tensor) or not output.requires_grad:
                return
            grid = find_grid(tuple(output.shape), size, known=known)
            if grid is not None:
                outputs.append(_Output(Layer(name, module, grid), output))
                if grid.layout != "tokens":
                    known.append((grid.height, grid.width))

        return keep

    hooks = [
        module.register_forward_hook(watch(name))
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

    What the network goes on with is this module's output, so that gradients stop by there.
    """
    if layer.grid.layout == "maps":
        yield layer.module
        return
    maps = nn.Identity()

    def lead_through(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return layer.grid.from_maps(maps(layer.grid.to_maps(output)), output)

    hook = layer.module.register_forward_hook(lead_through)
    try:
        yield maps
    finally:
        hook.remove()
