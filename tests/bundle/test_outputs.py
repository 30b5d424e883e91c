"""What a network's outputs are: by what is stated, by its graph, by what it gave."""

import warnings

import numpy as np
import pytest

from toplabel.bundle.bounds import FREE, Bounds
from toplabel.bundle.conversion import Conversion
from toplabel.bundle.outputs import (
    Evidence,
    Leaf,
    Outputs,
    are_shares,
    choose_leaf,
    interpret,
    row_length,
)
from toplabel.errors import LabelsError, ModelError, ToplabelWarning
from toplabel.labels.labels import Labels

GENERATOR = np.random.default_rng(5)
LOGITS = GENERATOR.normal(size=(8, 4)).astype(np.float32) * 3
SIGMOIDS = 1 / (1 + np.exp(-LOGITS))
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
NAMES = Labels(("apple", "banjo", "cedar", "dune"))
UNIT = Bounds(0, 1)


def asked(
    values: np.ndarray | None,
    bounds: Bounds | None = FREE,
    *,
    labels: Labels | None = None,
    multi_label: bool = False,
) -> Outputs:
    count = 4 if values is None else values.shape[1]
    evidence = Evidence(count=count, bounds=bounds, values=values)
    return interpret(evidence, labels=labels, multi_label=multi_label, name="net")


@pytest.mark.parametrize(
    ("values", "bounds", "multi_label", "activation"),
    [
        pytest.param(LOGITS, FREE, False, "softmax", id="logits"),
        pytest.param(LOGITS, FREE, True, "sigmoid", id="logits of independent classes"),
        pytest.param(SOFTMAX, UNIT, False, "none", id="softmax"),
        pytest.param(SOFTMAX, FREE, False, "none", id="softmax that the graph does not show"),
        pytest.param(np.log(SOFTMAX), Bounds(high=0), False, "softmax", id="log-softmax"),
        pytest.param(SIGMOIDS, UNIT, True, "none", id="sigmoid"),
        pytest.param(SIGMOIDS * 0.4, Bounds(0, 0.4), True, "none", id="a small sigmoid"),
        pytest.param(LOGITS * 0.01 + 0.5, FREE, True, "sigmoid", id="small logits"),
        pytest.param(None, FREE, True, "sigmoid", id="stated alone"),
        pytest.param(np.tanh(LOGITS) * 30, Bounds(-30, 30), False, "softmax", id="capped logits"),
    ],
)
def test_ordinary_outputs_are_known_without_a_word(
    values: np.ndarray | None, bounds: Bounds, multi_label: bool, activation: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ToplabelWarning)
        found = asked(values, bounds, labels=NAMES, multi_label=multi_label)
    assert (found.activation, found.multi_label) == (activation, multi_label)
    assert found.labels == NAMES


@pytest.mark.parametrize(
    ("values", "bounds", "expected"),
    [
        pytest.param(100 * SIGMOIDS, Bounds(0, 100), SIGMOIDS, id="percent"),
        pytest.param(np.log(SIGMOIDS), Bounds(high=0), SIGMOIDS, id="log-sigmoid"),
        pytest.param(np.log(SIGMOIDS + 1e-8), Bounds(high=1e-8), SIGMOIDS, id="with an epsilon"),
        pytest.param(
            np.tanh(LOGITS), Bounds(-1, 1), 1 / (1 + np.exp(-2 * LOGITS)), id="from -1 to 1"
        ),
    ],
)
def test_scores_on_another_scale_are_brought_to_0_to_1(
    values: np.ndarray, bounds: Bounds, expected: np.ndarray
) -> None:
    found = asked(values, bounds, multi_label=True)
    assert found.activation == "none"
    np.testing.assert_allclose(found.conversion(values, np), expected, atol=1e-6)


