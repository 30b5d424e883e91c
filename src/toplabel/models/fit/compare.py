"""Comparing: a network, a state dict and which is which in; what keeps them from fitting out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from toplabel.models.checkpoint.state_dicts import is_average
from toplabel.models.fit.matching import Match, Shape
from toplabel.models.fit.report import Difference

# What stands beside a network in its training: no layer of it, so it may stay in the file.
_BESIDE = re.compile(
    "criterion|criteria|(.*_)?loss(es)?(_fn|_fun|_func|_function)?|(.*_)?(metrics?|acc|accuracy|auroc)"
    "|(.*_)?(confmat|f1|confusion_matrix)|(class|pos|loss)_weights?|n_averaged"
)
# Counters that profilers and batch normalisation keep, and tables that a network makes itself.
_COUNTERS = re.compile(r"(.*\.)?(num_batches_tracked|total_ops|total_params)")
_TABLES = re.compile(r"(.*\.)?(relative_position_index|position_ids)")


def compare(
    wanted: Mapping[str, Any], state: Mapping[str, torch.Tensor], match: Match
) -> tuple[Difference, list[str]]:
    """What keeps the file from being the network's, and notes on what differs and does not matter.

    Args:
        wanted: The network's state dict; its values are its own parameters and buffers.
        state: The file's.
        match: Which is which by name.
    """
    missing, notes = _missing(wanted, match)
    unexpected, harmless = _unexpected(state, match)
    pairs = {ours: (state[theirs], wanted[ours]) for ours, theirs in match.names.items()}
    clashes, kinds = {}, {}
    for ours, (theirs, own) in pairs.items():
        if not is_lazy(own) and own.shape != theirs.shape:
            clashes[ours] = tuple(theirs.shape), tuple(own.shape)
        elif not _same_kind(theirs, own, ours):
            kinds[ours] = _named(theirs.dtype), _named(own.dtype)
    difference = Difference(
        total=len(match.names) + len(missing),
        missing=missing,
        unexpected=unexpected,
        clashes=clashes,
        kinds=kinds,
    )
    return difference, [*notes, *harmless, *_precision_notes(pairs)]


def _missing(wanted: Mapping[str, Any], match: Match) -> tuple[dict[str, Shape], list[str]]:
    """The network's tensors that the file lacks, but for counters and twins of what it has."""
    loaded = {id(wanted[ours]) for ours in match.names}
    missing, counters = {}, []
    for ours, tensor in wanted.items():
        if ours in match.names or id(tensor) in loaded:
            continue
        if ours.endswith("num_batches_tracked"):
            counters += (
                [ours] if ours.replace("num_batches_tracked", "running_mean") in match.names else []
            )
        else:
            missing[ours] = shape_of(tensor) or ()
    note = "it has no num_batches_tracked, as files of old; answers do not depend on it"
    return missing, [note] if counters else []


def _unexpected(
    state: Mapping[str, torch.Tensor], match: Match
) -> tuple[dict[str, Shape], list[str]]:
    """The file's tensors that have no place, but for those that are no part of any network."""
    used = set(match.names.values())
    unexpected, beside = {}, []
    for theirs, tensor in state.items():
        if theirs in used:
            continue
        outside = not match.prefix or not theirs.startswith(match.prefix)
        first = theirs.split(".")[0]
        counter = _COUNTERS.fullmatch(theirs) is not None and tensor.numel() == 1
        training = _BESIDE.fullmatch(first) or (match.prefix and is_average(first))
        if counter or _TABLES.fullmatch(theirs) or (outside and training):
            beside.append(theirs)
        else:
            unexpected[theirs] = tuple(tensor.shape)
    more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
    note = f"left out, as no layer of the network: {', '.join(beside[:3])}{more}"
    return unexpected, [note] if beside else []


def _same_kind(theirs: torch.Tensor, own: Any, name: str) -> bool:
    """Whether a number of the file means the same in the network: no integer as a weight."""
    if name.endswith("num_batches_tracked"):
        return True  # averages of weights keep it as a float
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (theirs, own)]
    return kinds[0] == kinds[1]


def _precision_notes(pairs: Mapping[str, tuple[torch.Tensor, Any]]) -> list[str]:
    changed = {
        (_named(theirs.dtype), _named(own.dtype))
        for theirs, own in pairs.values()
        if theirs.is_floating_point() and own.is_floating_point() and theirs.dtype != own.dtype
    }
    return [
        f"weights are {theirs} in the file and {own} in the network"
        for theirs, own in sorted(changed)
    ]


def shape_of(tensor: Any) -> Shape | None:
    """The shape of a tensor; None for a lazy layer's, that the file's shape will become."""
    return None if is_lazy(tensor) else tuple(getattr(tensor, "shape", ()))


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
