"""Build the index of architectures that ships inside the wheel, from the installed libraries.

Each architecture is built twice without values: as it is, and with other numbers of classes and
input channels and another image size. Sizes that differ are free ones; the rest is its signature.

    python scripts/build_architecture_index.py [--keep FILE] [DESTINATION]

With --keep, what is found is noted in FILE line by line, and a second run goes on from there.
"""

import argparse
import gzip
import json
import math
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch

from toplabel.models import zoo_import
from toplabel.models.architectures.build import build
from toplabel.models.architectures.choose import input_size
from toplabel.models.architectures.identify import SIZE_ARGUMENT, Candidate
from toplabel.models.architectures.index import (
    INDEX_FILE,
    MEANINGS,
    Free,
    Group,
    Library,
    Meaning,
    Member,
    names_key,
    read_free,
    read_group,
    shapes_key,
    sorted_names,
)

USUAL: dict[Meaning, int] = {"classes": 1000, "in_channels": 3}
OTHER: dict[Meaning, int] = {"classes": 7, "in_channels": 1}
LARGEST_OFFSET = 64  # class and register tokens beside the patches
FORMAT = 1
LETTERS = {meaning: letter for letter, meaning in MEANINGS.items()}
HIDDEN_SETTINGS = ("googlenet", "inception_v3")  # downloads set transform_input, training does not

Shapes = dict[str, tuple[int, ...]]
Sizes = dict[Meaning, int]


def architectures() -> Iterator[tuple[Library, str, Mapping[str, Any]]]:
    """Every classification architecture, with the arguments that no name shows."""
    models = zoo_import.import_torchvision().models
    for name in sorted(models.list_models(module=models)):
        if name not in HIDDEN_SETTINGS:
            yield "torchvision", name, {}
            continue
        for aux, transform in product((True, False), repeat=2):
            hidden = {"transform_input": True} if transform else {}
            yield "torchvision", name, {"aux_logits": aux, **hidden}
    for name in sorted(zoo_import.import_timm().list_models()):
        yield "timm", name, {}


def describe(library: Library, name: str, arguments: Mapping[str, Any]) -> Group:
    """The architecture as a group of its own."""
    shapes, own_size = shapes_of(library, name, arguments, USUAL)
    usual: Sizes = dict(USUAL)
    variations: list[Sizes] = [{**OTHER}, {"classes": 7}, {"in_channels": 1}]
    if own_size is not None:
        usual["image_size"] = own_size
        variations.insert(0, {**OTHER, "image_size": 2 * own_size})
    free = next(
        filter(
            None, (vary(library, name, arguments, shapes, usual, other) for other in variations)
        ),
        (),
    )
    if all(place.meaning != "classes" for place in free):
        raise RuntimeError("nothing depends on the number of classes: it is no classifier")
    names = sorted_names(shapes)
    sizes = [shapes[tensor] for tensor in names]
    found = read_free(sizes, free)
    if found is None or any(usual[meaning] != value for meaning, value in found.items()):
        raise RuntimeError(f"{library}/{name}: free sizes say {found}, not {usual}")
    member = Member(library, name, arguments, found.get("image_size"))
    return Group(names_key(names), shapes_key(sizes, free), free, (member,))


def shapes_of(
    library: Library, name: str, arguments: Mapping[str, Any], sizes: Mapping[Meaning, int]
) -> tuple[Shapes, int | None]:
    """Shapes of the state dict, and the image size where it is square."""
    own = dict(arguments)
    if "image_size" in sizes:
        own[SIZE_ARGUMENT[library]] = sizes["image_size"]
    candidate = Candidate(
        library=library,
        name=name,
        classes=sizes.get("classes", USUAL["classes"]),
        in_channels=sizes.get("in_channels", USUAL["in_channels"]),
        arguments=own,
    )
    try:
        with torch.device("meta"):
            module = build(candidate)
    except (RuntimeError, NotImplementedError):  # it computes with values while it is built
        module = build(candidate)
    height, width = input_size(candidate, module)
    shapes = {tensor: tuple(value.shape) for tensor, value in module.state_dict().items()}
    return shapes, height if height == width else None


def vary(
    library: Library,
    name: str,
    arguments: Mapping[str, Any],
    shapes: Shapes,
    usual: Sizes,
    other: Sizes,
) -> tuple[Free, ...] | None:
    """The free sizes that a variation shows; None where it cannot be built or understood."""
    try:
        varied, _ = shapes_of(library, name, arguments, other)
    except Exception:  # whatever a constructor raises for what it does not take
        return None
    if varied.keys() != shapes.keys():
        return None
    places = []
    for position, tensor in enumerate(sorted_names(shapes)):
        one, two = shapes[tensor], varied[tensor]
        if len(one) != len(two):
            return None
        for dim in (d for d in range(len(one)) if one[d] != two[d]):
            place = explain(position, dim, (one[dim], two[dim]), usual, other)
            if place is None:
                return None
            places.append(place)
    return tuple(places)


def explain(
    tensor: int, dim: int, seen: tuple[int, int], usual: Sizes, other: Sizes
) -> Free | None:
    """What two sizes of one dimension depend on, if on one of the numbers that were varied."""
    found = []
    for meaning in other:
        before, after = usual[meaning], other[meaning]
        if meaning == "image_size":
            squared = (after**2 - before**2) / (seen[1] - seen[0])
            factor = math.isqrt(int(squared)) if squared > 0 else 0
            offset = seen[0] - (before // factor) ** 2 if factor else -1
        else:
            factor = (seen[0] - seen[1]) // (before - after)
            offset = seen[0] - factor * before
        place = Free(tensor, dim, meaning, factor, offset)
        explained = factor >= 1 and [place.solve(size) for size in seen] == [before, after]
        if explained and 0 <= offset <= LARGEST_OFFSET:
            found.append(place)
    return min(found, key=lambda place: place.offset, default=None)


def identity(member: Member) -> tuple[str, str, dict[str, Any]]:
    """What distinguishes a member from all others."""
    return member.library, member.name, dict(member.arguments)


def merge(groups: list[Group]) -> list[Group]:
    """One group for each signature."""
    members: dict[tuple[str, str, tuple[Free, ...]], tuple[Member, ...]] = {}
    for group in groups:
        key = group.names_key, group.shapes_key, group.free
        members[key] = (*members.get(key, ()), *group.members)
    return [Group(*key, found) for key, found in members.items()]


def write_index(path: Path, groups: list[Group], versions: Mapping[str, str]) -> None:
    """Write groups in the form that `read_index` reads, the same bytes for the same groups."""
    rows = sorted((write_group(group) for group in groups), key=json.dumps)
    content = {"format": FORMAT, "versions": dict(sorted(versions.items())), "groups": rows}
    text = json.dumps(content, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def write_group(group: Group) -> list[Any]:
    """A group in the form it has in the file."""
    free = [[f.tensor, f.dim, LETTERS[f.meaning], f.factor, f.offset] for f in group.free]
    members = sorted((write_member(member) for member in group.members), key=json.dumps)
    return [group.names_key, group.shapes_key, free, members]


def write_member(member: Member) -> list[Any]:
    """A member in the form it has in the file."""
    row = [member.library, member.name, dict(member.arguments), member.image_size]
    while row[-1] in ({}, None):
        row.pop()
    return row


def main() -> None:
    """Describe what is not described yet, then write the index."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    parser.add_argument("destination", type=Path, nargs="?", default=INDEX_FILE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    groups = [read_group(json.loads(line)) for line in kept]
    done = [identity(group.members[0]) for group in groups]
    for library, name, arguments in architectures():
        if identity(Member(library, name, arguments)) in done:
            continue
        try:
            group = describe(library, name, arguments)
        except Exception as error:  # the other thousand are described all the same
            print(f"left out: {library}/{name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        groups.append(group)
        if options.keep:
            with options.keep.open("a") as file:
                file.write(json.dumps(write_group(group)) + "\n")
    merged = merge(groups)
    write_index(options.destination, merged, {n: version(n) for n in ("torchvision", "timm")})
    size = options.destination.stat().st_size
    print(f"{len(groups)} architectures, {len(merged)} signatures, {size} bytes")


if __name__ == "__main__":
    main()