def test_percent_of_exclusive_classes_is_known_by_its_sum() -> None:
    found = asked(100 * SOFTMAX, Bounds(0, 100))
    np.testing.assert_allclose(found.conversion(100 * SOFTMAX, np), SOFTMAX, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "bounds", "options", "text"),
    [
        pytest.param(SIGMOIDS, UNIT, {}, "multi_label=True if several", id="sigmoid, exclusive"),
        pytest.param(SOFTMAX, UNIT, {"multi_label": True}, "sum to 1", id="softmax, independent"),
        pytest.param(
            SIGMOIDS, None, {"multi_label": True}, "could not be seen", id="by values alone"
        ),
        pytest.param(
            SIGMOIDS, Bounds(low=0), {"multi_label": True}, "could not be seen", id="a mixture"
        ),
        pytest.param(SOFTMAX[:1].repeat(3, 0), UNIT, {}, "does not depend", id="a constant"),
        pytest.param(
            np.eye(4, dtype=np.float32)[[0, 2, 1, 3, 0]], None, {}, "only 0 and 1", id="one-hot"
        ),
        pytest.param(
            np.tanh(LOGITS), Bounds(-1, 1), {}, "lie close together", id="tanh, exclusive"
        ),
        pytest.param(LOGITS[:, :1] * 9 + 40, FREE, {}, "regression has no classes", id="years"),
        pytest.param(LOGITS[:, :1], FREE, {}, "one output and no class names", id="yes or no"),
    ],
)
def test_what_is_doubtful_is_said(
    values: np.ndarray, bounds: Bounds | None, options: dict[str, bool], text: str
) -> None:
    with pytest.warns(ToplabelWarning, match=text):
        asked(values, bounds, **options)


@pytest.mark.parametrize(
    ("values", "bounds", "options", "text"),
    [
        pytest.param(-np.log(SOFTMAX), Bounds(low=0), {}, "negative log-prob", id="costs"),
        pytest.param(
            -np.sort(-LOGITS, axis=1), Bounds(sorted=True), {}, "order of size", id="sorted"
        ),
        pytest.param(
            LOGITS[:, :1] + np.array([1, 0, -1], np.float32), FREE, {}, "CORAL", id="levels"
        ),
        pytest.param(
            1 / (1 + np.exp(-LOGITS[:, :1] - np.array([1, 0, -1], np.float32))),
            UNIT,
            {},
            "CORAL",
            id="levels behind a sigmoid",
        ),
        pytest.param(
            np.maximum(LOGITS, 0), Bounds(low=0), {"multi_label": True}, "yes to every", id="ReLU"
        ),
        pytest.param(5 * SIGMOIDS[:, :1], Bounds(0, 5), {}, "between 0 and 5", id="stars"),
        pytest.param(np.ones((3, 1), np.float32), UNIT, {}, "softmax over one", id="one softmax"),
        pytest.param(
            np.array([[2], [0], [3]], np.float32), None, {}, "whole number", id="an index"
        ),
    ],
)
def test_what_is_no_score_of_classes_is_refused_by_name(
    values: np.ndarray, bounds: Bounds, options: dict[str, bool], text: str
) -> None:
    with pytest.raises(ModelError, match=text):
        asked(values.astype(np.float32), bounds, **options)


@pytest.mark.parametrize(
    ("names", "multi_label", "labels"),
    [
        (("cat", "dog"), False, ("cat", "dog")),
        (("cat", "dog"), True, ("cat", "dog")),
        (("dog",), False, ("not dog", "dog")),
        (("dog",), True, ("dog",)),
    ],
)
@pytest.mark.parametrize("own", [False, True], ids=["logit", "sigmoid"])
def test_one_output_has_two_names_or_one(
    names: tuple[str, ...], multi_label: bool, labels: tuple[str, ...], own: bool
) -> None:
    values, bounds = (SIGMOIDS[:, :1], UNIT) if own else (LOGITS[:, :1], FREE)
    found = asked(values, bounds, labels=Labels(names), multi_label=multi_label)
    assert tuple(found.labels) == labels
    assert found.multi_label == (len(labels) == 1)
    converted = found.conversion(values, np).astype(np.float64)
    assert converted.shape == (8, len(labels))
    if found.activation == "softmax":
        converted = np.exp(converted) / np.exp(converted).sum(axis=1, keepdims=True)
    elif found.activation == "sigmoid":
        converted = 1 / (1 + np.exp(-converted))
    np.testing.assert_allclose(converted[:, -1:], SIGMOIDS[:, :1], atol=1e-6)


def test_one_output_has_no_three_names() -> None:
    with pytest.raises(LabelsError, match="one output; expected two"):
        asked(LOGITS[:, :1], labels=Labels(("a", "b", "c")))


def test_names_must_be_as_many_as_outputs() -> None:
    with pytest.raises(LabelsError, match="got 3 labels for a model with 4 outputs"):
        asked(LOGITS, labels=Labels(("a", "b", "c")))


