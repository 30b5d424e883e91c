"""ONNX outline: an ONNX file in, what it says of itself out. No engine runs."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from toplabel.errors import BundleError

MAX_FIELDS = 1_000_000
"""In one file. EfficientNet-Lite0 has 3,400; a hostile file could be read for minutes."""

_FIXED_SIZES = {1: 8, 5: 4}  # wire type -> bytes
_START_BYTES = 4096
_LATEST_VERSION = 1000  # of the format; it is 13 in 2026
_DEEPEST = 32  # an `If` in a `Loop` in an `If` and so on

# Numbers of fields, from onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL = {2: "producer_name", 3: "producer_version", 7: "graph", 14: "metadata", 25: "function"}
_GRAPHS_IN_GRAPH = {1: "node", 5: "tensor", 11: "input", 12: "output", 15: "sparse"}
_TENSOR_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 16: "bfloat16",
}  # fmt: skip

Dimension = int | str
"""A fixed size, or the name of one that is free; "?" where it has none."""


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """What a program takes. `dimensions` is None where the file does not say."""

    name: str
    dtype: str
    dimensions: tuple[Dimension, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxHeader:
    """What an ONNX file says of itself.

    Args:
        producer: What wrote it, with its version; "" where it does not say.
        metadata: Its `metadata_props`.
        inputs: Without those that have their value in the file.
        makers: For each output of the graph, the operator that makes it.
        weights: The files beside it that hold weights, as it names them, sorted.
    """

    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[OnnxInput, ...]
    makers: Mapping[str, str]
    weights: tuple[str, ...]


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as an ONNX file does, whatever its name; it may be damaged.

    False, too, for what cannot be read. Only the first bytes are looked at.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            return False
        with open(path, "rb") as file:
            return _starts_a_model(memoryview(file.read(_START_BYTES)))
    except (OSError, ValueError):
        return False


def _starts_a_model(start: memoryview) -> bool:
    """Whether fields of a ModelProto come first: the IR version, texts, then graph or opset."""
    version = position = 0
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
            _text(start[position : position + size])
            position += size
        else:
            return False
    return False


def read_onnx_header(path: Path) -> OnnxHeader:
    """What the ONNX file says of itself.

    Raises:
        BundleError: It cannot be read, is no ONNX file, or is damaged.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise BundleError(f"{str(path)!r} is no ordinary file; expected an ONNX file")
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Reader().outline(memoryview(data))
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:  # an empty file cannot be mapped, either
        raise BundleError(
            f"{str(path)!r} is no ONNX file, or a damaged one ({error}); get it again, or export"
            " the model again"
        ) from None


