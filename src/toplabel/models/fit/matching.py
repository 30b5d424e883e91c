"""Matching: a network's names and shapes and a file's in, which of the file's is which out.

Wrappers put prefixes before names: DataParallel `module.`, torch.compile `_orig_mod.`, a
LightningModule whatever its attribute is called. Which, is found by what makes most tensors agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from toplabel.models.checkpoint.state_dicts import is_average

Shape = tuple[int, ...]

# Parts of a name that wrappers put anywhere in it, around a layer as around the network.
_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)


@dataclass(frozen=True, slots=True)
class Match:
    """Which tensor of a file is which of a network, by name alone.

    Args:
        names: The network's name -> the file's name.
        prefix: What the file puts before the network's names; empty for nothing.
        lacks: What the network puts before the file's names; empty for nothing.
        agreeing: How many of them have the same shape too.
    """

    names: Mapping[str, str]
    prefix: str
    lacks: str
    agreeing: int


def find_matches(
    wanted: Mapping[str, Shape | None], given: Mapping[str, Shape]
) -> tuple[Match, ...]:
    """The ways to name the file's tensors so that most agree with the network's.

    Args:
        wanted: The network's names and shapes; None for a shape that any file's is right for.
        given: The file's.

    Returns:
        One way, mostly. Several where a file holds the network more than once under different
        prefixes; a moving average beside the network does not count. One that names nothing, where
        no name agrees.
    """
    wanted_names, given_names = _without_wrappers(wanted), _without_wrappers(given)
    agreeing: Counter[tuple[str, str]] = Counter()
    named: Counter[tuple[str, str]] = Counter()
    for lacks in _shared_starts(wanted_names):
        rests = {name[len(lacks) :]: shape for name, shape in _pairs(wanted_names, wanted)}
        for name, shape in _pairs(given_names, given):
            for prefix, rest in _cuts(name):
                if rest in rests:
                    named[prefix, lacks] += 1
                    agreeing[prefix, lacks] += rests[rest] in (None, shape)
    if not named:
        return (Match({}, "", "", 0),)
    best = max((agreeing[way], named[way]) for way in named)
    ways = [way for way in named if (agreeing[way], named[way]) == best]
    ways = [way for way in ways if not is_average(way[0])] or ways
    matches: dict[tuple[str, ...], Match] = {}
    for way in sorted(ways, key=lambda way: (len(way[0]) + len(way[1]), way)):
        match = _match(way, wanted_names, given_names, agreeing[way])
        matches.setdefault(tuple(match.names.values()), match)
    return tuple(matches.values())


def _match(
    way: tuple[str, str], wanted: Mapping[str, str], given: Mapping[str, str], agreeing: int
) -> Match:
    """The names that agree once `prefix` is taken from the file's and `lacks` put before them."""
    prefix, lacks = way
    names = {}
    for plain, name in wanted.items():
        found = given.get(prefix + plain[len(lacks) :])
        if found is not None:
            names[name] = found
    starts = {_added(theirs, ours[len(lacks) :]) for ours, theirs in names.items()}
    return Match(names, starts.pop() if len(starts) == 1 else prefix, lacks, agreeing)


def _added(longer: str, name: str) -> str:
    return longer.removesuffix(name) if longer.endswith(name) else ""


def _without_wrappers(names: Collection[str]) -> dict[str, str]:
    """The names without wrappers' parts -> the names; as they are where two would become one."""
    plain = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in names
    }
    return plain if len(plain) == len(names) else {name: name for name in names}


def _pairs(names: Mapping[str, str], shapes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((plain, shapes[name]) for plain, name in names.items())


def _shared_starts(names: Collection[str]) -> list[str]:
    """Every start, up to a dot, that all of the names have; the empty one too."""
    split = [name.split(".")[:-1] for name in names]
    starts = [""]
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        starts.append(f"{starts[-1]}{parts[0]}.")
    return starts


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """The name cut in two at its start and after each of its dots."""
    yield "", name
    at = name.find(".")
    while at >= 0:
        yield name[: at + 1], name[at + 1 :]
        at = name.find(".", at + 1)
