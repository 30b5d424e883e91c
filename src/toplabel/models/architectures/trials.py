"""Trials: a network in; its logits on fixed inputs out, and whether two networks' are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from toplabel.models.architectures.identifying import Candidate

Weights = Literal["given", "drawn"]
Answers = dict[tuple[Weights, tuple[int, int]], torch.Tensor]  # float32 (2, K) each

_SEED = 20
_TOLERANCE = 1e-5  # of the spread of the logits, or of 1
_NO_SPREAD = 1e-6  # of the largest logit: what rounding alone makes of one answer
_STEP = 31  # pixels
_DEFAULT_SIZE = {"inception_v3": 299}
_IMAGENET_SIZE = 224


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


def odd_size(size: tuple[int, int]) -> tuple[int, int]:
    """A smaller size, odd where the other is even: there, ways of padding differ."""
    return size[0] - _STEP, size[1] - _STEP


def run_trials(
    module: nn.Module, channels: int, sizes: Sequence[tuple[int, int]], weights: Weights
) -> Answers:
    """The logits at each of the sizes that the network can be run at."""
    answers: Answers = {}
    for size in sizes:
        try:
            with torch.no_grad():
                outputs = module(_draw_images(channels, *size))
        except (RuntimeError, AssertionError, IndexError, ValueError, TypeError):
            continue  # it takes pictures of other sizes only
        if isinstance(outputs, torch.Tensor) and outputs.ndim == 2:
            answers[weights, size] = outputs
    return answers


def same(a: Answers, b: Answers) -> bool:
    """Whether two networks compute the same, as far as their common trials show."""
    proven = False
    for trial in a.keys() & b.keys():
        one, other = a[trial], b[trial]
        if not (one.isfinite().all() and other.isfinite().all()):
            continue
        if one.shape != other.shape or _distance(one, other) > _limit(one):
            return False
        largest = float(one.abs().max())
        proven |= _distance(one[0], one[1]) > _NO_SPREAD * max(1.0, largest)
    return proven


def draw_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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


def _limit(logits: torch.Tensor) -> float:
    return _TOLERANCE * max(1.0, float(logits.max() - logits.min()))
