"""Bounds: the operators that a network ends in go in; between which numbers its outputs lie, out.

A network's own sigmoid, softmax or clip is known by what it computes, whatever stands behind it and
however it is spelled: intervals go from operator to operator. Both readers of graphs use these
rules, that of ONNX files and that of PyTorch's operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

INFINITY = math.inf


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which numbers every value of a tensor lies, whatever the input.

    `sorted` is True where the values are in order of size, as a sort or a top-k leaves them.
    """

    low: float = -INFINITY
    high: float = INFINITY
    sorted: bool = field(default=False, compare=False)

    def within(self, low: float, high: float) -> bool:
        """Whether all of it lies between these two."""
        return self.low >= low and self.high <= high


FREE = Bounds()
"""Anything: what a linear layer or a convolution gives."""

Rule = Callable[[Sequence[Bounds], Mapping[str, float]], Bounds]
"""The bounds of the tensors an operator takes, and its numbers by name -> those of its output."""


def _interval(values: Sequence[float]) -> Bounds:
    known = [0.0 if math.isnan(value) else value for value in values]  # 0 x infinity
    return Bounds(min(known), max(known))


def union(given: Sequence[Bounds]) -> Bounds:
    """Of tensors whose values are put together, chosen from, or averaged."""
    in_order = len(given) == 1 and given[0].sorted
    return Bounds(min(b.low for b in given), max(b.high for b in given), in_order)


def _clamp(given: Sequence[Bounds], low: float, high: float) -> Bounds:
    (one,) = given[:1]
    return Bounds(min(max(one.low, low), high), max(min(one.high, high), low), one.sorted)


def _monotone(function: Callable[[float], float]) -> Rule:
    def rule(given: Sequence[Bounds], _: Mapping[str, float]) -> Bounds:
        one = given[0]
        return Bounds(function(one.low), function(one.high), one.sorted)

    return rule


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else INFINITY


def _log(value: float) -> float:
    if value <= 0:
        return -INFINITY
    return math.log(value) if value < INFINITY else INFINITY


def _sigmoid(value: float) -> float:
    return 1 / (1 + _exp(-value))


def _softplus(value: float) -> float:
    return value if value > 30 else math.log1p(_exp(value))


def _sqrt(value: float) -> float:
    return math.sqrt(max(value, 0.0))


def _rounded(value: float) -> float:
    return value if math.isinf(value) else float(round(value))


def _reciprocal(one: Bounds) -> Bounds:
    if one.low < 0 < one.high:
        return FREE
    at_zero = math.copysign(INFINITY, one.low + one.high)
    return _interval([1 / value if value else at_zero for value in (one.low, one.high)])


def _product(a: Bounds, b: Bounds) -> Bounds:
    return _interval([x * y for x in (a.low, a.high) for y in (b.low, b.high)])


def _negative(one: Bounds) -> Bounds:
    return Bounds(-one.high, -one.low, one.sorted)


def _sum(a: Bounds, b: Bounds) -> Bounds:
    low, high = a.low + b.low, a.high + b.high
    return Bounds(-INFINITY if math.isnan(low) else low, INFINITY if math.isnan(high) else high)


def _magnitude(one: Bounds) -> Bounds:
    largest = max(abs(one.low), abs(one.high))
    smallest = 0.0 if one.low <= 0 <= one.high else min(abs(one.low), abs(one.high))
    return Bounds(smallest, largest)


def _total(one: Bounds) -> Bounds:
    """Of how many values nobody knows here."""
    return Bounds(0.0 if one.low >= 0 else -INFINITY, 0.0 if one.high <= 0 else INFINITY)


def _fixed(low: float, high: float) -> Rule:
    return lambda given, numbers: Bounds(low, high)


RULES: Mapping[str, Rule] = {
    "same": lambda given, _: union(given),
    "sort": lambda given, _: Bounds(given[0].low, given[0].high, sorted=True),
    "softmax": _fixed(0.0, 1.0),
    "log_softmax": _fixed(-INFINITY, 0.0),
    "hard_sigmoid": _fixed(0.0, 1.0),
    "sigmoid": _monotone(_sigmoid),
    "log_sigmoid": _monotone(lambda value: -_softplus(-value)),
    "tanh": _monotone(math.tanh),
    "erf": _monotone(math.erf),
    "exp": _monotone(_exp),
    "log": _monotone(_log),
    "softplus": _monotone(_softplus),
    "sqrt": _monotone(_sqrt),
    "round": _monotone(_rounded),
    "wave": _fixed(-1.0, 1.0),  # sine, cosine, sign
    "relu": lambda given, _: _clamp(given, 0.0, INFINITY),
    "relu6": lambda given, _: _clamp(given, 0.0, 6.0),
    "clamp": lambda given, n: _clamp(given, n.get("low", -INFINITY), n.get("high", INFINITY)),
    "minimum": lambda given, _: Bounds(min(b.low for b in given), min(b.high for b in given)),
    "maximum": lambda given, _: Bounds(max(b.low for b in given), max(b.high for b in given)),
    "abs": lambda given, _: _magnitude(given[0]),
    "square": lambda given, _: _product(_magnitude(given[0]), _magnitude(given[0])),
    "neg": lambda given, _: _negative(given[0]),
    "reciprocal": lambda given, _: _reciprocal(given[0]),
    "add": lambda given, _: _sum(given[0], given[1]),
    "sub": lambda given, _: _sum(given[0], _negative(given[1])),
    "mul": lambda given, _: _product(given[0], given[1]),
    "div": lambda given, _: _product(given[0], _reciprocal(given[1])),
    "sum": lambda given, _: _total(given[0]),
    "free": lambda given, _: FREE,
}
"""What an operator does to bounds, by a name of its own; an operator without one is not known."""


def apply(name: str, given: Sequence[Bounds | None], numbers: Mapping[str, float]) -> Bounds | None:
    """The bounds of what an operator gives; None where they are not known.

    What is not known may be anything, so that a sigmoid of it still lies between 0 and 1.

    Args:
        name: Of a rule.
        given: Those of the tensors that it takes, in their order.
        numbers: Its further arguments: "low" and "high" of a clamp.
    """
    try:
        found = RULES[name]([one or FREE for one in given], numbers)
    except (KeyError, IndexError, ValueError, OverflowError):
        return None
    unknown = found == FREE and name != "free" and None in given
    return None if unknown else found
