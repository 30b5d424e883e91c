"""Weights: a network and a state dict in; the network with them, and how they fitted, out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from toplabel.errors import CheckpointError
from toplabel.models.fit.compare import compare, shape_of
from toplabel.models.fit.matching import Match, find_matches
from toplabel.models.fit.report import Difference


@dataclass(frozen=True, slots=True)
class Fit:
    """How a state dict fitted.

    Args:
        share: Of the network's parameters, by their numbers, that were loaded: 1.0 for all.
        prefix: What the file's names have before the network's.
        notes: What a person should know of it, a sentence each.
    """

    share: float
    prefix: str
    notes: tuple[str, ...]


def fit(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    allow_partial: bool = False,
    name: str = "the checkpoint",
) -> Fit:
    """Load a state dict into a network, in place, once its names are matched.

    Args:
        module: On the CPU.
        state: Names may have any prefix before the network's.
        allow_partial: Load what agrees in name and shape, and leave the rest as it was made.
        name: What to call the state dict in messages.

    Raises:
        CheckpointError: Names or shapes differ, and how; the file holds the network twice;
            or nothing at all could be loaded.
    """
    wanted = module.state_dict(keep_vars=True)
    match, *others = find_matches(
        {ours: shape_of(tensor) for ours, tensor in wanted.items() if torch.is_tensor(tensor)},
        {theirs: tuple(tensor.shape) for theirs, tensor in state.items()},
    )
    difference, notes = compare(wanted, state, match)
    if not (difference.missing or difference.misfits):
        _check_single(module, state, match, others, name)
    # A strict load casts numbers of another kind without a word.
    if difference and not difference.kinds and _loads_by_itself(module, state, match, difference):
        return Fit(1.0, match.prefix, (*notes, "the class itself renamed the file's tensors"))
    if difference and not allow_partial:
        raise CheckpointError(difference.describe(module, name))
    usable = {
        ours: state[theirs]
        for ours, theirs in match.names.items()
        if ours not in difference.clashes and ours not in difference.kinds
    }
    _check_ties(wanted, usable, name)
    share = _share(module, wanted, usable)
    if share == 0:
        raise CheckpointError(
            f"nothing of {name} could be loaded; {difference.describe(module, name)}"
        )
    loaded = OrderedDict(usable)
    loaded._metadata = wanted._metadata  # type: ignore[attr-defined]  # its version; some ask for it
    module.load_state_dict(loaded, strict=False)
    if difference:
        notes = [*notes, _partial_note(module, wanted, usable, share)]
    return Fit(share, match.prefix, tuple(notes))


def _check_single(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    match: Match,
    others: Sequence[Match],
    name: str,
) -> None:
    """Stop where the file has the whole network once more, with other weights."""
    different = [
        other
        for other in others
        if any(
            not torch.equal(state[match.names[ours]], state[theirs])
            for ours, theirs in other.names.items()
        )
    ]
    if different:
        prefixes = " and ".join(repr(one.prefix) for one in (match, *different))
        raise CheckpointError(
            f"{name} holds {type(module).__name__} {len(different) + 1} times with different"
            f" weights, under {prefixes}; save the state dict of the one that is meant alone"
        )


def _check_ties(wanted: Mapping[str, Any], usable: Mapping[str, torch.Tensor], name: str) -> None:
    """Stop where the network has one tensor under two names, and the file two different ones."""
    first: dict[int, str] = {}
    for ours, tensor in usable.items():
        twin = first.setdefault(id(wanted[ours]), ours)
        if twin != ours and not torch.equal(usable[twin].float(), tensor.float()):
            raise CheckpointError(
                f"{name} has different weights for {twin} and {ours}, which are one and the same"
                " in the network; it was trained with another version of the class"
            )


def _loads_by_itself(
    module: nn.Module, state: Mapping[str, torch.Tensor], match: Match, difference: Difference
) -> bool:
    """Whether hooks of the class rename the file's tensors so that every one has its place.

    A weight normalisation loads its older names so. Where they do not, nothing has changed.
    """
    before = module.state_dict()
    beyond = [name for name in difference.unexpected if not name.startswith(match.prefix)]
    if beyond or not _has_hooks(module) or any(map(is_lazy, before.values())):
        return False
    before = {key: value.clone() for key, value in before.items() if torch.is_tensor(value)}
    stripped = {
        key.removeprefix(match.prefix): value
        for key, value in state.items()
        if key.startswith(match.prefix)
    }
    try:
        nn.Module.load_state_dict(module, stripped, strict=True)
    except RuntimeError:
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if key in before:
                    value.copy_(before[key])
        return False
    return True


def _has_hooks(module: nn.Module) -> bool:
    if any(part._load_state_dict_pre_hooks for part in module.modules()):
        return True
    kinds = {type(part) for part in module.modules()}
    theirs = [kind for kind in kinds if not kind.__module__.startswith("torch.nn.")]
    return any(kind._load_from_state_dict is not nn.Module._load_from_state_dict for kind in theirs)


def _share(
    module: nn.Module, wanted: Mapping[str, Any], usable: Mapping[str, torch.Tensor]
) -> float:
    """Of the numbers in all parameters, those that are loaded; of the buffers, if it has none."""
    loaded = {id(wanted[ours]): tensor.numel() for ours, tensor in usable.items()}
    parameters = {id(p): 0 if is_lazy(p) else p.numel() for p in module.parameters()}
    if not parameters:
        parameters = {id(b): b.numel() for b in module.buffers()}
    total = sum(size or loaded.get(key, 0) for key, size in parameters.items())
    return sum(loaded.get(key, 0) for key in parameters) / total if total else 0.0


def _partial_note(
    module: nn.Module, wanted: Mapping[str, Any], usable: Mapping[str, torch.Tensor], share: float
) -> str:
    loaded = {id(wanted[ours]) for ours in usable}
    absent = [ours for ours, tensor in wanted.items() if id(tensor) not in loaded]
    if not absent:
        return "all of the class was loaded, but not all of the file; answers may be wrong"
    more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
    return (
        f"only {share:.1%} of the parameters of {type(module).__name__} were loaded; not"
        f" {', '.join(absent[:10])}{more}: these are as the class made them, so answers may be"
        " wrong"
    )
