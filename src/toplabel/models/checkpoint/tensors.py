"""What a file says of its tensors and of objects we do not know, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

#: Bytes of one element, by torch's name of the dtype: all that a plain tensor can have.
ITEM_SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
    "complex128": 16,
    "complex64": 8,
    "complex32": 4,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a file says of a tensor; nothing of it is loaded.

    Args:
        dtype: By torch's name: `float32`.
        shape: Empty for a scalar.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take."""
        return self.num_elements * ITEM_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object of a class we do not know: named, never made.

    Args:
        kind: Its class, or the function that would make it: `argparse.Namespace`.
        state: The plain state that the pickle gave it: mostly a dict; None where it gave none.
    """

    kind: str
    state: Any = None
