"""ONNX header: an ONNX file in, its inputs, outputs and metadata out. No engine runs."""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from toplabel._internal import platform
from toplabel.bundle.bounds import FREE, Bounds
from toplabel.bundle.onnx_bounds import Node, bounds_of
from toplabel.errors import BundleError

MAX_FIELDS = 1_000_000
"""In one file. EfficientNet-Lite0 has 3,400; a hostile file could be read for minutes."""

_FIXED_SIZES = {1: 8, 5: 4}  # wire type -> bytes
_START_BYTES = 4096
_LATEST_VERSION = 1000  # of the format; it is 13 in 2026
_DEEPEST = 32  # an `If` in a `Loop` in an `If` and so on

# Numbers of fields, from onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_CHILDREN = {  # in which fields of a message there may be tensors
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse_tensor", 23: "sparse_tensor"
    },
    "sparse_tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external_data"},
}  # fmt: skip
_TENSOR_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 16: "bfloat16",
}  # fmt: skip

_FLOATS = {1: "<f", 10: "<e", 11: "<d"}
_SMALL_BYTES = 4096  # of a constant whose values are looked at: numbers, and vectors of classes

Value = int | memoryview
"""Of a field: a number, or the bytes of a text or a message."""

Dimension = int | str
"""A fixed size, or the name of one that is free; "?" where it has none."""


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """An input of a program. `dimensions` is None where the file states none."""

    name: str
    dtype: str
    dimensions: tuple[Dimension, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxHeader:
    """What an ONNX file states about itself.

    Args:
        producer: What wrote it, with its version; "" where that is not stated.
        metadata: Its `metadata_props`.
        inputs: Without those that have their value in the file.
        outputs: Between which numbers each output of the graph lies; None where that is unknown.
        weights: The files beside it that hold weights, by the names it uses, sorted.
    """

    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[OnnxInput, ...]
    outputs: Mapping[str, Bounds | None]
    weights: tuple[str, ...]


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as an ONNX file does, whatever its name; it may be damaged.

    False, too, for what cannot be read. Only the first bytes are looked at.
    """
    return starts_as_onnx(platform.read_start(path, _START_BYTES))


def starts_as_onnx(start: bytes) -> bool:
    """Whether these first bytes of a file are those of an ONNX file.

    In a ModelProto the version of the format comes first, then texts, then graph or opset.
    """
    try:
        return _starts_a_model(memoryview(start))
    except ValueError:
        return False


def _starts_a_model(start: memoryview) -> bool:
    version = position = 0
    texts = False
    while position < len(start):
        tag, position = _varint(start, position)
        number, wire_type = tag >> 3, tag & 7
        if (number == 1) != (version == 0):  # the version is first, and there is one
            return False
        if wire_type == 0 and number in (1, 5):  # ir_version, model_version
            value, position = _varint(start, position)
            version = version or value
            if number == 1 and not 0 < value < _LATEST_VERSION:
                return False
        elif wire_type == 2 and number in (7, 8):  # graph, opset_import
            return True
        elif wire_type == 2 and number in (2, 3, 4, 6):  # producer, its version, domain, doc
            size, position = _varint(start, position)
            if size > len(start) - position:
                return number == 6  # only a description is that long
            text_of(start[position : position + size])
            position += size
            texts = True
        else:
            return False
    return texts  # it ends early


def read_onnx_header(path: Path) -> OnnxHeader:
    """The header of an ONNX file.

    Raises:
        BundleError: It cannot be read, is not an ONNX file, or is damaged.
    """
    data = map_file(path)
    try:
        return _Reader().header(data)
    except ValueError as error:
        raise BundleError(
            f"{str(path)!r} is not an ONNX file, or is damaged ({error}); download or export it"
            " again"
        ) from None


def map_file(path: Path) -> memoryview:
    """The bytes of a file, read as they are looked at.

    Raises:
        BundleError: It cannot be read.
    """
    import mmap  # not needed to know a file by its first bytes

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise BundleError(f"{str(path)!r} is not a regular file; expected an ONNX file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


class _Reader:
    """Collects from one file."""

    def __init__(self) -> None:
        self._fields = Fields()

    def header(self, model: memoryview) -> OnnxHeader:
        found = self._collect(model, 2, 3, 7, 14)
        if len(found[7]) != 1:
            raise ValueError(f"it holds {len(found[7])} graphs")
        graph = self._collect(found[7][0], 1, 5, 11, 12)
        constants = dict(map(self._constant, graph[5]))
        nodes = [self._node(node, constants) for node in graph[1]]
        bounds = bounds_of(nodes, constants)
        inputs = [self._input(info) for info in graph[11]]
        outputs = [_last(self._collect(info, 1)[1]) for info in graph[12]]
        return OnnxHeader(
            producer=" ".join(filter(None, (_last(found[2]), _last(found[3])))),
            metadata=dict(map(self._pair, found[14])),
            inputs=tuple(one for one in inputs if one.name not in constants),
            outputs={name: bounds.get(name) for name in outputs},
            weights=tuple(sorted(set(self._locations("model", model)))),
        )

    def _collect(self, message: Value, *numbers: int) -> dict[int, list[Value]]:
        """The values of those fields of a message."""
        found: dict[int, list[Value]] = {number: [] for number in numbers}
        for number, value in self._fields.read(bytes_of(message)):
            if number in found:
                found[number].append(value)
        return found

    def _node(self, message: Value, constants: dict[str, Bounds]) -> Node:
        """A node; what a `Constant` holds is added to the constants."""
        parts = self._collect(message, 1, 2, 4, 5, 7)
        operator, outputs = _last(parts[4]), tuple(map(text_of, parts[2]))
        numbers: dict[str, float] = {}
        for attribute in parts[5]:
            found = self._collect(attribute, 1, 2, 3, 5)
            for number in (*map(_float, found[2]), *map(float, map(_number, found[3]))):
                numbers[_last(found[1])] = number
            if operator == "Constant":
                held = [self._constant(tensor)[1] for tensor in found[5]]
                held += [Bounds(number, number) for number in numbers.values()]
                constants.update((name, one) for name in outputs for one in held)
        own = _last(parts[7]) not in ("", "ai.onnx")
        return Node("" if own else operator, tuple(map(text_of, parts[1])), outputs, numbers)

    def _constant(self, tensor: Value) -> tuple[str, Bounds]:
        """The name of a constant tensor, and its least and largest value where it is small."""
        parts = self._collect(tensor, 2, 4, 8, 9, 10)
        kind = next(map(_number, parts[2]), 0)
        content = {1: parts[4], 11: parts[10]}.get(kind, []) or parts[9]
        values: list[float] = []
        if kind in _FLOATS and sum(len(bytes_of(part)) for part in content) <= _SMALL_BYTES:
            packed = b"".join(map(bytes_of, content))
            if len(packed) % struct.calcsize(_FLOATS[kind]) == 0:
                values = [value for (value,) in struct.iter_unpack(_FLOATS[kind], packed)]
        ordered = bool(values) and not any(map(math.isnan, values))
        return _last(parts[8]), Bounds(min(values), max(values)) if ordered else FREE

    def _locations(self, kind: str, message: Value, depth: int = 0) -> Iterator[str]:
        """The files that hold values of tensors anywhere in a message."""
        if depth > _DEEPEST:
            raise ValueError(f"subgraphs nested more than {_DEEPEST} deep")
        for number, value in self._fields.read(bytes_of(message)):
            child = _CHILDREN[kind].get(number)
            if child == "external_data":
                key, content = self._pair(value)
                if key == "location":
                    yield content
            elif child is not None:
                yield from self._locations(child, value, depth + (child == "graph"))

    def _pair(self, entry: Value) -> tuple[str, str]:
        found = self._collect(entry, 1, 2)
        return _last(found[1]), _last(found[2])

    def _input(self, info: Value) -> OnnxInput:
        found = self._collect(info, 1, 2)
        dtype, dimensions = "another type", None
        tensors = [one for kind in found[2] for one in self._collect(kind, 1)[1]]
        for tensor in tensors:
            parts = self._collect(tensor, 1, 2)
            for number in parts[1]:
                dtype = _TENSOR_TYPES.get(_number(number), f"type {number!r}")
            for shape in parts[2]:
                dimensions = tuple(map(self._dimension, self._collect(shape, 1)[1]))
        return OnnxInput(_last(found[1]), dtype, dimensions)

    def _dimension(self, message: Value) -> Dimension:
        found = self._collect(message, 1, 2)
        for size in map(_number, found[1]):
            return size if 0 < size < 2**63 else "?"
        return _last(found[2]) or "?"


def bytes_of(value: Value) -> memoryview:
    """The bytes of a text or a message; a `ValueError` where a field holds a number."""
    if isinstance(value, int):
        raise ValueError("a field holds a number where text or a message belongs")
    return value


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("a field holds text or a message where a number belongs")
    return value


def _float(value: Value) -> float:
    content = bytes(bytes_of(value))
    return float(struct.unpack("<f", content)[0]) if len(content) == 4 else math.nan


def text_of(value: Value) -> str:
    """A field's text; a `ValueError` where it holds none."""
    return bytes(bytes_of(value)).decode("utf-8")  # a UnicodeDecodeError is a ValueError


def _last(values: list[Value]) -> str:
    """The last text counts where a field comes twice; "" where it does not come."""
    return text_of(values[-1]) if values else ""


class Fields:
    """Reads messages of one file, and counts, so that a hostile file ends early."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def read(self, message: memoryview) -> Iterator[tuple[int, Value]]:
        """Each field of a message: its number, and an int or the bytes it holds.

        Raises:
            ValueError: These are not the bytes of a message, or there are too many fields.
        """
        position, end = 0, len(message)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            tag, position = _varint(message, position)
            number, wire_type = tag >> 3, tag & 7
            if number == 0:
                raise ValueError("a field has the number 0")
            if wire_type == 0:
                value, position = _varint(message, position)
                yield number, value
                continue
            if wire_type == 2:
                size, position = _varint(message, position)
            elif wire_type in _FIXED_SIZES:
                size = _FIXED_SIZES[wire_type]
            else:
                raise ValueError(f"a field has the wire type {wire_type}")
            if size > end - position:
                raise ValueError("it ends in the middle of a field")
            yield number, message[position : position + size]
            position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number that starts at `position`, and where it ends."""
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("an integer is cut short")
