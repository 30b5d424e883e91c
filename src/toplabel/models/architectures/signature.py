"""Signature: the names and shapes of a state dict in; two short keys that stand for them out."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Shapes = Mapping[str, tuple[int, ...]]
Meaning = Literal["classes", "in_channels", "image_size"]

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
