"""Bounds of an ONNX graph: its nodes in, between which numbers each of its tensors lies, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from toplabel.bundle.bounds import INFINITY, Bounds, apply

_RULES = {
    "same": (
        "Identity Dropout Cast CastLike Reshape Flatten Squeeze Unsqueeze Transpose Slice Split"
        " Gather GatherElements GatherND Concat Expand Tile Where Trilu DepthToSpace SpaceToDepth"
        " ReduceMean ReduceMax ReduceMin AveragePool MaxPool GlobalAveragePool GlobalMaxPool Mean"
    ),
    "free": (
        "Gemm MatMul Conv ConvTranspose BatchNormalization LayerNormalization"
        " InstanceNormalization GroupNormalization"
    ),
    "sort": "TopK",
    "sigmoid": "Sigmoid",
    "hard_sigmoid": "HardSigmoid",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "tanh": "Tanh Softsign",
    "erf": "Erf",
    "wave": "Sin Cos Sign",
    "exp": "Exp",
    "log": "Log",
    "softplus": "Softplus",
    "sqrt": "Sqrt",
    "round": "Round Floor Ceil",
    "relu": "Relu",
    "clamp": "Clip",
    "minimum": "Min",
    "maximum": "Max",
    "abs": "Abs",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "sum": "ReduceSum",
}
RULE_OF = {operator: rule for rule, names in _RULES.items() for operator in names.split()}

_VALUES = {  # which inputs of an operator, or of all with a rule, hold values; not shapes, indices
    "Concat": slice(None),
    "Mean": slice(None),
    "Where": slice(1, 3),
    "same": slice(1),
    "sort": slice(1),
    "sum": slice(1),
    "clamp": slice(1),
}
_PRODUCTS = ("MatMul", "Gemm", "Conv")  # of two tensors that both depend on the input: a mixture


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph.

    Args:
        operator: Its name; "" for one of another domain than ONNX's own.
        inputs: The tensors it takes; "" for one that is left out.
        outputs: Those that it makes.
        numbers: Its attributes that are numbers.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, float]


def bounds_of(nodes: Iterable[Node], constants: Mapping[str, Bounds]) -> dict[str, Bounds | None]:
    """The bounds of every tensor that the nodes make; None where they are not known.

    Args:
        nodes: In the order of their dependencies, as ONNX demands.
        constants: The least and the largest value of every constant tensor.
    """
    known: dict[str, Bounds | None] = dict(constants)
    fixed = set(constants)  # does not depend on the graph's input
    for node in nodes:
        if fixed.issuperset(node.outputs):  # a `Constant`
            continue
        if fixed.issuperset(filter(None, node.inputs)):
            fixed.update(node.outputs)
        mixture = node.operator in _PRODUCTS and fixed.isdisjoint(node.inputs[:2])
        known.update(dict.fromkeys(node.outputs, None if mixture else _bounds(node, known)))
    return known


def _bounds(node: Node, known: Mapping[str, Bounds | None]) -> Bounds | None:
    rule = RULE_OF.get(node.operator)
    if rule is None:
        return None
    numbers = _limits(node, known) if rule == "clamp" else node.numbers
    return apply(rule, [known.get(name) for name in values_of(node)], numbers)


def values_of(node: Node) -> tuple[str, ...]:
    """The tensors whose values a node works on; not shapes, axes and the like."""
    rule = RULE_OF.get(node.operator, "")
    return node.inputs[_VALUES.get(node.operator, _VALUES.get(rule, slice(None)))]


def _limits(node: Node, known: Mapping[str, Bounds | None]) -> dict[str, float]:
    """The ends of a Clip: attributes until opset 10, inputs since."""
    given = [known.get(name) for name in (*node.inputs[1:3], "", "")]
    low = node.numbers.get("min", -INFINITY) if given[0] is None else given[0].low
    high = node.numbers.get("max", INFINITY) if given[1] is None else given[1].high
    return {"low": low, "high": high}
