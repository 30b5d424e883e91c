"""The names and shapes of a state dict in; the architectures that they fit out. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toplabel.models.architectures.heads import Head, with_usual_head
from toplabel.models.architectures.index import (
    Library,
    Shapes,
    load_index,
    names_key,
    read_free,
    shapes_key,
    sorted_names,
)
from toplabel.models.prefixes import (
    NORMALISATION,
    PROFILED,
    TABLES,
    WRAPPERS,
    is_training_vector,
    strip_wrappers,
    without_wrappers,
)

IMAGENET_CLASSES = 1000  # what an architecture has that does not take their number
COLOURS = 3
SIZE_ARGUMENT = {"torchvision": "image_size", "timm": "img_size"}

_MOST = 0.6  # of the names stand behind a prefix that is worth a try
_DEEPEST = 12  # wrappers around one another
_INNER_WRAPPERS = WRAPPERS - {"module"}  # timm's iformer has layers of that name
_TABLES = TABLES | {"attn_mask"}
_MMPRETRAIN = (("backbone.", ""), ("head.fc.", "fc."))
_AUXILIARIES = ("aux1.", "aux2.", "AuxLogits.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture that every tensor of a state dict fits.

    What no tensor shows (a stride, an activation, an epsilon) may still differ: where there are
    several candidates, `choose` says which of them compute the same.
    """

    library: Library
    name: str
    classes: int
    in_channels: int
    prefix: str = ""  # stripped from every name, beside the marks of inner wrappers
    unused: tuple[str, ...] = ()  # names in the file of what training keeps beside a network
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)  # to build it
    head: Head | None = None  # in place of its own
    renames: tuple[tuple[str, str], ...] = ()  # starts of names in the file -> in the network


def identify(shapes: Shapes) -> tuple[Candidate, ...]:
    """The architectures of torchvision and timm that have exactly these tensors.

    Args:
        shapes: Name of each tensor -> its shape. Prefixes of wrappers are found and stripped.

    Returns:
        Candidates, torchvision's first, then by the shortest name; none where a tensor is
        missing, is too many, or has another shape. Where none has all of them, those that have all
        but the auxiliary classifiers of training, have another head, which is rebuilt, or have
        them under mmpretrain's names.
    """
    for reading in (_as_it_is, _without_auxiliaries, _with_usual_heads, _as_mmpretrain):
        for stripping in _strippings(shapes):
            found = list(reading(stripping, shapes))
            # A named architecture for this image size is preferred to one built for another.
            exact = [candidate for candidate, own_size in found if own_size]
            if found:
                candidates = exact or [candidate for candidate, _ in found]
                return tuple(sorted(candidates, key=_order))
    return ()


