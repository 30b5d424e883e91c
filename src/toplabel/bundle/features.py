"""Features: what a model's last linear layer takes, and its program with them or another head.

They are the network's own description of an image: float32 (N, D). The last linear layer is the
one that makes the outputs of the classes; behind it there may be what works on each class, such as
a softmax. Both readers of graphs use this rule, that of ONNX files and that of PyTorch's operators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.bundle.onnx_bounds import Node, values_of
from toplabel.bundle.onnx_graph import FLOAT, Attributes, Constant, OnnxGraph, constant, node
from toplabel.bundle.onnx_header import map_file
from toplabel.errors import BundleError, ModelError, ToplabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.program import Program

LOGITS_NAME = "logits"
"""The output of a program with a new head that its logits come from; it is the first."""

FEATURES_NAME = "features"

NO_FEATURES = (
    "this model gives no features: its class outputs do not come from a linear layer that takes"
    " one row of numbers for each image"
)

_LINEAR = frozenset(("Gemm", "MatMul", "Conv"))
_NAMES_BEHIND = (
    "Identity Dropout Cast CastLike Reshape Flatten Squeeze Unsqueeze Transpose Concat"
    " Softmax LogSoftmax Sigmoid HardSigmoid Tanh Relu LeakyRelu Clip Exp Log Softplus Sqrt Neg Abs"
    " Add Sub Mul Div Min Max Pow BatchNormalization ReduceMean ReduceMax ReduceSum"
    " AveragePool MaxPool GlobalAveragePool GlobalMaxPool"
)
_BEHIND = frozenset(_NAMES_BEHIND.split())
_BEFORE = frozenset(("Identity", "Dropout", "BatchNormalization"))
_QUANTISED = frozenset(
    (
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
    )
)
_SAME_SHAPE = frozenset(("Transpose", "Identity", "Cast", "Div", "Mul", "Add", "Sub", "Clip"))


@dataclass(frozen=True, slots=True)
class Features:
    """The tensor of a program that its last linear layer takes.

    Args:
        name: Of the tensor.
        size: D, how many numbers describe an image.
        operator: The layer: "Gemm" takes (N, D), "MatMul" what may have dimensions of 1 between,
            and "Conv" maps (N, D, h, w), whose mean over h and w is meant.
        is_float32: Its values are float32; else they are cast.
    """

    name: str
    size: int
    operator: str = "Gemm"
    is_float32: bool = True


def find_features(program: Program) -> Features:
    """The features of a program.

    Raises:
        ModelError: It gives none; says why.
        BundleError: Its file cannot be read.
    """
    with _damage_is_told():
        graph = OnnxGraph(map_file(program.path))
    fixed = fixed_tensors(graph.nodes, graph.constants)
    head = last_linear(graph.nodes, fixed, program.output_name)
    attributes = graph.attributes[graph.nodes.index(head.layer)]
    weight = _weight(graph, head.layer.inputs[1])
    size, units = _sizes(head.layer.operator, attributes, weight)
    check_units(units, program.outputs)
    return Features(head.taken, size, head.layer.operator, weight.dtype == FLOAT)


@contextmanager
def _damage_is_told() -> Iterator[None]:
    """Turn what a damaged file raises into a `BundleError`."""
    try:
        yield
    except ToplabelError:
        raise
    except ValueError as error:
        raise BundleError(f"the program is damaged: {error}; make the bundle again") from error


def fixed_tensors(nodes: Sequence[Node], constants: Collection[str]) -> set[str]:
    """The tensors that do not depend on the graph's input."""
    fixed = {"", *constants}
    for one in nodes:
        if one.operator == "Constant" or (one.inputs and fixed.issuperset(one.inputs)):
            fixed.update(one.outputs)
    return fixed


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a network.

    Args:
        layer: Its last linear layer; one of several, where they take the same.
        taken: The tensor that it takes.
        taker: The node that takes it: the layer, or a norm before each of several.
    """

    layer: Node
    taken: str
    taker: Node


def last_linear(nodes: Sequence[Node], fixed: Collection[str], output: str) -> Head:
    """The last linear layer before an output; of several that are averaged, what all of them take.

    Args:
        nodes: In the order of their dependencies; operators have ONNX's names.
        fixed: The tensors that do not depend on the graph's input.
        output: The name of the tensor with the outputs of the classes.

    Raises:
        ModelError: There is none, or there are several that take different tensors.
    """
    makers = {name: one for one in nodes for name in one.outputs}
    layers = _linear_layers(makers, fixed, output)
    heads = [Head(layer, layer.inputs[0], layer) for layer in layers]
    if len({head.taken for head in heads}) > 1:
        heads = [_before_norm(head, makers) for head in heads]
    if not heads:
        raise ModelError(NO_FEATURES)
    if len({(head.taken, head.layer.operator) for head in heads}) > 1:
        raise ModelError(
            f"this model gives no features: its class outputs come from {len(heads)} linear layers"
            " that take different rows; expected one"
        )
    return heads[0]


def _linear_layers(
    makers: Mapping[str, Node], fixed: Collection[str], output: str
) -> Collection[Node]:
    """The nearest linear layers before an output, on all ways to it.

    Raises:
        ModelError: Something else than what works on each class stands between.
    """
    found: dict[tuple[str, ...], Node] = {}
    waiting, seen = [output], set(fixed)
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        maker = makers.get(name)
        if maker is None or not maker.inputs:
            raise ModelError(NO_FEATURES)
        if maker.operator in _QUANTISED:
            raise ModelError(
                "this model gives no features: its last linear layer is quantised; use the float32"
                " model that it was made from"
            )
        if maker.operator in _LINEAR and [x in fixed for x in maker.inputs[:2]] == [False, True]:
            found[maker.outputs] = maker
        elif maker.operator == "BatchNormalization":
            waiting.append(maker.inputs[0])
        elif maker.operator in _BEHIND:
            waiting += values_of(maker)
        else:
            raise ModelError(NO_FEATURES)
    return found.values()


def _before_norm(head: Head, makers: Mapping[str, Node]) -> Head:
    """The same with what a norm just before the layer takes."""
    for _ in makers:  # as often as there are nodes: those of a damaged file may go in circles
        maker = makers.get(head.taken)
        if maker is None or not maker.inputs or maker.operator not in _BEFORE:
            break
        head = Head(head.layer, maker.inputs[0], maker)
    return head


def check_units(units: int, outputs: int) -> None:
    """Refuse a linear layer that does not make the outputs of the classes, one of each.

    Raises:
        ModelError: Its outputs are others, that something is computed from.
    """
    if units != outputs and (units, outputs) != (1, 2):  # yes or no
        raise ModelError(f"{NO_FEATURES} (the last one makes {units} numbers, not {outputs})")


def _weight(graph: OnnxGraph, name: str) -> Constant:
    """The shape of a layer's weight, which may be computed from constants.

    Raises:
        ModelError: It is not known.
    """
    turned, makers = False, {name: one for one in graph.nodes for name in one.outputs}
    for _ in graph.nodes:  # at most: those of a damaged file may go in circles
        maker = makers.get(name)
        if name in graph.constants or maker is None or not maker.inputs:
            break
        if maker.operator not in _SAME_SHAPE:
            break
        turned ^= maker.operator == "Transpose"
        name = maker.inputs[0]
    if (found := graph.constants.get(name)) is None:
        raise ModelError(f"{NO_FEATURES}: its weights are computed")
    return Constant(found.shape[::-1], found.dtype) if turned else found


def _sizes(operator: str, attributes: Attributes, weight: Constant) -> tuple[int, int]:
    """How many numbers a linear layer takes and gives.

    Raises:
        ModelError: It is a convolution of more than one pixel, or none of this kind.
    """
    shape = weight.shape
    if operator == "Conv":
        strides, pads = (set(attributes.ints.get(name, ())) for name in ("strides", "pads"))
        plain = attributes.one("group", 1) == 1 and strides <= {1} and pads <= {0}
        if len(shape) == 4 and shape[2:] == (1, 1) and plain:
            return shape[1], shape[0]
    elif len(shape) == 2 and not attributes.one("transA", 0):
        return (shape[1], shape[0]) if attributes.one("transB", 0) else (shape[0], shape[1])
    raise ModelError(NO_FEATURES)


def with_features(model: bytes | memoryview, features: Features) -> bytes:
    """An ONNX file with one more output, its last: the features, float32 (N, D).

    Args:
        model: The file's bytes.
        features: Those that `find_features` found in it.

    Raises:
        BundleError: The file is damaged.
    """
    with _damage_is_told():
        graph = OnnxGraph(model)
        nodes, name = _rows(features, graph.names())
        return graph.with_outputs(nodes, {name: features.size})


def with_head(
    model: bytes | memoryview,
    features: Features,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> bytes:
    """An ONNX file with another linear head instead of its own, which is gone.

    Its outputs are "logits", float32 (N, K): features x weight.T + bias, and the features (N, D).

    Args:
        model: The file's bytes.
        features: Those that `find_features` found in it.
        weight: float32 (K, D).
        bias: float32 (K,).

    Raises:
        ModelError: The shapes do not fit.
        BundleError: The file is damaged.
    """
    if weight.ndim != 2 or weight.shape[1] != features.size or bias.shape != weight.shape[:1]:
        raise ModelError(
            f"got a head with weights of shape {weight.shape} and a bias of shape {bias.shape};"
            f" expected (K, {features.size}) and (K,)"
        )
    with _damage_is_told():
        graph = OnnxGraph(model)
        known = graph.names()
        nodes, rows = _rows(features, known)
        names = [_unused(f"{LOGITS_NAME}.{part}", known) for part in ("weight", "bias")]
        head = node("Gemm", [rows, *names], LOGITS_NAME, transB=1)
        return graph.with_only(
            [*nodes, head],
            [constant(name, values) for name, values in zip(names, (weight, bias), strict=True)],
            {LOGITS_NAME: len(bias), rows: features.size},
            taken=[features.name],
        )


def _rows(features: Features, names: Collection[str]) -> tuple[list[bytes], str]:
    """The nodes that make float32 (N, D) of the features, and the name of that."""
    steps: Mapping[str, tuple[tuple[str, Mapping[str, int]], ...]] = {
        "Gemm": (),
        "MatMul": (("Flatten", {"axis": 1}),),
        "Conv": (("GlobalAveragePool", {}), ("Flatten", {"axis": 1})),
    }
    todo = list(steps[features.operator])
    if not features.is_float32:
        todo.append(("Cast", {"to": FLOAT}))
    nodes, name = [], features.name
    for place, (operator, numbers) in enumerate(todo):
        last = place == len(todo) - 1
        following = _unused(FEATURES_NAME if last else f"{FEATURES_NAME}.{place}", names)
        nodes.append(node(operator, [name], following, **numbers))
        name = following
    return nodes, name


def _unused(name: str, names: Collection[str]) -> str:
    while name in names:
        name += "_"
    return name
