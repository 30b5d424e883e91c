"""Eager: a network as it is in, reference outputs out, or why its answers cannot be trusted.

Before its first label it is asked for two of the reference inputs; what that costs is not paid
again when it is compiled.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel.bundle.model import Model
from toplabel.bundle.reference import ReferenceOutputs
from toplabel.bundle.trust import Run, check_repeatability
from toplabel.errors import ModelError
from toplabel.models.compile.child import describe

FIRST = 2
"""Reference inputs that a network is asked for before its first label."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True, slots=True)
class FirstAnswers:
    """What a network gave before its first label: the same when asked again, and in a batch.

    Args:
        logits: For the first reference inputs, each alone: float32 (2, K).
        one_at_a_time: It does not take the two as a batch.
    """

    logits: NDArray[np.float32]
    one_at_a_time: bool


def first_answers(model: Model) -> FirstAnswers:
    """What the model gives for the first reference inputs, by as many threads as torch is set to.

    Raises:
        ModelError: It fails, gives no (N, K) scores, answers differently the second time, or lets
            the rest of the batch change an answer.
    """
    run = _runs(model, model.module)
    with torch.no_grad():
        drawn = ReferenceOutputs.draw(model.preprocess, run, count=FIRST)
        return FirstAnswers(drawn.logits, _check(model, run, drawn, batch_sizes=(FIRST,)))


def reference_outputs(
    model: Model, module: nn.Module, first: FirstAnswers | None
) -> tuple[ReferenceOutputs, bool]:
    """Reference outputs by eager PyTorch, and whether the module takes only one input at a time.

    Args:
        model: As its source gave it.
        module: Its network, or a copy of that.
        first: What it gave for the first of them, where it was asked.

    Raises:
        ModelError: Its answers cannot be trusted.
    """
    run, known = _runs(model, module), None if first is None else first.logits
    with torch.no_grad():
        reference = ReferenceOutputs.draw(model.preprocess, run, known=known)
        if first is None:
            return reference, _check(model, run, reference)
        one_at_a_time = _check(model, run, reference, batch_sizes=(5,), repeats=0)
    return reference, one_at_a_time or first.one_at_a_time


def _check(
    model: Model,
    run: Run,
    drawn: ReferenceOutputs,
    *,
    batch_sizes: tuple[int, ...] = (2, 5),
    repeats: int = 2,
) -> bool:
    return check_repeatability(
        run,
        drawn.inputs(),
        drawn.logits,
        name=model.name,
        if_random="switch it off",
        if_batch="is a batch normalisation still training?",
        batch_sizes=batch_sizes,
        repeats=repeats,
    )


def _runs(model: Model, module: nn.Module) -> Run:
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return _ask(model.name, module, torch.from_numpy(batch))

    return run


def _ask(name: str, module: nn.Module, batch: torch.Tensor) -> NDArray[np.float32]:
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
            f"{name} fails on a tensor of shape {tuple(batch.shape)} ({describe(error)}); it needs"
            " the input size and number of channels that it was trained with"
        ) from error
    what = f"a {type(output).__name__}"
    if isinstance(output, torch.Tensor):
        if output.ndim == 2 and len(output) == len(batch) and output.shape[1] > 0:
            return output.float().cpu().numpy()
        what = f"a tensor of shape {tuple(output.shape)}"
    raise ModelError(
        f"{name} gives {what} for a tensor of shape {tuple(batch.shape)}; expected one score for"
        " each class, shape (N, K)"
    )


def is_no_room(error: Exception) -> bool:
    """Whether the disk is full or may not be written to; another folder may be better then."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM
