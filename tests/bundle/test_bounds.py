"""Bounds are never narrower than what operators give, and known where networks end."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from toplabel.bundle.bounds import FREE, Bounds, apply

numbers = st.floats(-50, 50, allow_nan=False)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Bounds, np.ndarray]:
    """Bounds, some of them open, and values within."""
    values = np.array(draw(st.lists(numbers, min_size=1, max_size=8)))
    low = draw(st.sampled_from([float(values.min()), -math.inf]))
    high = draw(st.sampled_from([float(values.max()), math.inf]))
    return Bounds(low, high), values


FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "tanh": np.tanh,
    "exp": np.exp,
    "softplus": lambda x: np.logaddexp(0, x),
    "round": np.round,
    "relu": lambda x: np.maximum(x, 0),
    "abs": np.abs,
    "square": np.square,
    "neg": np.negative,
    "reciprocal": lambda x: 1 / x,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0)),
}
PAIRS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "minimum": np.minimum,
    "maximum": np.maximum,
}


@given(st.sampled_from(sorted(FUNCTIONS)), samples())
def test_what_a_function_gives_lies_within_its_bounds(
    name: str, sample: tuple[Bounds, np.ndarray]
) -> None:
    bounds, values = sample
    found = apply(name, [bounds], {})
    assert found is not None
    with np.errstate(all="ignore"):
        results = FUNCTIONS[name](values)
    results = results[np.isfinite(results)]
    assert (results >= found.low - 1e-9).all()
    assert (results <= found.high + 1e-9).all()


@given(st.sampled_from(sorted(PAIRS)), samples(), samples())
def test_what_two_tensors_give_lies_within_their_bounds(
    name: str, first: tuple[Bounds, np.ndarray], second: tuple[Bounds, np.ndarray]
) -> None:
    found = apply(name, [first[0], second[0]], {})
    assert found is not None
    with np.errstate(all="ignore"):
        results = PAIRS[name](first[1][:, None], second[1][None]).ravel()
    results = results[np.isfinite(results)]
    slack = 1e-9 * max(1.0, float(np.abs(results).max(initial=0.0)))
    assert (results >= found.low - slack).all()
    assert (results <= found.high + slack).all()


def test_a_sigmoid_of_anything_lies_between_0_and_1() -> None:
    assert apply("sigmoid", [None], {}) == Bounds(0, 1)
    assert apply("hard_sigmoid", [None], {}) == Bounds(0, 1)
    assert apply("clamp", [FREE], {"low": -1, "high": 2}) == Bounds(-1, 2)


def test_what_is_not_known_stays_so() -> None:
    assert apply("same", [None], {}) is None
    assert apply("add", [None, Bounds(1, 1)], {}) is None
    assert apply("no such operator", [FREE], {}) is None
    assert apply("free", [None], {}) == FREE


@pytest.mark.parametrize("steps", [("sigmoid", "same"), ("sort", "softmax")])
def test_a_sort_shows_until_something_else_is_computed(steps: tuple[str, ...]) -> None:
    found: Bounds | None = FREE
    for step in ("sort", *steps):
        found = apply(step, [found], {})
    assert found is not None
    assert found.sorted == (steps[0] == "sigmoid")