class _Reader:
    """Collects from one file."""

    def __init__(self) -> None:
        self._fields = Fields()
        self._weights: set[str] = set()

    def outline(self, model: memoryview) -> OnnxHeader:
        text = {"producer_name": "", "producer_version": ""}
        metadata: dict[str, str] = {}
        graphs: list[memoryview] = []
        for number, value in self._fields.read(model):
            name = _MODEL.get(number)
            if name is None:
                continue
            message = _bytes(value)
            if name in text:
                text[name] = _text(message)
            elif name == "metadata":
                key, content = self._pair(message)
                metadata[key] = content
            elif name == "graph":
                graphs.append(message)
            else:
                self._visit_function(message)
        if len(graphs) != 1:
            raise ValueError(f"it holds {len(graphs)} graphs")
        inputs, makers = self._graph(graphs[0])
        return OnnxHeader(
            producer=" ".join(filter(None, text.values())),
            metadata=metadata,
            inputs=inputs,
            makers=makers,
            weights=tuple(sorted(self._weights)),
        )

    def _graph(self, graph: memoryview) -> tuple[tuple[OnnxInput, ...], dict[str, str]]:
        """The main graph: what it takes, and the operators that make what it gives."""
        inputs: list[OnnxInput] = []
        outputs: list[str] = []
        made: dict[str, str] = {}
        known: set[str] = set()
        for number, value in self._fields.read(graph):
            kind = _GRAPHS_IN_GRAPH.get(number)
            if kind is None:
                continue
            message = _bytes(value)
            if kind == "node":
                names, operator = self._node(message, 0)
                made.update(dict.fromkeys(names, operator))
            elif kind == "input":
                inputs.append(self._input(message))
            elif kind == "output":
                outputs.append(self._input(message).name)
            elif kind == "tensor":
                known.add(self._tensor(message))
            else:
                self._sparse(message)
        return (
            tuple(one for one in inputs if one.name not in known),
            {name: made.get(name, "") for name in outputs},
        )

    def _visit_graph(self, graph: memoryview, depth: int) -> None:
        """A graph within: only the weights that it names matter."""
        if depth > _DEEPEST:
            raise ValueError(f"graphs within graphs, more than {_DEEPEST} deep")
        for number, value in self._fields.read(graph):
            kind = _GRAPHS_IN_GRAPH.get(number)
            if kind == "node":
                self._node(_bytes(value), depth)
            elif kind == "tensor":
                self._tensor(_bytes(value))
            elif kind == "sparse":
                self._sparse(_bytes(value))

    def _visit_function(self, function: memoryview) -> None:
        for number, value in self._fields.read(function):
            if number == 7:  # its nodes
                self._node(_bytes(value), 0)

    def _node(self, node: memoryview, depth: int) -> tuple[list[str], str]:
        outputs: list[str] = []
        operator = ""
        for number, value in self._fields.read(node):
            if number == 2:
                outputs.append(_text(_bytes(value)))
            elif number == 4:
                operator = _text(_bytes(value))
            elif number == 5:
                self._attribute(_bytes(value), depth)
        return outputs, operator

    def _attribute(self, attribute: memoryview, depth: int) -> None:
        for number, value in self._fields.read(attribute):
            if number in (5, 10):  # t, tensors
                self._tensor(_bytes(value))
            elif number in (6, 11):  # g, graphs
                self._visit_graph(_bytes(value), depth + 1)
            elif number in (22, 23):  # sparse_tensor, sparse_tensors
                self._sparse(_bytes(value))

    def _sparse(self, sparse: memoryview) -> None:
        for number, value in self._fields.read(sparse):
            if number in (1, 2):  # values, indices
                self._tensor(_bytes(value))

    def _tensor(self, tensor: memoryview) -> str:
        """The tensor's name; the file that holds its values is noted."""
        name = ""
        for number, value in self._fields.read(tensor):
            if number == 8:
                name = _text(_bytes(value))
            elif number == 13:  # external_data
                key, content = self._pair(_bytes(value))
                if key == "location":
                    self._weights.add(content)
        return name

    def _pair(self, entry: memoryview) -> tuple[str, str]:
        pair = {1: "", 2: ""}
        for number, value in self._fields.read(entry):
            if number in pair:
                pair[number] = _text(_bytes(value))
        return pair[1], pair[2]

    def _input(self, info: memoryview) -> OnnxInput:
        name, dtype, dimensions = "", "another type", None
        for number, value in self._fields.read(info):
            if number == 1:
                name = _text(_bytes(value))
            elif number == 2:
                for tensor in self._messages(_bytes(value), 1):  # tensor_type
                    dtype, dimensions = self._tensor_type(tensor)
        return OnnxInput(name, dtype, dimensions)

    def _tensor_type(self, message: memoryview) -> tuple[str, tuple[Dimension, ...] | None]:
        dtype, dimensions = "another type", None
        for number, value in self._fields.read(message):
            if number == 1 and isinstance(value, int):
                dtype = _TENSOR_TYPES.get(value, f"type {value}")
            elif number == 2:
                shape = self._messages(_bytes(value), 1)
                dimensions = tuple(self._dimension(one) for one in shape)
        return dtype, dimensions

    def _dimension(self, message: memoryview) -> Dimension:
        for number, value in self._fields.read(message):
            if number == 1 and isinstance(value, int):
                return value if 0 < value < 2**63 else "?"
            if number == 2:
                return _text(_bytes(value)) or "?"
        return "?"

    def _messages(self, message: memoryview, wanted: int) -> Iterator[memoryview]:
        return (_bytes(value) for number, value in self._fields.read(message) if number == wanted)


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a field holds a number where text or a message belongs")
    return value


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")  # a UnicodeDecodeError is a ValueError


class Fields:
    """Reads messages of one file, and counts, so that a hostile file ends early."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def read(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
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
    raise ValueError("a number does not end")
