"""ONNX graph: an ONNX file's bytes in, its nodes and constants out; and bytes with other ones.

Protobuf is read and written field by field, so that no onnx package is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toplabel.bundle.onnx_bounds import Node
from toplabel.bundle.onnx_header import Fields, Value, bytes_of, text_of

FLOAT = 1
"""The number of float32 among the types of tensors."""

# Numbers of fields, from onnx.proto
_GRAPH = 7  # of a model
_NODE, _CONSTANT, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13  # of a graph
_INT = 2  # a type of attributes


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant tensor's shape, and the number of its type."""

    shape: tuple[int, ...]
    dtype: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of a node: lists of whole numbers by name, single ones among them."""

    ints: Mapping[str, tuple[int, ...]]

    def one(self, name: str, default: int) -> int:
        """A single number."""
        return next(iter(self.ints.get(name, ())), default)


class OnnxGraph:
    """The graph of an ONNX file, and how to write it with other nodes, constants and outputs.

    Args:
        model: The file's bytes.

    Raises:
        ValueError: They are not those of an ONNX file.
    """

    def __init__(self, model: bytes | memoryview) -> None:
        self._model = list(Fields().read(memoryview(model)))
        graphs = [value for number, value in self._model if number == _GRAPH]
        if len(graphs) != 1:
            raise ValueError(f"it holds {len(graphs)} graphs")
        self._graph = _read(graphs[0])
        self.constants: dict[str, Constant] = {}
        for number, value in self._graph:
            if number == _CONSTANT:
                self._add_constant(value)
        self.nodes: list[Node] = []
        self.attributes: list[Attributes] = []
        for number, value in self._graph:
            if number == _NODE:
                self._add_node(value)

    def _add_constant(self, tensor: Value, name: str | None = None) -> None:
        fields = _read(tensor)
        shape = [size for number, value in fields if number == 1 for size in _integers(value)]
        dtype = next((value for number, value in fields if number == 2), 0)
        texts = [text_of(value) for number, value in fields if number == 8]
        named = next(reversed(texts), "") if name is None else name
        self.constants[named] = Constant(tuple(shape), dtype if isinstance(dtype, int) else 0)

    def _add_node(self, message: Value) -> None:
        fields = _read(message)
        texts: dict[int, list[str]] = {1: [], 2: [], 4: [], 7: []}
        ints: dict[str, tuple[int, ...]] = {}
        for number, value in fields:
            if number in texts:
                texts[number].append(text_of(value))
        for number, value in fields:
            if number != 5:
                continue
            attribute = _read(value)
            name = next((text_of(held) for at, held in attribute if at == 1), "")
            ints[name] = tuple(i for at, held in attribute if at in (3, 8) for i in _integers(held))
            if texts[4][-1:] == ["Constant"]:
                for at, held in attribute:
                    if at == 5:
                        self._add_constant(held, next(iter(texts[2]), ""))
        own = texts[7][-1:] not in ([], [""], ["ai.onnx"])
        operator = "" if own or not texts[4] else texts[4][-1]
        self.nodes.append(Node(operator, tuple(texts[1]), tuple(texts[2]), {}))
        self.attributes.append(Attributes(ints))

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs, in their order."""
        return [_name(value, 1) for number, value in self._graph if number == _OUTPUT]

    def names(self) -> set[str]:
        """The names of all tensors, in branches and bodies of loops, too."""
        found = {name for node in self.nodes for name in (*node.inputs, *node.outputs)}
        found.update(self.constants, self.outputs)
        found.update(_name(value, 1) for number, value in self._graph if number == _INPUT)
        for message in self._messages(_NODE):
            found.update(_inside(message))
        return found

    def _messages(self, number: int) -> list[Value]:
        return [value for found, value in self._graph if found == number]

    def with_outputs(self, nodes: Iterable[bytes], outputs: Mapping[str, int]) -> bytes:
        """The file with further nodes, and further outputs (N, D), float32, behind its own.

        Args:
            nodes: As `node` writes them, in the order of their dependencies.
            outputs: D by name.
        """
        kept = [
            (number, value)
            for number, value in self._graph
            if number != _OUTPUT or _name(value, 1) not in outputs
        ]
        return self._write([*kept, *_added(nodes, (), outputs)])

    def with_only(
        self,
        nodes: Sequence[bytes],
        constants: Iterable[bytes],
        outputs: Mapping[str, int],
        *,
        taken: Iterable[str],
    ) -> bytes:
        """The file with these outputs alone, and without whatever they do not need.

        Args:
            nodes: Those that make the outputs, as `node` writes them.
            constants: What they take, as `constant` writes them.
            outputs: D of each (N, D), float32, by name.
            taken: The tensors of the graph that the nodes take.
        """
        needed, kept = set(taken), []
        for node, message in reversed(list(zip(self.nodes, self._messages(_NODE), strict=True))):
            if needed.intersection(node.outputs):
                needed.update(node.inputs, _inside(message))
                kept.append(message)
        made = {name for message in kept for name in _texts(message, 2)}
        fields: list[tuple[int, Value]] = []
        for number, value in self._graph:
            if number in (_NODE, _OUTPUT):
                continue
            if number == _CONSTANT and _name(value, 8) not in needed:
                continue
            if number == _VALUE_INFO and _name(value, 1) not in made:
                continue
            name = _name(value, 1) if number == _INPUT else ""
            if name in self.constants and name not in needed:  # inputs, too, in version 3
                continue
            fields.append((number, value))
        fields += [(_NODE, message) for message in reversed(kept)]
        return self._write([*fields, *_added(nodes, constants, outputs)])

    def _write(self, graph: Iterable[tuple[int, Value | bytes]]) -> bytes:
        content = b"".join(_field(number, value) for number, value in graph)
        return b"".join(
            _field(number, content if number == _GRAPH else value) for number, value in self._model
        )


