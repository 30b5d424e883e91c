"""The size of images that a network takes: a network in, the sides that run through it out.

A network that ends in fully connected layers fixes it to a few pixels; one that averages over the
image takes any, and only its data set says which it was trained on. The forward is tried on
tensors without values (the device `meta`), so that hundreds of sizes cost milliseconds and no
memory; a forward that needs values is run on a few usual sizes.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from math import isqrt
from typing import Any

import torch
from torch import nn

from toplabel._internal.notices import quiet_libraries
from toplabel._internal.text import number_of
from toplabel.models.sources.module import undisturbed

DATA_SETS: Mapping[str, tuple[str, int]] = {
    r"tiny.?image.?net": ("Tiny ImageNet", 64),
    r"image.?net|ilsvrc": ("ImageNet", 224),
    r"cifar": ("CIFAR", 32),
    r"svhn": ("SVHN", 32),
    r"gtsrb": ("GTSRB", 32),
    r"fashion.?mnist|fmnist": ("Fashion-MNIST", 28),
    r"[ek]mnist|qmnist": ("EMNIST", 28),
    r"mnist": ("MNIST", 28),
    r"fer.?2013|ferplus": ("FER-2013", 48),
    r"euro.?sat": ("EuroSAT", 64),
    r"stl.?10": ("STL-10", 96),
}
"""How a data set is written -> its name and the side of its images, in pixels."""

_USUAL = (32, 28, 224, 64, 48, 128, 256)
"""Sides that images are brought to by most: one of them in a narrow range is what was meant."""
_RARER = (
    *(96, 299, 100, 112, 150, 227, 160, 192, 384, 512, 16, 20, 24, 36, 40, 50, 56, 60, 75, 80, 84),
    *(90, 120, 140, 144, 176, 180, 200, 208, 220, 240, 250, 260, 288, 300, 320, 331, 336, 350, 400),
)
_LARGEST = 640  # a network that takes it takes any
_LARGEST_WITH_VALUES = 256
_SECONDS = 5.0  # of this thread, for all tries; a single forward is not cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSize:
    """What images a network takes, and which size among them is its own.

    Args:
        channels: Of its first layer.
        low: The smallest side of a square image that runs through it; None: there is none.
        high: The largest; None: there is no limit, as far as was tried.
        side: The one to use; None where several would do equally well, or none.
        reason: Why that one, or why none, for people.
        flat: It takes rows of numbers: `channels` x side x side where they are an image's.
    """

    channels: int
    low: int | None
    high: int | None
    side: int | None
    reason: str
    flat: bool = False

    def __str__(self) -> str:
        """The images that it takes, for people: `32x32 to 35x35 pixels of 3 channels`."""
        if self.flat or self.low is None:
            return self.reason
        channels = number_of(self.channels, "channel")
        return f"{_span(self.low, self.high)} of {channels}"

    def takes(self, height: int, width: int) -> bool:
        """Whether an image of this size runs through it, as far as square ones tell."""
        if self.low is None or min(height, width) < self.low:
            return False
        return self.high is None or max(height, width) <= self.high


def find_input_size(
    network: nn.Module, *, channels: int | None = None, data_set: str = ""
) -> InputSize:
    """The size of a network's images, by trying some and by the data set that is named.

    Args:
        network: In eval mode; only its forward is called, on a copy that has no weights.
        channels: Where it is known; else that of its first layer.
        data_set: Text that may name one: a file's name, a script's words.
    """
    count = channels or input_channels(network) or 3
    native = named_data_set(data_set)
    likely = _likely_sides(network, count, native)
    for runs, sides in _ways_to_run(network, count, likely):
        found = next(filter(runs, sides), None)
        if found is not None:
            low, high = _end(runs, found, 1), _end(runs, found, runs.largest)
            limit = None if high == runs.largest else high
            side, reason = _choose(low, limit, native)
            return InputSize(channels=count, low=low, high=limit, side=side, reason=reason)
    return _flat_size(network, count)


def named_data_set(text: str) -> tuple[str, int] | None:
    """The known data set that a text names, and the side of its images; None without one."""
    for pattern, known in DATA_SETS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return known
    return None


def input_channels(network: nn.Module) -> int | None:
    """The channels of the images that its first layer takes; None where it does not say.

    Of a fully connected layer, what makes its inputs the pixels of a square image.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
        if isinstance(part, nn.Linear):
            whole = (count for count in (1, 3) if _square_side(part.in_features, count))
            return next(whole, None)
    return None


def _square_side(features: int, channels: int) -> int | None:
    side = isqrt(features // channels)
    return side if side > 1 and side * side * channels == features else None


def _ways_to_run(
    network: nn.Module, channels: int, likely: Sequence[int]
) -> Iterator[tuple[_Runs, Iterable[int]]]:
    """How to try sizes, and which, until one runs: without values, then with; two images, then one.

    Two, because a forward that flattens by `view(-1, 400)` gives more rows, not an error.
    """
    deadline = time.thread_time() + _SECONDS
    hollow = _without_values(network)
    for batch in (2, 1):
        if hollow is not None:
            yield _Runs(hollow, (batch, channels), "meta", _LARGEST, deadline), likely
        yield _Runs(network, (batch, channels), "cpu", _LARGEST_WITH_VALUES, deadline), likely
    if hollow is not None:
        yield _Runs(hollow, (2, channels), "meta", _LARGEST, deadline), range(1, _LARGEST + 1)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Whether a network gives one row of scores for each square image of a side."""

    network: nn.Module
    shape: tuple[int, int]
    device: str
    largest: int
    deadline: float

    def __call__(self, side: int) -> bool:
        if side > self.largest or time.thread_time() > self.deadline:
            return False
        return gives_rows(self.network, (*self.shape, side, side), self.device)


def gives_rows(network: nn.Module, shape: tuple[int, ...], device: str) -> bool:
    """Whether it runs on a batch of this shape and gives one row of scores for each image."""
    try:
        batch = torch.full(shape, 0.1, device=device, dtype=_dtype(network))
        guard = torch.no_grad() if device == "meta" else undisturbed(network)
        with guard, quiet_libraries(), redirect_stdout(StringIO()):
            given = network(batch)
    except Exception:  # networks are other people's code
        return False
    return any(
        tensor.ndim > 0 and len(tensor) == shape[0] and all(n == 1 for n in tensor.shape[2:])
        for tensor in _first_tensor(given)
    )


def _dtype(network: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def _first_tensor(given: object) -> Iterator[torch.Tensor]:
    """The first tensor of whatever a network gives, if there is one."""
    if isinstance(given, torch.Tensor):
        yield given
        return
    values: Iterable[Any] = given.values() if isinstance(given, Mapping) else ()
    for value in given if isinstance(given, list | tuple) else values:
        found = next(_first_tensor(value), None)
        if found is not None:
            yield found
            return


def _without_values(network: nn.Module) -> nn.Module | None:
    """A copy with tensors that have shapes and no values; None where it cannot be copied."""
    try:
        memo: dict[int, Any] = {}
        for parameter in network.parameters():
            memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        for buffer in network.buffers():
            memo[id(buffer)] = buffer.detach().to("meta")
        return copy.deepcopy(network, memo).eval()
    except Exception:  # whatever else their code holds
        return None


def _likely_sides(network: nn.Module, channels: int, native: tuple[str, int] | None) -> list[int]:
    """Sides, the likeliest first, each once: the data set's, a flat layer's, usual ones."""
    first = [native[1]] if native else []
    first += [
        side
        for part in network.modules()
        if isinstance(part, nn.Linear) and (side := _square_side(part.in_features, channels))
    ][:1]
    return [*dict.fromkeys([*first, *_USUAL, *_RARER])]


def _end(runs: _Runs, inside: int, outside: int) -> int:
    """The last side that runs on the way from one that does to another.

    By steps that double, then by halving: a much larger size than one that runs is tried only where
    the sizes between run, too; its forward may take minutes.
    """
    step = 1 if outside > inside else -1
    while inside != outside:
        beyond = max(inside + step, outside) if step < 0 else min(inside + step, outside)
        if not runs(beyond):
            return _between(runs, inside, beyond)
        inside, step = beyond, 2 * step
    return outside


def _between(runs: _Runs, inside: int, outside: int) -> int:
    """The last side that runs, between one that does and one that does not."""
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if runs(middle) else (inside, middle)
    return inside


def _choose(low: int, high: int | None, native: tuple[str, int] | None) -> tuple[int | None, str]:
    """The side to use within a range, and why."""
    takes = f"the network takes {_span(low, high)}"
    if native and low <= native[1] and (high is None or native[1] <= high):
        return native[1], f"the size of {native[0]}; {takes}"
    if high == low:
        return low, "the only size that the network takes"
    if high is None:
        return None, takes
    usual = [side for side in _USUAL if low <= side <= high]
    if len(usual) == 1 and high < 2 * low:
        return usual[0], f"the usual size of those that the network takes, {_span(low, high)}"
    return None, takes


def _span(low: int, high: int | None) -> str:
    if high is None:
        return f"any size from {low}x{low} pixels" if low > 1 else "any size"
    return f"{low}x{low} pixels" if low == high else f"{low}x{low} to {high}x{high} pixels"


def _flat_size(network: nn.Module, channels: int) -> InputSize:
    """Of a network that takes rows of numbers; else nothing is known."""
    first = next((part for part in network.modules() if isinstance(part, nn.Linear)), None)
    convolves = any(isinstance(part, nn.Conv2d) for part in network.modules())
    if first is None or convolves or not gives_rows(network, (2, first.in_features), "cpu"):
        reason = f"no square image of up to {_LARGEST} pixels"
        return InputSize(channels=channels, low=None, high=None, side=None, reason=reason)
    side = _square_side(first.in_features, channels)
    reason = f"rows of {first.in_features:,} numbers"
    if side is None:
        reason += ", which are no pixels of a square image"
    return InputSize(channels=channels, low=side, high=side, side=side, reason=reason, flat=True)
