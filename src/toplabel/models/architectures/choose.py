"""Candidates and a state dict in; the networks that compute the same, together, out.

Tensors that fit do not make an architecture: a stride, an activation or an epsilon shows in none.
So every candidate is run, with the weights given and with weights drawn at random, which show
differences that zeros, or activations below a limit, would hide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from toplabel.errors import MissingDependency, ModelNotFound
from toplabel.models.architectures.build import build, build_unset
from toplabel.models.architectures.identify import Candidate, matching_state
from toplabel.models.architectures.index import sorted_names

Choice = tuple[Candidate, nn.Module]
State = Mapping[str, torch.Tensor]
Weights = Literal["given", "drawn"]
Answers = dict[tuple[Weights, tuple[int, int]], torch.Tensor]  # float32 (2, K) each

_SEED = 20
_TOLERANCE = 1e-5  # of the spread of the logits, or of 1
_NO_SPREAD = 1e-6  # of the largest logit: what rounding alone makes of one answer
_STEP = 31  # pixels
_DEFAULT_SIZE = {"inception_v3": 299}
_IMAGENET_SIZE = 224


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
            if _same(answers, others):
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
    answers = _run_trials(module, candidate.in_channels, sizes, "given")
    other = _load(candidate, _draw_weights(module.state_dict()))
    if not answers or other is None:
        return None
    width, height = sizes[0]  # and one odd where that is even: there, ways of padding differ
    sizes = [*sizes, (width - _STEP, height - _STEP)]
    return answers | _run_trials(other, candidate.in_channels, sizes, "drawn")


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of its own: the file behind the tensor may change while the network lives."""
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()


def input_size(candidate: Candidate, module: nn.Module) -> tuple[int, int]:
    """The height and width that the candidate is made for."""
    for argument in ("img_size", "image_size"):
        if argument in candidate.arguments:
            return (candidate.arguments[argument],) * 2
    if candidate.library == "timm":
        settings: Mapping[str, Any] = getattr(module, "pretrained_cfg", None) or {}
        _, height, width = settings.get("input_size", (3, _IMAGENET_SIZE, _IMAGENET_SIZE))
        return int(height), int(width)
    side = getattr(module, "image_size", _DEFAULT_SIZE.get(candidate.name, _IMAGENET_SIZE))
    return int(side), int(side)


def _run_trials(
    module: nn.Module, channels: int, sizes: Sequence[tuple[int, int]], weights: Weights
) -> Answers:
    """The logits at each of the sizes that the network can be run at."""
    answers: Answers = {}
    for size in sizes:
        try:
            with torch.no_grad():
                outputs = module(_draw_images(channels, *size))
        except (RuntimeError, AssertionError, IndexError, ValueError, TypeError):
            continue  # it takes images of other sizes only
        if isinstance(outputs, torch.Tensor) and outputs.ndim == 2:
            answers[weights, size] = outputs
    return answers


def _same(a: Answers, b: Answers) -> bool:
    """Whether two networks compute the same, as far as their common trials show."""
    proven = False
    for trial in a.keys() & b.keys():
        one, other = a[trial], b[trial]
        if not (one.isfinite().all() and other.isfinite().all()):
            continue
        limit = _TOLERANCE * max(1.0, float(one.max() - one.min()))
        if one.shape != other.shape or _distance(one, other) > limit:
            return False
        largest = float(one.abs().max())
        proven |= _distance(one[0], one[1]) > _NO_SPREAD * max(1.0, largest)
    return proven


def _draw_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random weights in place of those given, of a size that lets signals through.

    Integers are kept: they are tables and counters. Scales lie in [0.5, 1.5].
    """
    generator = torch.Generator().manual_seed(_SEED)
    return {name: _draw(name, state[name], generator) for name in sorted(state)}


def _draw(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    shape = tuple(tensor.shape)
    if tensor.ndim <= 1 and name.endswith(("bias", "running_mean", "beta")):
        return 0.1 * torch.randn(shape, generator=generator)
    if tensor.ndim <= 1:
        return 0.5 + torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator) / math.sqrt(max(1, tensor[0].numel()) / 2)


def _draw_images(channels: int, height: int, width: int) -> torch.Tensor:
    """Noise, and a smooth slope: float32 (2, C, H, W)."""
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.randn(channels, height, width, generator=generator)
    down = torch.linspace(-2, 2, height).reshape(1, -1, 1)
    across = torch.linspace(-1, 1, width).reshape(1, 1, -1)
    tint = torch.linspace(0.5, 1.0, channels).reshape(-1, 1, 1)
    return torch.stack([noise, (down + across) * tint])


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
