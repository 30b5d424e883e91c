"""A state dict with a network and its moving average side by side in, either of them out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from toplabel.models.checkpoint.state_dicts import State, is_average

_COVERED = 0.9  # of the averaged tensors have a twin of the same name and shape
_SHARE = 0.3  # of the network's tensors have an average; statistics of batches often have none
_LEADING = 3  # parts of a name that may say so: module.model_ema.conv1.weight


def split_average(state: State) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The network, its averaged twin under the network's names, and the average's prefix.

    A part of a name that says "ema" is not enough, an attention layer may be called that: its
    tensors must mirror others by name and shape. What has no average (statistics of batches) is
    the network's own in both. Without an average: all of it, nothing, and an empty prefix.
    """
    for head in sorted({head for name in state if (head := _head(name))}):
        averaged = {name[len(head) :]: state[name] for name in state if name.startswith(head)}
        others = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
        twins = _twins(averaged, others)
        if twins:
            return others, others | {twins[tail]: averaged[tail] for tail in twins}, head
    return dict(state), {}, ""


def _head(name: str) -> str:
    """The start of a name up to the first part that speaks of an average, with its dot."""
    parts = name.split(".")
    for count, part in enumerate(parts[:_LEADING], start=1):
        if is_average(part) and count < len(parts):
            return ".".join(parts[:count]) + "."
    return ""


def _twins(averaged: State, others: State) -> dict[str, str]:
    """The name among `others` of each averaged tensor's twin; empty where they are no mirror."""
    # Some averages drop the dots of the names, so that none are compared.
    known: defaultdict[tuple[str, tuple[int, ...]], dict[str, str]] = defaultdict(dict)
    for name, tensor in others.items():
        for prefix, rest in _cuts(name) if not _head(name) else ():
            known[rest.replace(".", ""), tuple(tensor.shape)][prefix] = name
    votes: Counter[tuple[str, str]] = Counter()
    for tail, tensor in averaged.items():
        for start, rest in _cuts(tail):
            key = rest.replace(".", ""), tuple(tensor.shape)
            votes.update((start, prefix) for prefix in known.get(key, ()))
    if not votes:
        return {}
    start, prefix = max(votes, key=lambda pair: (votes[pair], is_average(pair[0])))
    tails = [tail for tail in averaged if tail.startswith(start) and averaged[tail].shape]
    twins = {}
    for tail in tails:
        key = tail[len(start) :].replace(".", ""), tuple(averaged[tail].shape)
        if prefix in known.get(key, ()):
            twins[tail] = known[key][prefix]
    mirrors = len(twins) >= max(_COVERED * len(tails), _SHARE * len(others))
    return twins if mirrors else {}


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """The name cut in two at its start and at its first dots: what is before, what is after."""
    parts = name.split(".")
    for count in range(min(_LEADING, len(parts))):
        start = "".join(f"{part}." for part in parts[:count])
        yield start, name[len(start) :]
