"""Prefixes: the names in a state dict in; what wrappers put in front of them, and the rest, out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toplabel.models.architectures.signature import Shapes

_COMPILED = "_orig_mod"  # torch.compile's, in front or, where a part was compiled, in the middle
_MOST = 0.6  # of the names stand behind a prefix that is worth a try
_DEEPEST = 12  # wrappers around one another

# What training keeps beside a network: counters, weights of classes, sums of metrics. Anything
# else may be a layer that changes the answers: the network behind the prefix would be half a one.
_BESIDE = re.compile(
    r"n_averaged|(\w+_)?(criterion|loss|loss_fn|loss_func|metric|metrics|acc|accuracy|auroc)(_\w+)?"
)
_BESIDE_DIMS = 1
_PROFILED = {"total_ops", "total_params"}  # thop leaves them in every layer
_DERIVED = {"relative_position_index", "attn_mask"}  # stored by old versions, computed by new ones


@dataclass(frozen=True, slots=True)
class Stripping:
    """One way to read the names of a state dict."""

    prefix: str
    names: Mapping[str, str]  # name without the prefix -> name in the file
    unused: tuple[str, ...]


def strippings(shapes: Shapes) -> Iterator[Stripping]:
    """The names as they are, then without each prefix that most of them share."""
    inner: dict[str, str] = {}
    unused: list[str] = []
    for name in shapes:
        if name.rpartition(".")[2] in _PROFILED:
            unused.append(name)
        else:
            inner[name] = name
    prefix = ""
    for _ in range(_DEEPEST):
        yield from _readings(prefix, inner, unused)
        first = _shared_first_part(inner, shapes)
        if first is None:
            return
        prefix += first
        unused += [full for name, full in inner.items() if not name.startswith(first)]
        inner = {n.removeprefix(first): full for n, full in inner.items() if n.startswith(first)}


def plain(name: str) -> str:
    """A name without the marks of compiled parts."""
    if _COMPILED not in name:
        return name
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _readings(prefix: str, inner: Mapping[str, str], unused: list[str]) -> Iterator[Stripping]:
    if all(name.startswith(f"{_COMPILED}.") for name in inner):
        return  # a prefix like any other
    names = {plain(name): full for name, full in inner.items()}
    if len(names) != len(inner):  # two layers whose names differ by that mark only
        return
    yield Stripping(prefix, names, tuple(unused))
    derived = [name for name in names if name.rpartition(".")[2] in _DERIVED]
    if derived:
        kept = {name: full for name, full in names.items() if name not in set(derived)}
        yield Stripping(prefix, kept, (*unused, *(names[name] for name in derived)))


def _shared_first_part(names: Mapping[str, str], shapes: Shapes) -> str | None:
    """The part, with its dot, in front of all names but those of what stands beside a network."""
    counts = Counter(name.partition(".")[0] for name in names if "." in name)
    first, count = counts.most_common(1)[0] if counts else ("", 0)
    if not count or count < _MOST * len(names):
        return None
    others = {name: full for name, full in names.items() if not name.startswith(f"{first}.")}
    beside = all(_is_beside(name, shapes[full]) for name, full in others.items())
    return f"{first}." if beside else None


def _is_beside(name: str, shape: tuple[int, ...]) -> bool:
    first = name.partition(".")[0].lower()
    return len(shape) <= _BESIDE_DIMS and _BESIDE.fullmatch(first) is not None