def matching_state(candidate: Candidate, state: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a state dict under the names that the candidate's own state dict has."""
    unused = set(candidate.unused)
    length = len(candidate.prefix)
    return {
        _renamed(strip_wrappers(name[length:], _INNER_WRAPPERS), candidate.renames): v
        for name, v in state.items()
        if name not in unused
    }


def _renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    for start, own in renames:
        if name.startswith(start):
            return own + name[len(start) :]
    return name


@dataclass(frozen=True, slots=True)
class _Stripping:
    """One way to read the names of a state dict."""

    prefix: str
    names: Mapping[str, str]  # name without the prefix -> name in the file
    unused: tuple[str, ...]


def _strippings(shapes: Shapes) -> Iterator[_Stripping]:
    """The names as they are, then without each prefix that most of them share."""
    inner: dict[str, str] = {}
    unused: list[str] = []
    for name in shapes:
        if name.rpartition(".")[2] in PROFILED or name.startswith(NORMALISATION):
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


def _readings(prefix: str, inner: Mapping[str, str], unused: list[str]) -> Iterator[_Stripping]:
    if any(all(name.startswith(f"{part}.") for name in inner) for part in _INNER_WRAPPERS):
        return  # a prefix like any other
    names = {plain: inner[n] for plain, n in without_wrappers(inner, _INNER_WRAPPERS).items()}
    yield _Stripping(prefix, names, tuple(unused))
    tables = {name for name in names if name.rpartition(".")[2] in _TABLES}
    if tables:
        kept = {name: full for name, full in names.items() if name not in tables}
        yield _Stripping(
            prefix, kept, (*unused, *(names[name] for name in names if name in tables))
        )


def _shared_first_part(names: Mapping[str, str], shapes: Shapes) -> str | None:
    """The part, with its dot, in front of all names but those of what stands beside a network."""
    counts = Counter(name.partition(".")[0] for name in names if "." in name)
    first, count = counts.most_common(1)[0] if counts else ("", 0)
    if not count or count < _MOST * len(names):
        return None
    others = {name: full for name, full in names.items() if not name.startswith(f"{first}.")}
    beside = all(is_training_vector(name, shapes[full]) for name, full in others.items())
    return f"{first}." if beside else None


Fitting = Iterator[tuple[Candidate, bool]]
"""Candidates, each with whether its image size is the architecture's own."""


def _as_it_is(stripping: _Stripping, shapes: Shapes) -> Fitting:
    own = {name: shapes[full] for name, full in stripping.names.items()}
    return _fitting(own, stripping.prefix, stripping.unused)


def _without_auxiliaries(stripping: _Stripping, shapes: Shapes) -> Fitting:
    """GoogLeNet's and Inception's, which answer in training only, and may have other classes."""
    unused = [full for name, full in stripping.names.items() if name.startswith(_AUXILIARIES)]
    if unused:
        own = {n: shapes[full] for n, full in stripping.names.items() if full not in set(unused)}
        yield from _fitting(own, stripping.prefix, (*stripping.unused, *unused))
        for head, usual in with_usual_head(dict(zip(own, own, strict=True)), own):
            for candidate, own_size in _fitting(
                usual, stripping.prefix, (*stripping.unused, *unused)
            ):
                yield replace(candidate, head=head), own_size


def _with_usual_heads(stripping: _Stripping, shapes: Shapes) -> Fitting:
    for head, usual in with_usual_head(stripping.names, shapes):
        for candidate, own_size in _fitting(usual, stripping.prefix, stripping.unused):
            yield replace(candidate, head=head), own_size


def _as_mmpretrain(stripping: _Stripping, shapes: Shapes) -> Fitting:
    """Of mmpretrain, whose ResNets are torchvision's under other names."""
    starts = tuple(start for start, _ in _MMPRETRAIN)
    if all(name.startswith(starts) for name in stripping.names):
        own = {_renamed(name, _MMPRETRAIN): shapes[full] for name, full in stripping.names.items()}
        for candidate, own_size in _fitting(own, stripping.prefix, stripping.unused):
            yield replace(candidate, renames=_MMPRETRAIN), own_size


def _fitting(shapes: Shapes, prefix: str, unused: tuple[str, ...]) -> Fitting:
    """Those with exactly these names and shapes."""
    names = sorted_names(shapes)
    sizes = [tuple(shapes[name]) for name in names]
    for group in load_index().find(names_key(names)):
        values = read_free(sizes, group.free)
        if values is None or shapes_key(sizes, group.free) != group.shapes_key:
            continue
        for member in group.members:
            arguments = dict(member.arguments)
            image_size = values.get("image_size", member.image_size)
            if image_size != member.image_size:
                arguments[SIZE_ARGUMENT[member.library]] = image_size
            candidate = Candidate(
                library=member.library,
                name=member.name,
                classes=values.get("classes", IMAGENET_CLASSES),
                in_channels=values.get("in_channels", COLOURS),
                prefix=prefix,
                unused=unused,
                arguments=arguments,
            )
            yield candidate, image_size == member.image_size


def _order(candidate: Candidate) -> tuple[bool, int, str, int, str]:
    return (
        candidate.library != "torchvision",
        len(candidate.name),
        candidate.name,
        len(candidate.arguments),
        repr(sorted(candidate.arguments.items())),
    )
