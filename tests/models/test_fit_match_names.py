"""Matching: prefixes that wrappers put before names are found from names and shapes alone."""

import pytest
from hypothesis import given, strategies as st

from toplabel.models.fit.load_state_dict import match_names

SHAPES = {
    "conv1.weight": (8, 3, 3, 3),
    "layer1.0.bn.weight": (8,),
    "layer1.0.bn.running_mean": (8,),
    "layer1.1.bn.weight": (8,),
    "head.weight": (10, 8),
    "head.bias": (10,),
}
PARTS = st.sampled_from(
    ["module", "_orig_mod", "model", "net", "backbone", "encoder", "student", "0", "m_2", "weight"]
)


def prefixed(prefix: str, shapes: dict) -> dict:
    return {prefix + name: shape for name, shape in shapes.items()}


@given(st.lists(PARTS, max_size=4), st.randoms())
def test_any_stack_of_prefixes_is_found(parts, random):
    prefix = "".join(f"{part}." for part in parts)
    items = list(prefixed(prefix, SHAPES).items())
    random.shuffle(items)
    (match,) = match_names(SHAPES, dict(items))
    assert match.names == {name: prefix + name for name in SHAPES}
    assert (match.prefix, match.agreeing) == (prefix, len(SHAPES))


@given(st.lists(PARTS, max_size=3), st.lists(PARTS, max_size=3))
def test_prefixes_of_the_class_that_the_file_lacks_are_found(parts, others):
    ours, theirs = ("".join(f"{part}." for part in stack) for stack in (parts, others))
    (match,) = match_names(prefixed(ours, SHAPES), prefixed(theirs, SHAPES))
    assert match.names == {ours + name: theirs + name for name in SHAPES}


@given(
    st.lists(st.sampled_from(["module", "_orig_mod"]), min_size=1, max_size=3),
    st.sampled_from(sorted(SHAPES)),
    st.integers(0, 3),
)
def test_wrappers_around_inner_layers_are_found(wrappers, chosen, at):
    parts = chosen.split(".")
    at = min(at, len(parts) - 1)
    wrapped = ".".join([*parts[:at], *wrappers, *parts[at:]])
    file = {(wrapped if name == chosen else name): shape for name, shape in SHAPES.items()}
    (match,) = match_names(SHAPES, file)
    assert match.agreeing == len(SHAPES)
    assert match.names[chosen] == wrapped


def test_wrappers_of_the_class_itself_are_found():
    (match,) = match_names(prefixed("module._orig_mod.", SHAPES), prefixed("net.", SHAPES))
    assert match.agreeing == len(SHAPES)


def test_what_stands_beside_the_network_does_not_disturb():
    beside = {"criterion.weight": (10,), "model.0.weight": (8,), "head.weight": (10, 8)}
    (match,) = match_names(SHAPES, prefixed("net.", SHAPES) | beside)
    assert match.prefix == "net."
    assert match.agreeing == len(SHAPES)


def test_shapes_decide_between_prefixes():
    teacher = {name: (*shape[:-1], 99) for name, shape in SHAPES.items()}
    (match,) = match_names(SHAPES, prefixed("teacher.", teacher) | prefixed("student.", SHAPES))
    assert match.prefix == "student."


def test_two_networks_of_one_shape_are_both_named():
    file = prefixed("teacher.", SHAPES) | prefixed("student.", SHAPES)
    assert [match.prefix for match in match_names(SHAPES, file)] == ["student.", "teacher."]


@pytest.mark.parametrize("average", ["ema.", "model_ema.module.", "swa_net."])
def test_a_moving_average_is_no_second_network(average):
    file = prefixed(average, SHAPES) | prefixed("model.", SHAPES)
    (match,) = match_names(SHAPES, file)
    assert match.prefix == "model."
    (match,) = match_names(SHAPES, prefixed(average, SHAPES))
    assert match.agreeing == len(SHAPES)


def test_a_class_with_a_wrong_width_is_still_matched_by_name():
    wide = {name: tuple(2 * side for side in shape) for name, shape in SHAPES.items()}
    (match,) = match_names(SHAPES, prefixed("model.", wide))
    assert (match.agreeing, len(match.names), match.prefix) == (0, len(SHAPES), "model.")


def test_a_lazy_shape_agrees_with_any():
    (match,) = match_names({**SHAPES, "head.weight": None}, SHAPES)
    assert match.agreeing == len(SHAPES)


@pytest.mark.parametrize("file", [{}, {"a.b.c": (1,)}, {"conv1.weight.x": (8, 3, 3, 3)}])
def test_no_common_name_gives_an_empty_match(file):
    (match,) = match_names(SHAPES, file)
    assert (match.names, match.agreeing) == ({}, 0)


def test_names_that_would_fall_together_are_left_alone():
    both = {"module.w": (1, 2), "w": (3, 4)}
    (match,) = match_names(both, both)
    assert match.names == {name: name for name in both}


def test_thousands_of_names_take_no_time():
    many = {f"blocks.{i}.attn.{part}.weight": (i, 3) for i in range(500) for part in "qkvo"}
    (match,) = match_names(many, prefixed("a.b.c.", many))
    assert match.agreeing == len(many)
