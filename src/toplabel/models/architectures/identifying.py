"""Identifying: the names and shapes of a state dict in; the architectures that they fit out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from toplabel.models.architectures.index import Library, load_index
from toplabel.models.architectures.prefixes import Stripping, plain, strippings
from toplabel.models.architectures.signature import (
    Shapes,
    names_key,
    read_free,
    shapes_key,
    sorted_names,
)

IMAGENET_CLASSES = 1000  # what an architecture has that does not take their number
COLOURS = 3

SIZE_ARGUMENT = {"torchvision": "image_size", "timm": "img_size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture that every tensor of a state dict fits.

    What no tensor shows (a stride, an activation, an epsilon) may still differ: where there are
    several candidates, `choosing.choose` says which of them compute the same.
    """

    library: Library
    name: str
    classes: int
    in_channels: int
    prefix: str = ""  # stripped from every name, beside the marks of compiled parts
    unused: tuple[str, ...] = ()  # names in the file of what training keeps beside a network
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)  # to build it


def identify(shapes: Shapes) -> tuple[Candidate, ...]:
    """The architectures of torchvision and timm that have exactly these tensors.

    Args:
        shapes: Name of each tensor -> its shape. Prefixes of wrappers are found and stripped.

    Returns:
        Candidates, torchvision's first, then by the shortest name; none where a tensor is
        missing, is too many, or has another shape.
    """
    for stripping in strippings(shapes):
        found = list(_fitting(stripping, shapes))
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
    return {plain(name[length:]): v for name, v in state.items() if name not in unused}


def _fitting(stripping: Stripping, shapes: Shapes) -> Iterator[tuple[Candidate, bool]]:
    """Candidates, each with whether its image size is the architecture's own."""
    names = sorted_names(stripping.names)
    sizes = [tuple(shapes[stripping.names[name]]) for name in names]
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
                prefix=stripping.prefix,
                unused=stripping.unused,
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
