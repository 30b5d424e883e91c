"""Eager: a model in, its golden logits by eager PyTorch out."""

from __future__ import annotations

import errno

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel.bundle.model import Model
from toplabel.bundle.reference import Goldens, draw_inputs, spread_of, to_inputs, tolerance_for
from toplabel.errors import ModelError
from toplabel.models.compile.child import describe
from toplabel.preprocess import Preprocess

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_ROUNDING = 1e-5  # of the largest logit: what the order of additions may change at most
_BATCH_SIZES = (2, 5)


def ask(model: Model, module: nn.Module) -> tuple[Goldens, bool]:
    """The goldens by eager PyTorch, and whether the module takes only one input at a time.

    Raises:
        ModelError: Its answers cannot be trusted.
    """
    pixels = draw_inputs((model.preprocess.num_channels, *model.preprocess.input_size))
    scale, offset = pixel_scale(model.preprocess)
    inputs = torch.from_numpy(to_inputs(pixels, scale=scale, offset=offset))
    with torch.no_grad():
        logits = _one_by_one(model, module, inputs)
        _check_repeats(model, module, inputs, logits)
        fixed_batch = _check_batches(model, module, inputs, logits)
    return Goldens(pixels, scale, offset, logits), fixed_batch


def pixel_scale(preprocess: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The recipe's last step as scale (C,) and offset (C,): tensor = pixels * scale + offset."""
    low, high = preprocess.range
    mean, std = np.asarray(preprocess.mean, np.float64), np.asarray(preprocess.std, np.float64)
    if preprocess.std_again:
        std = std * np.asarray(preprocess.std_again, np.float64)
    channels = (preprocess.num_channels,)
    scale = np.broadcast_to((high - low) / 255 / std, channels).astype(np.float32)
    offset = np.broadcast_to((low - mean) / std, channels).astype(np.float32)
    return scale, offset


def _one_by_one(model: Model, module: nn.Module, inputs: torch.Tensor) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for index in range(len(inputs)):
        one = inputs[index : index + 1]
        try:
            output = module(one)
        except Exception as error:
            if isinstance(error, MemoryError) or is_no_room(error):
                raise
            raise ModelError(
                f"{model.name} fails on a tensor of shape {tuple(one.shape)} ({describe(error)});"
                " give the input size and channels that it was trained with"
            ) from error
        row = _scores(output)
        if row is None or len(row) != 1 or (rows and row.shape != rows[0].shape):
            raise ModelError(
                f"{model.name} gives {_described(output)} for a tensor of shape"
                f" {tuple(one.shape)}; expected one score for each class, shape (N, K)"
            )
        rows.append(row)
    return np.concatenate(rows)


def _scores(output: object) -> NDArray[np.float32] | None:
    """The output as float32 (N, K), or None where it is something else."""
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[1] == 0:
        return None
    return output.float().cpu().numpy()


def _described(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return f"a {type(output).__name__}"


def _check_repeats(
    model: Model, module: nn.Module, inputs: torch.Tensor, logits: NDArray[np.float32]
) -> None:
    for index in range(2):
        again = _scores(module(inputs[index : index + 1]))
        difference = _difference(logits[index : index + 1], again)
        if difference > _allowed(logits):
            raise ModelError(
                f"{model.name} answers differently when asked again (by up to {difference:.3g});"
                " something random is active, such as dropout; switch it off"
            )


def _check_batches(
    model: Model, module: nn.Module, inputs: torch.Tensor, logits: NDArray[np.float32]
) -> bool:
    """Whether the module takes only one input at a time."""
    for size in _BATCH_SIZES:
        try:
            together = _scores(module(inputs[:size]))
        except Exception:
            return True
        if together is None or together.shape != (size, logits.shape[1]):
            return True
        difference = _difference(logits[:size], together)
        if difference > _allowed(logits):
            raise ModelError(
                f"the answer of {model.name} for one image depends on the other images of its"
                f" batch (it differs by up to {difference:.3g}); such a model has no label for an"
                " image; is a batch normalisation still training?"
            )
    return False


def _difference(expected: NDArray[np.float32], got: NDArray[np.float32] | None) -> float:
    if got is None or got.shape != expected.shape:
        return float("inf")
    if not np.array_equal(np.isfinite(expected), np.isfinite(got)):
        return float("inf")
    finite = np.isfinite(expected)
    return float(np.abs(expected[finite] - got[finite]).max(initial=0.0))


def _allowed(logits: NDArray[np.float32]) -> float:
    finite = logits[np.isfinite(logits).all(axis=1)]
    if not len(finite):
        return 0.0
    return max(tolerance_for(spread_of(finite)), _ROUNDING * float(np.abs(finite).max()))


def is_no_room(error: Exception) -> bool:
    """Whether the disk is full or may not be written to; another folder may be better then."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM
