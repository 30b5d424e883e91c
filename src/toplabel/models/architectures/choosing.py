"""Choosing: candidates and a state dict in; the networks that compute the same, together, out.

Tensors that fit do not make an architecture: a stride, an activation or an epsilon shows in none.
So every candidate is run, with the weights given and with weights drawn at random, which show
differences that zeros, or activations below a limit, would hide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from toplabel.errors import MissingDependency, ModelNotFound
from toplabel.models.architectures.building import build, build_unset
from toplabel.models.architectures.identifying import Candidate, matching_state
from toplabel.models.architectures.signature import sorted_names
from toplabel.models.architectures.trials import (
    Answers,
    draw_weights,
    input_size,
    odd_size,
    run_trials,
    same,
)

__all__ = ["build", "choose"]

Choice = tuple[Candidate, nn.Module]
State = Mapping[str, torch.Tensor]


def choose(candidates: Sequence[Candidate], state: State) -> list[list[Choice]]:
    """The candidates with the weights loaded, in groups that compute the same logits.

    Logits are the same where they differ by at most 1e-5 x max(1, their spread) on fixed inputs,
    at every size that is a candidate's own and, with drawn weights, at an odd one. Where no logits
    depend on the input nothing is known, and candidates are not called the same.

    Args:
        candidates: As `identify` gives them for this state dict.
        state: Name in the file -> tensor on the CPU. Networks get copies.

    Returns:
        Groups in the order of their first candidates; networks in eval mode. A candidate that
        the installed library lacks, or that cannot be run, is left out: no group, if all are.

    Raises:
        MissingDependency: No candidate's library is installed.
    """
    loaded = list(_load_all(candidates, {name: _float32(t) for name, t in state.items()}))
    if len(loaded) <= 1:
        return [loaded] if loaded else []
    sizes = sorted({input_size(candidate, module) for candidate, module in loaded})
    groups: list[tuple[Answers, list[Choice]]] = []
    for candidate, module in loaded:
        answers = _ask(candidate, module, sizes)
        if answers is None:
            continue
        for others, group in groups:
            if same(answers, others):
                group.append((candidate, module))
                break
        else:
            groups.append((answers, [(candidate, module)]))
    return [group for _, group in groups]


def _load_all(candidates: Sequence[Candidate], state: State) -> Iterator[Choice]:
    missing: MissingDependency | None = None
    found = False
    for candidate in candidates:
        try:
            module = _load(candidate, matching_state(candidate, state))
        except MissingDependency as error:
            missing = error
            continue
        if module is not None:
            found = True
            yield candidate, module
    if missing is not None and not found:
        raise missing


def _load(candidate: Candidate, tensors: State) -> nn.Module | None:
    """The network with exactly these tensors, in eval mode; None where they do not fit it."""
    try:
        module = build_unset(candidate)
        if not _assign(module, tensors):
            return None
    except (ModelNotFound, RuntimeError):  # the installed version's architecture is another
        return None
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        module = build(candidate)  # it computes a buffer from parameters
        _assign(module, tensors)
    return module.eval()


def _assign(module: nn.Module, tensors: State) -> bool:
    """Put the tensors into the network; False where one is missing or is too many."""
    # Its own state dict says which version it is, which some architectures ask for.
    state = module.state_dict()
    missing = sorted_names(state.keys() - tensors.keys())  # but for the counters of batches
    if missing or not tensors.keys() <= state.keys():
        return False
    state.update(tensors)
    module.load_state_dict(state, strict=True, assign=True)
    return True


def _ask(
    candidate: Candidate, module: nn.Module, sizes: Sequence[tuple[int, int]]
) -> Answers | None:
    """What the candidate answers with its own weights and with drawn ones, None if nothing.

    The drawn ones go into a network of their own: some keep what they once computed from weights.
    """
    answers = run_trials(module, candidate.in_channels, sizes, "given")
    other = _load(candidate, draw_weights(module.state_dict()))
    if not answers or other is None:
        return None
    sizes = [*sizes, odd_size(sizes[0])]
    return answers | run_trials(other, candidate.in_channels, sizes, "drawn")


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of its own: the file behind the tensor may change while the network lives."""
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
