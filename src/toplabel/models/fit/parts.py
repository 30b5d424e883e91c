"""A checkpoint that holds more than one network in; the one that is meant, and the rest, out.

What is left out is said, and where it may be what was meant it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch

from toplabel._internal.notices import warn
from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.state_dict_search import (
    FoundStateDict,
    NestedState,
    State,
)
from toplabel.models.prefixes import cuts

_SHOWN = 4


def choose_part(found: FoundStateDict, fits: Callable[[State], bool]) -> FoundStateDict:
    """The one of a checkpoint's state dicts that fits, if one does; else the same.

    `unclear` is empty where exactly one fits.
    """
    if not found.parts or (not found.unclear and fits(found.state)):
        return found
    fitting = [part for part in found.parts if fits(part.state)]
    if found.unclear and fits(found.state):
        fitting.insert(0, NestedState(found.where, found.state))
    return _with_part(found, fitting[0]) if len(fitting) == 1 else found


def _with_part(found: FoundStateDict, part: NestedState) -> FoundStateDict:
    """The same checkpoint with another of its state dicts as the one that is meant."""
    if part.where == found.where:
        return replace(found, unclear="")
    rest = [one for one in found.parts if one is not part]
    return replace(
        found,
        state=part.state,
        where=part.where,
        parts=(NestedState(found.where, found.state), *rest),
        unclear="",
    )


def check_left_out(
    found: FoundStateDict,
    beside: Collection[str] = (),
    *,
    prefix: str = "",
    file: str,
    network: str,
) -> None:
    """Say which parts of the checkpoint do not answer; stop where one may be what was meant.

    Args:
        found: The state dict that was taken.
        beside: Names of the tensors in it that stand beside the network.
        prefix: What the names of the network's own begin with there.
        file: What to call the checkpoint.
        network: What to call the network.

    Raises:
        CheckpointError: Beside the network is what may be its real classifier.
    """
    if found.averages:
        warn(
            f"{file} also holds averaged (EMA) weights, under {', '.join(found.averages)}, which"
            " are left out; pass ema=True to use them"
        )
    groups = [*found.parts, *_groups(found.state, beside, prefix)]
    own = {name: tensor for name, tensor in found.state.items() if name.startswith(prefix)}
    taken = f"{found.where}.{prefix}".strip(".")
    for group in groups:
        if _may_be_head(group.state, own):
            raise CheckpointError(
                f"{file} holds {network}{taken and f', under {taken!r}'}, and beside it {group},"
                " which may be the classifier that was trained on top of it: pass the class that"
                f' holds both, arch="nets.py:MyClass", or state_dict={taken!r} to use {network}'
                " alone"
            )
    if groups:
        names = ", ".join(map(str, groups[:_SHOWN]))
        more = f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
        warn(
            f"{file} holds more than {network}: left out are {names}{more}; if one of them belongs"
            " to the network, pass the class that holds both"
        )


def _may_be_head(part: State, network: State) -> bool:
    """Whether the first layer of a small part takes what a layer of the network gives."""
    matrices = [tensor.shape for tensor in part.values() if len(tensor.shape) == 2]
    if not matrices or any(len(tensor.shape) > 2 for tensor in part.values()):
        return False
    return matrices[0][1] in {t.shape[0] for t in network.values() if len(t.shape) >= 2}


def _groups(
    state: Mapping[str, torch.Tensor], beside: Collection[str], prefix: str
) -> list[NestedState]:
    """The tensors beside the network by the first part of their names that is not its own."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name in beside:
        starts = (start for start, _ in cuts(name))
        group = next((start for start in starts if not prefix.startswith(start)), name)
        groups.setdefault(group.rstrip("."), {})[name] = state[name]
    return [NestedState(start, group) for start, group in groups.items()]
