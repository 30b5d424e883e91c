"""What is known of a checkpoint file, its tensors and unknown objects, as plain values.

A tensor's shape and strides in, a `TensorInfo` that fits into its storage out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from toplabel.errors import CheckpointError

#: Bytes of one element, by torch's name of the dtype: all that a plain tensor can have.
ITEM_SIZES = {
    **dict.fromkeys(("complex128",), 16),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2"), 1),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
}

_STORAGE_DTYPES = {
    "BFloat16": "bfloat16",
    "Bool": "bool",
    "Byte": "uint8",
    "Char": "int8",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "Int": "int32",
    "Long": "int64",
    "Short": "int16",
}

#: The dtype of each storage class.
STORAGES = {
    "torch.storage.UntypedStorage": "uint8",
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{name}Storage": dtype for name, dtype in _STORAGE_DTYPES.items()},
}

QUANTIZED = ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")
QUANTIZED_STORAGES = frozenset(f"torch.{name}Storage" for name in QUANTIZED)

_MOST_DIMENSIONS = 64
_ODD_REFERENCE = "its pickle refers to a storage in a way that torch never writes"


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Bytes that are left where they stand in the file.

    Args:
        start: Offset of the first.
        size: How many.
        is_text: They are Latin-1 text in UTF-8, as pickles of protocol 2 have bytes.
    """

    start: int
    size: int
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where the numbers of a tensor are.

    Args:
        storage: Its key in `CheckpointInfo.storages`.
        base: Bytes in it to skip.
        offset: Elements to skip beyond these.
        strides: In elements, one for each dimension.
    """

    storage: str
    base: int
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's dtype and shape as recorded in a file; nothing of it is loaded.

    Args:
        dtype: By torch's name: `float32`.
        shape: Empty for a scalar.
        place: Where a pickled one's numbers are.
    """

    dtype: str
    shape: tuple[int, ...]
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def num_elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take."""
        return self.num_elements * ITEM_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class UnknownObject:
    """An object of an unknown class: named, never created.

    Args:
        kind: Its class, or the function that would make it: `argparse.Namespace`.
        state: The plain state that the pickle gave it: mostly a dict; None where it gave none.
    """

    kind: str
    state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint file is.

    Args:
        path: The file; the index where there are shards.
        format: How it is written. `torchscript` and `pt2` are programs, whose content is not read.
        content: Nested dicts, lists, tuples, sets, text, numbers, bytes, None, `TensorInfo` and
            `UnknownObject`; as deep and large as it looks.
        blocked: The globals beyond those of tensors and plain values, in order of appearance:
            named, and never used. `torch.load(weights_only=True)` refuses them.
        whole_module: The class, where it is a whole pickled network; `content` is an
            `UnknownObject` then.
        size_bytes: Of all its files.
        files: One; or the index and its shards.
        metadata: Of a safetensors file.
        storages: Of a pickled file: where the numbers of its tensors are, or they themselves.
    """

    path: Path
    format: Literal["torch zip", "torch legacy", "pickle", "safetensors", "torchscript", "pt2"]
    content: Any
    blocked: tuple[str, ...] = ()
    whole_module: str | None = None
    size_bytes: int
    files: tuple[Path, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    storages: Mapping[str, StoredBytes | bytes] = field(default_factory=dict, repr=False)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except (CheckpointError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else reason
        raise CheckpointError(f"cannot read {str(path)!r}: {reason}") from error


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers beside the pickle: where, of which dtype, and how many, as the pickle says.

    `start` is not 0 for a part of a storage: elements to skip.
    """

    key: str
    dtype: str
    num_elements: int
    start: int = 0

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.num_elements * ITEM_SIZES[self.dtype]


class Storages:
    """The storages that one pickle refers to; all references to one must agree.

    Args:
        whole: Each storage beside the pickle by its key, in order of appearance.
        inside: What is known of those within it, as NumPy's arrays are, by keys of their own.
    """

    def __init__(self) -> None:
        self.whole: dict[str, Storage] = {}
        self.inside: dict[str, StoredBytes | bytes] = {}
        self._views: dict[str, tuple[str, int, int]] = {}

    def refer(self, class_name: str, reference: Sequence[Any]) -> Storage:
        """The storage, or the part of one, that a reference means.

        Args:
            class_name: Of the storage.
            reference: Key, device and number of elements; in legacy files a view's key, offset and
                number of elements, or None, as well.
        """
        if class_name in QUANTIZED_STORAGES:
            raise CheckpointError(
                "it contains a quantized tensor; expected plain ones: save the float model's"
                " weights"
            )
        key, device, count, *view = reference
        known = class_name in STORAGES and isinstance(key, str) and isinstance(device, str | bytes)
        if not known or not _is_count(count) or len(view) > 1:
            raise CheckpointError(_ODD_REFERENCE)
        storage = Storage(key, STORAGES[class_name], count)
        if self.whole.setdefault(key, storage) != storage:
            raise CheckpointError(f"its pickle contradicts itself about storage {key[:40]!r}")
        return storage if not view or view[0] is None else self._part(storage, view[0])

    def add(self, data: StoredBytes | bytes) -> str:
        """The key of a storage whose bytes stand in the pickle itself."""
        key = f"<bytes {len(self.inside)}>"  # torch's keys are numbers
        self.inside[key] = data
        return key

    def _part(self, storage: Storage, view: Any) -> Storage:
        key, offset, count = view
        if not (isinstance(key, str) and _is_count(offset) and _is_count(count)):
            raise CheckpointError(_ODD_REFERENCE)
        place = (storage.key, offset, count)
        if self._views.setdefault(key, place) != place or offset + count > storage.num_elements:
            raise CheckpointError("its pickle refers to data beyond the end of a storage")
        return Storage(storage.key, storage.dtype, count, offset)


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
        raise CheckpointError("its pickle creates a tensor in a way that torch never writes")
    place = Place(storage.key, storage.start * ITEM_SIZES[storage.dtype], offset, tuple(strides))
    info = TensorInfo(dtype or storage.dtype, tuple(shape), place)
    if info.dtype not in ITEM_SIZES:
        raise CheckpointError(
            f"it contains a tensor of {info.dtype[:40]!r}; expected plain numbers"
        )
    steps = ((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    last = offset + sum(steps) + 1 if info.num_elements else 0
    if max(last, info.num_elements) * ITEM_SIZES[info.dtype] > storage.nbytes:
        text = "x".join(map(str, shape[:6])) + ("x..." if len(shape) > 6 else "")
        raise CheckpointError(
            f"its tensor of shape {text} claims more than the {storage.num_elements} numbers stored"
            " for it; save it with .contiguous()"
        )
    return info


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor whose numbers follow one another, in elements."""
    strides = [1] * len(shape)
    for at in range(len(shape) - 1, 0, -1):
        strides[at - 1] = strides[at] * max(shape[at], 1)
    return tuple(strides)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