def test_knows_shares_from_logits() -> None:
    assert are_shares(SOFTMAX)
    assert not are_shares(LOGITS)
    assert not are_shares(np.exp(LOGITS))
    assert not are_shares(np.ones((8, 1), np.float32))


def test_a_conversion_survives_json() -> None:
    for one in (Conversion(), Conversion(scale=0.5, offset=0.5, pair="scores")):
        assert Conversion.from_dict(one.to_dict()) == one
    assert not Conversion()
    for wrong in ({"pair": "three"}, {"scale": "1"}, {"more": 1}):
        with pytest.raises(TypeError):
            Conversion.from_dict(wrong)


# Which of several, and of what shape


@pytest.mark.parametrize(
    ("shape", "batch", "length"),
    [
        ((2, 4), 2, 4),
        ((2, 4, 1, 1), 2, 4),
        ((2, 1, 4), 2, 4),
        ((2, 1), 2, 1),
        ((2, 1, 1, 1), 2, 1),
        ((2,), 2, 1),
        ((1,), 1, 1),
        ((4,), 1, 4),
        ((), 1, 1),
        ((), 2, None),
        ((4,), 2, None),
        ((2, 3, 4), 2, None),
        ((4, 2), 2, None),
        ((2, 0), 2, None),
    ],
)
def test_axes_of_one_do_not_count(shape: tuple[int, ...], batch: int, length: int | None) -> None:
    assert row_length(shape, batch=batch) == length


def leaf(name: str, *shape: int, floating: bool = True) -> Leaf:
    return Leaf(name, shape, "float32" if floating else "int64", floating)


LOGITS_AND_FEATURES = [leaf("0", 1, 16), leaf("1", 1, 4)]


@pytest.mark.parametrize(
    ("leaves", "names", "chosen"),
    [
        ([leaf("output", 1, 4)], None, "output"),
        ([leaf("boxes", 1, 9, 4), leaf("scores", 1, 4)], None, "scores"),
        ([leaf("logits", 1, 4), leaf("aux_logits", 1, 4)], None, "logits"),
        ([leaf("out", 1, 4), leaf("aux", 1, 4)], None, "out"),
        (LOGITS_AND_FEATURES, 4, "1"),
        ([leaf("colour", 1, 3), leaf("kind", 1, 4)], 3, "colour"),
        ([leaf("label", 1, floating=False), leaf("scores", 1, 4)], None, "scores"),
        ([leaf("features", 1, 16), leaf("yes", 1, 1)], 2, "yes"),
        ([leaf("loss"), leaf("scores", 1, 4)], None, "scores"),
    ],
)
def test_of_several_outputs_the_one_that_can_be_meant_is_taken(
    leaves: list[Leaf], names: int | None, chosen: str
) -> None:
    assert choose_leaf(leaves, output=None, names=names, model="net").name == chosen


@pytest.mark.parametrize(
    ("output", "chosen"), [("kind", "0.kind"), ("0.kind", "0.kind"), (1, "1"), ("-1", "1")]
)
def test_a_stated_output_is_taken_by_name_or_place(output: str | int, chosen: str) -> None:
    leaves = [leaf("0.kind", 1, 4), leaf("1", 1, 4)]
    assert choose_leaf(leaves, output=output, names=None, model="net").name == chosen


@pytest.mark.parametrize(
    ("leaves", "output", "text"),
    [
        ([leaf("a", 1, 4), leaf("b", 1, 4)], None, r"'a' .*'b' .*found 2; pass output=.*'a'$"),
        (LOGITS_AND_FEATURES, None, "such as output=0$"),
        ([leaf("a", 1, 8, 7, 7)], None, r"'a' float32 \(1, 8, 7, 7\).*found none"),
        ([leaf("a", 1, floating=False)], None, "'a' int64.*found none"),
        ([leaf("a", 1, 4)], "b", "got output='b'.*'a' float32.*one of these names, or .* 0 to 0"),
        ([leaf("a", 1, 4), leaf("b", 1, 8, 7, 7)], "b", "expected scores"),
    ],
)
def test_outputs_that_cannot_be_chosen_from_are_listed(
    leaves: list[Leaf], output: str | None, text: str
) -> None:
    with pytest.raises(ModelError, match=text):
        choose_leaf(leaves, output=output, names=None, model="net")