def _read(message: Value) -> list[tuple[int, Value]]:
    return list(Fields().read(bytes_of(message)))


def _texts(message: Value, number: int) -> list[str]:
    return [text_of(value) for found, value in _read(message) if found == number]


def _name(message: Value, number: int) -> str:
    return next(reversed(_texts(message, number)), "")


def _inside(node: Value) -> Iterator[str]:
    """The tensors that a node's branches and bodies take or make."""
    for number, attribute in _read(node):
        for at, graph in _read(attribute) if number == 5 else ():
            if at not in (6, 11):
                continue
            for found, value in _read(graph):
                if found == _NODE:
                    yield from (*_texts(value, 1), *_texts(value, 2))
                    yield from _inside(value)
                elif found == _OUTPUT:
                    yield _name(value, 1)


def node(operator: str, inputs: Sequence[str], output: str, **numbers: int) -> bytes:
    """A node of one output, whose attributes are whole numbers."""
    return b"".join(
        [
            *(_field(1, name.encode()) for name in inputs),
            _field(2, output.encode()),
            _field(3, output.encode()),
            _field(4, operator.encode()),
            *(
                _field(5, _field(1, name.encode()) + _field(3, number) + _field(20, _INT))
                for name, number in numbers.items()
            ),
        ]
    )


def constant(name: str, values: NDArray[np.float32]) -> bytes:
    """A constant float32 tensor."""
    dimensions = b"".join(_field(1, size) for size in values.shape)
    content = np.ascontiguousarray(values, "<f4").tobytes()
    return dimensions + _field(2, FLOAT) + _field(8, name.encode()) + _field(9, content)


def _added(
    nodes: Iterable[bytes], constants: Iterable[bytes], outputs: Mapping[str, int]
) -> Iterator[tuple[int, bytes]]:
    yield from ((_NODE, one) for one in nodes)
    yield from ((_CONSTANT, one) for one in constants)
    for name, size in outputs.items():
        shape = _field(1, _field(2, b"N")) + _field(1, _field(1, size))
        kind = _field(1, _field(1, FLOAT) + _field(2, shape))
        yield _OUTPUT, _field(1, name.encode()) + _field(2, kind)


def _field(number: int, value: Value | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return b"".join((_varint(number << 3 | 2), _varint(len(value)), value))


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


def _integers(value: Value) -> Iterator[int]:
    """The whole numbers of a field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    number = shift = 0
    for byte in value:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
