"""Storages: a pickle's references to numbers outside it, and tensors that must fit into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.known import QUANTIZED_STORAGES, STORAGES
from toplabel.models.checkpoint.tensors import ITEM_SIZES, TensorInfo

_MOST_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers beside the pickle: where, of which dtype, and how many, as the pickle says."""

    key: str
    dtype: str
    num_elements: int

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.num_elements * ITEM_SIZES[self.dtype]


class Storages:
    """The storages that one pickle refers to; all references to one must agree.

    Args:
        whole: Each storage by its key, in order of appearance.
    """

    def __init__(self) -> None:
        self.whole: dict[str, Storage] = {}
        self._views: dict[str, tuple[str, int, int]] = {}

    def refer(self, class_name: str, reference: Sequence[Any]) -> Storage:
        """The storage, or the part of one, that a reference means.

        Args:
            class_name: Of the storage.
            reference: Key, place and number of elements; in legacy files a view's key, offset and
                number of elements, or None, as well.

        Raises:
            CheckpointError: It is none, or contradicts an earlier one.
        """
        if class_name in QUANTIZED_STORAGES:
            raise CheckpointError(
                "it holds a quantized tensor; expected plain ones: save the float model's weights"
            )
        key, place, count, *view = reference
        known = class_name in STORAGES and isinstance(key, str) and isinstance(place, str | bytes)
        if not known or not _is_count(count) or len(view) > 1:
            raise CheckpointError("its pickle refers to a storage in a way that torch never writes")
        storage = Storage(key, STORAGES[class_name], count)
        if self.whole.setdefault(key, storage) != storage:
            raise CheckpointError(f"its pickle says two different things of storage {key[:40]!r}")
        return storage if not view or view[0] is None else self._part(storage, view[0])

    def _part(self, storage: Storage, view: Any) -> Storage:
        key, offset, count = view
        if not (isinstance(key, str) and _is_count(offset) and _is_count(count)):
            raise CheckpointError("its pickle refers to a storage in a way that torch never writes")
        place = (storage.key, offset, count)
        if self._views.setdefault(key, place) != place or offset + count > storage.num_elements:
            raise CheckpointError("its pickle takes a part of a storage beyond its end")
        return Storage(storage.key, storage.dtype, count)


def tensor_in(
    storage: Any, offset: Any, shape: Any, strides: Any, *, dtype: str | None = None
) -> TensorInfo:
    """The tensor that reads `storage` from `offset` on with these strides, all in elements.

    Args:
        storage: A `Storage`; whatever else a pickle may put there is refused.
        offset: Not negative.
        shape: One number for each dimension.
        strides: As many, none negative.
        dtype: Where it is not the storage's own.

    Raises:
        CheckpointError: It makes no sense, reaches beyond the storage, or claims more elements
            than that has, as a stride of 0 would.
    """
    plain = isinstance(shape, tuple | list) and isinstance(strides, tuple | list)
    if (
        not isinstance(storage, Storage)
        or not plain
        or not len(shape) == len(strides) <= _MOST_DIMENSIONS
        or not all(map(_is_count, (offset, *shape, *strides)))
    ):
        raise CheckpointError("its pickle makes a tensor in a way that torch never writes")
    info = TensorInfo(dtype or storage.dtype, tuple(shape))
    if info.dtype not in ITEM_SIZES:
        raise CheckpointError(f"it holds a tensor of {info.dtype[:40]!r}; expected plain numbers")
    item_size = ITEM_SIZES[info.dtype]
    steps = ((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    last = offset + sum(steps) + 1 if math.prod(shape) else 0
    if max(last, info.num_elements) * item_size > storage.nbytes:
        raise CheckpointError(
            f"its tensor of shape {_shape_text(shape)} claims more than the"
            f" {storage.num_elements} numbers stored for it; save it with .contiguous()"
        )
    return info


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[:6])) + ("x..." if len(shape) > 6 else "")
