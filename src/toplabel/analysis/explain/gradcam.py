"""Grad-CAM: a network, its input and a class in, the heat over the network's last map out.

The arithmetic is captum's (Selvaraju et al. 2017): each channel of the layer weighs as much as
the class grows with it, on average over the map; the weighted sum, where it is positive.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from captum.attr import LayerGradCam

from toplabel.analysis.explain.layers import as_maps, find_layer
from toplabel.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradCam:
    """A map, and where it comes from.

    Args:
        heat: float32 (h, w), of the layer's own size, at least 0, of no fixed scale.
        layer: The layer's name in the network.
        logits: What the network says of the picture, float32 (K,).
    """

    heat: NDArray[np.float32]
    layer: str
    logits: NDArray[np.float32]


def grad_cam(module: nn.Module, tensor: NDArray[np.float32], index: int) -> GradCam:
    """The map of a class for one input.

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
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"gradients cannot be had of this network: {reason}") from error


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
