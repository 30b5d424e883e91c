"""The names and shapes of a state dict in, the architectures in the shipped index with them out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

INDEX_FILE = Path(__file__).parents[2] / "data" / "architectures.json.gz"

Shapes = Mapping[str, tuple[int, ...]]
Library = Literal["torchvision", "timm"]
Meaning = Literal["classes", "in_channels", "image_size"]

MEANINGS: dict[str, Meaning] = {"c": "classes", "i": "in_channels", "s": "image_size"}
_COUNTER = "num_batches_tracked"  # files older than PyTorch 0.4.1 lack it
_NAMES_BYTES = 6
_SHAPES_BYTES = 9


@dataclass(frozen=True, slots=True)
class Free:
    """One size that an architecture leaves open, and what it depends on.

    Of classes and input channels n it is `factor * n + offset`; of an image size n, which is
    cut into patches, it is `(n / factor) ** 2 + offset`.
    """

    tensor: int  # its place among the sorted names
    dim: int
    meaning: Meaning
    factor: int
    offset: int

    def solve(self, size: int) -> int | None:
        """The n that gives this size; None where no whole number does."""
        rest = size - self.offset
        if self.meaning == "image_size":
            root = math.isqrt(max(rest, 0))
            return root * self.factor if root and root * root == rest else None
        quotient, remainder = divmod(rest, self.factor)
        return quotient if quotient >= 1 and not remainder else None


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


def sorted_names(names: Iterable[str]) -> list[str]:
    """The names that a signature is made of, in its order."""
    return sorted(name for name in names if name.rpartition(".")[2] != _COUNTER)


def names_key(names: Sequence[str]) -> str:
    """The key of sorted names."""
    return _digest("\n".join(names), _NAMES_BYTES)


def shapes_key(shapes: Sequence[tuple[int, ...]], free: Iterable[Free]) -> str:
    """The key of the shapes in the order of the sorted names, but for the free sizes."""
    rows = [list(map(str, shape)) for shape in shapes]
    for place in free:
        rows[place.tensor][place.dim] = "*"
    return _digest(";".join(",".join(row) for row in rows), _SHAPES_BYTES)


def read_free(shapes: Sequence[tuple[int, ...]], free: Iterable[Free]) -> dict[Meaning, int] | None:
    """What the free sizes of these shapes say; None where they contradict one another."""
    values: dict[Meaning, int] = {}
    for place in free:
        if place.tensor >= len(shapes) or place.dim >= len(shapes[place.tensor]):
            return None
        value = place.solve(shapes[place.tensor][place.dim])
        if value is None or values.setdefault(place.meaning, value) != value:
            return None
    return values


def _digest(text: str, num_bytes: int) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:num_bytes]
    return base64.b64encode(digest).decode()


@cache
def load_index() -> Index:
    """The index that ships with toplabel; read once, in a few milliseconds."""
    return read_index(INDEX_FILE)


def read_index(path: Path) -> Index:
    """The index in a file that scripts/build_architecture_index.py wrote."""
    content = json.loads(gzip.decompress(path.read_bytes()))
    rows: dict[str, list[list[Any]]] = {}
    for row in content["groups"]:
        rows.setdefault(row[0], []).append(row)
    return Index(versions=content["versions"], rows=rows)


def read_group(row: list[Any]) -> Group:
    """A group from the form it has in the file."""
    names_key, shapes_key, free, members = row
    return Group(
        names_key=names_key,
        shapes_key=shapes_key,
        free=tuple(Free(t, d, MEANINGS[m], factor, offset) for t, d, m, factor, offset in free),
        # fields that are missing at a member's end have their defaults
        members=tuple(Member(*member) for member in members),
    )
