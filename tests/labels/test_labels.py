"""Labels: from lists and mappings, and what is refused."""

import pytest

from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels


def test_a_list_keeps_its_order() -> None:
    assert list(Labels.of(["b", "a"])) == ["b", "a"]


def test_names_need_not_be_unique() -> None:
    assert Labels.of(["crane", "crane"])[1] == "crane"


def test_class_to_idx_is_read_by_index() -> None:
    assert Labels.of({"dog": 1, "cat": 0}).names == ("cat", "dog")


def test_id2label_is_read_by_index_also_as_json_text() -> None:
    assert Labels.of({1: "dog", 0: "cat"}).names == ("cat", "dog")
    assert Labels.of({"1": "dog", "0": "cat"}).names == ("cat", "dog")


def test_digit_names_of_class_to_idx_are_not_taken_for_indices() -> None:
    assert Labels.of({"7": 0, "3": 1}).names == ("7", "3")


def test_indices_stand_in_where_nobody_told_names() -> None:
    labels = Labels.indices(3)
    assert labels.names == ("0", "1", "2")
    assert not labels.named


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cat", "got labels as str"),
        ([], "got no class names"),
        (["cat", 3], "got 3 among the labels"),
        ({"cat": 0, "dog": 2}, "without one for index 1"),
        ({"cat": 0, "dog": 0}, "index 0 twice"),
        ({"cat": "dog"}, "expected name -> index"),
        (7, "got labels as int"),
    ],
)
def test_refuses_what_cannot_be_labels(names: object, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        Labels.of(names)  # type: ignore[arg-type]


def test_refuses_ids_of_another_count() -> None:
    with pytest.raises(LabelsError, match="2 class names and 1 id;"):
        Labels(("a", "b"), ids=("x",))


def test_a_count_that_differs_from_the_outputs_is_refused() -> None:
    with pytest.raises(LabelsError, match="2 labels for a model with 3 outputs"):
        Labels.of(["a", "b"]).check_count(3)


@pytest.mark.parametrize(
    ("outputs", "labels", "text"),
    [
        (1001, 1000, "background class.*TensorFlow's 1001"),
        (11, 10, "background class: if the model has one"),
        (9, 10, "remove it from the list"),
        (10, 12, "training$"),
        (1000, 10, "training$"),
    ],
)
def test_counts_that_differ_by_one_get_a_hint(outputs: int, labels: int, text: str) -> None:
    with pytest.raises(LabelsError, match=text) as caught:
        Labels(tuple(map(str, range(labels)))).check_count(outputs)
    assert (text == "training$") == ("; " not in str(caught.value).partition("training")[2])


def test_numbers_that_map_to_numbers_are_refused_where_they_can_be_read_in_two_ways() -> None:
    with pytest.raises(LabelsError, match="numbers to numbers"):
        Labels.of({"0": 1, "1": 2, "2": 3, "3": 0})
    assert Labels.of({"0": 0, "1": 1}).names == ("0", "1")
    assert Labels.of({1: 0, 0: 1}).names == ("1", "0")
    assert Labels.of({"cat": 1, "dog": 0}).names == ("dog", "cat")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(LabelsError, match="empty name for class 1"):
        Labels(("cat", " "))
