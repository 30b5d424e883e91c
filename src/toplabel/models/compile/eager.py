"""Eager: a model in, its golden logits by eager PyTorch out."""

from __future__ import annotations

import errno

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel.bundle.model import Model
from toplabel.bundle.reference import Goldens, draw_inputs, pixel_scale, to_inputs
from toplabel.bundle.trust import check_repeatability
from toplabel.errors import ModelError
from toplabel.models.compile.child import describe

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def ask(model: Model, module: nn.Module) -> tuple[Goldens, bool]:
    """The goldens by eager PyTorch, and whether the module takes only one input at a time.

    Raises:
        ModelError: Its answers cannot be trusted.
    """
    pixels = draw_inputs((model.preprocess.num_channels, *model.preprocess.input_size))
    scale, offset = pixel_scale(model.preprocess)
    inputs = to_inputs(pixels, scale=scale, offset=offset)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return _run(model.name, module, torch.from_numpy(batch))

    with torch.no_grad():
        logits = np.concatenate([run(inputs[i : i + 1]) for i in range(len(inputs))])
        fixed_batch = check_repeatability(
            run,
            inputs,
            logits,
            name=model.name,
            if_random="switch it off",
            if_batch="is a batch normalisation still training? Such a model has no label for an"
            " image",
        )
    return Goldens(pixels, scale, offset, logits), fixed_batch


def _run(name: str, module: nn.Module, batch: torch.Tensor) -> NDArray[np.float32]:
    """The logits (N, K), float32.

    Raises:
        ModelError: It fails, or gives something else.
    """
    try:
        output = module(batch)
    except Exception as error:
        if isinstance(error, MemoryError) or is_no_room(error):
            raise
        raise ModelError(
            f"{name} fails on a tensor of shape {tuple(batch.shape)} ({describe(error)});"
            " give the input size and channels that it was trained with"
        ) from error
    if (
        not isinstance(output, torch.Tensor)
        or output.ndim != 2
        or len(output) != len(batch)
        or output.shape[1] == 0
    ):
        raise ModelError(
            f"{name} gives {_described(output)} for a tensor of shape"
            f" {tuple(batch.shape)}; expected one score for each class, shape (N, K)"
        )
    return output.float().cpu().numpy()


def _described(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return f"a {type(output).__name__}"


def is_no_room(error: Exception) -> bool:
    """Whether the disk is full or may not be written to; another folder may be better then."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM
