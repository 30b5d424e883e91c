"""Index: the shipped file of signatures in; the architectures with given names of tensors out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from toplabel.models.architectures.signature import Free, Meaning

INDEX_FILE = Path(__file__).parents[2] / "data" / "architectures.json.gz"
FORMAT = 1

Library = Literal["torchvision", "timm"]

_MEANINGS: dict[str, Meaning] = {"c": "classes", "i": "in_channels", "s": "image_size"}
_LETTERS = {meaning: letter for letter, meaning in _MEANINGS.items()}


@dataclass(frozen=True, slots=True)
class Member:
    """One architecture of a group, and how to build it.

    `image_size` is its own, where the tensors depend on it.
    """

    library: Library
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    image_size: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Architectures whose tensors have the same names and, but for the free sizes, shapes."""

    names_key: str
    shapes_key: str
    free: tuple[Free, ...]
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """All groups by the key of their names, as they stand in the file."""

    versions: Mapping[str, str]  # of the libraries it was made with
    rows: Mapping[str, list[list[Any]]]

    def find(self, names_key: str) -> list[Group]:
        """The groups whose tensors have these names."""
        return [read_group(row) for row in self.rows.get(names_key, [])]

    def groups(self) -> list[Group]:
        """All of them."""
        return [read_group(row) for rows in self.rows.values() for row in rows]


@cache
def load_index() -> Index:
    """The index that ships with toplabel; read once, in a few milliseconds."""
    return read_index(INDEX_FILE)


def read_index(path: Path) -> Index:
    """The index in a file that `write_index` wrote."""
    content = json.loads(gzip.decompress(path.read_bytes()))
    rows: dict[str, list[list[Any]]] = {}
    for row in content["groups"]:
        rows.setdefault(row[0], []).append(row)
    return Index(versions=content["versions"], rows=rows)


def write_index(path: Path, groups: list[Group], versions: Mapping[str, str]) -> None:
    """Write groups in the form that `load_index` reads, the same bytes for the same groups."""
    rows = sorted((write_group(group) for group in groups), key=json.dumps)
    content = {"format": FORMAT, "versions": dict(sorted(versions.items())), "groups": rows}
    text = json.dumps(content, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def read_group(row: list[Any]) -> Group:
    """A group from the form it has in the file."""
    names_key, shapes_key, free, members = row
    return Group(
        names_key=names_key,
        shapes_key=shapes_key,
        free=tuple(Free(t, d, _MEANINGS[m], factor, offset) for t, d, m, factor, offset in free),
        members=tuple(map(_read_member, members)),
    )


def _read_member(row: list[Any]) -> Member:
    return Member(*row)  # fields that are missing at its end have their defaults


def write_group(group: Group) -> list[Any]:
    """A group in the form it has in the file."""
    free = [[f.tensor, f.dim, _LETTERS[f.meaning], f.factor, f.offset] for f in group.free]
    members = sorted((_write_member(member) for member in group.members), key=json.dumps)
    return [group.names_key, group.shapes_key, free, members]


def _write_member(member: Member) -> list[Any]:
    row = [member.library, member.name, dict(member.arguments), member.image_size]
    while row[-1] in ({}, None):
        row.pop()
    return row
