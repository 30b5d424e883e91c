"""NumPy's arrays and scalars in a pickle, read without NumPy: a `TensorInfo`, a Python number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toplabel.models.checkpoint.info import (
    ITEM_SIZES,
    Storage,
    StoredBytes,
    TensorInfo,
    contiguous_strides,
    tensor_in,
)

if TYPE_CHECKING:
    from toplabel.models.checkpoint.info import Storages
    from toplabel.models.checkpoint.stubs import Stub

ARRAY, DTYPE = "numpy.ndarray", "numpy.dtype"

#: Of NumPy 1 and 2; what makes an empty array, one of a buffer, and a scalar.
RECONSTRUCT = frozenset(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
FROM_BUFFER = frozenset(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core"))
SCALAR = frozenset(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))

_KINDS = {
    **{f"f{size}": (f"float{8 * size}", form) for size, form in ((2, "e"), (4, "f"), (8, "d"))},
    **{f"i{size}": (f"int{8 * size}", f) for size, f in zip((1, 2, 4, 8), "bhiq", strict=True)},
    **{f"u{size}": (f"uint{8 * size}", f) for size, f in zip((1, 2, 4, 8), "BHIQ", strict=True)},
    "b1": ("bool", "?"),
}


def read_array(state: Any, storages: Storages) -> TensorInfo | None:
    """The array with this state, its numbers in a storage of its own; None: of no plain numbers.

    Raises:
        CheckpointError: Its shape does not fit its bytes.
    """
    if not isinstance(state, tuple) or len(state) != 5:
        return None
    _, shape, dtype, by_column, data = state
    kind, data = _kind_of(dtype), _as_bytes(data)
    if kind is None or data is None or not isinstance(shape, tuple):
        return None
    name, _ = _KINDS[kind]
    size = data.size if isinstance(data, StoredBytes) else len(data)
    strides = contiguous_strides(shape[::-1])[::-1] if by_column else contiguous_strides(shape)
    count = size // ITEM_SIZES[name]
    if isinstance(data, StoredBytes) and data.is_text:  # every byte takes one or two
        count = size
    return tensor_in(Storage(storages.add(data), name, count), 0, shape, strides)


def read_scalar(dtype: Any, data: Any) -> int | float | bool | None:
    """The number of a scalar; None where it is no plain one."""
    kind, data = _kind_of(dtype), _as_bytes(data)
    if kind is None or not isinstance(data, bytes) or len(data) != int(kind[1:]):
        return None
    (value,) = struct.unpack(f"<{_KINDS[kind][1]}", data)
    number: int | float | bool = value
    return number


def _kind_of(dtype: Any) -> str | None:
    """The kind of a `numpy.dtype` that was not made: a key of `_KINDS`."""
    given: Sequence[Any] = getattr(dtype, "arguments", ())
    if getattr(dtype, "kind", None) != DTYPE or not given or given[0] not in _KINDS:
        return None
    stub: Stub = dtype
    order = stub.state[1] if isinstance(stub.state, tuple) and len(stub.state) > 1 else "<"
    return given[0] if order in ("<", "|", "=") or given[0].endswith("1") else None


def _as_bytes(data: Any) -> bytes | StoredBytes | None:
    if isinstance(data, str):  # of Python 2, and UTF-8 by chance
        return data.encode("utf-8", "surrogatepass")
    return data if isinstance(data, bytes | StoredBytes) else None
