"""Which output a number beside a name means, and when that is asked, said or refused."""

import numpy as np
import pytest

from toplabel._internal.notices import collect_warnings
from toplabel.errors import LabelsError, ToplabelWarning
from toplabel.labels.given import labels_for
from toplabel.labels.labels import Labels
from toplabel.labels.listed import ListedNames

TWELVE = [f"c{number}" for number in range(12)]


def test_numbers_from_one_are_taken_and_said() -> None:
    with pytest.warns(ToplabelWarning, match="numbered from 1: taking 1 to 3 as outputs 0 to 2"):
        labels = Labels.of({3: "c", 1: "a", 2: "b"})
    assert labels.names == ("a", "b", "c")


def test_many_numbers_from_one_are_taken_only_in_order() -> None:
    with pytest.warns(ToplabelWarning, match="numbered from 1"):
        assert Labels.of(dict(enumerate(TWELVE, 1))).names == tuple(TWELVE)
    shuffled = {number: f"c{number - 1}" for number in (2, 1, *range(3, 13))}
    with pytest.raises(LabelsError, match=r"numbered from 1 to 12.*ImageFolder sorts as text"):
        Labels.of(shuffled)


def test_name_to_index_from_one_is_an_index_in_any_order() -> None:
    with pytest.warns(ToplabelWarning, match="numbered from 1"):
        labels = Labels.of({name: place for place, name in reversed([*enumerate(TWELVE, 1)])})
    assert labels.names == tuple(TWELVE)


def test_indices_may_be_text() -> None:
    assert Labels.of({"cat": "1", "ant": "0"}).names == ("ant", "cat")  # type: ignore[dict-item]


def test_the_key_tells_which_numbers_are_indices() -> None:
    numbers = {"2": 0, "0": 1, "1": 2}
    assert ListedNames.of(numbers, called="class_to_idx").in_order().names == ("2", "0", "1")
    assert ListedNames.of(numbers, called="id2label").in_order().names == ("1", "2", "0")
    with pytest.raises(LabelsError, match="numbers to numbers"):
        ListedNames.of(numbers)


FLOWERS = {"1": "rose", "2": "fern", "10": "iris", "100": "lily"}


def test_names_by_folder_follow_the_models_own_order_of_folders() -> None:
    own = Labels(("1", "10", "100", "2"))
    with collect_warnings() as texts:
        labels = labels_for(FLOWERS, 4, own=own)
    assert labels.names == ("rose", "iris", "lily", "fern")
    assert "taken as class folders" in texts[0]
    with pytest.raises(LabelsError, match="without one for index 0"):
        labels_for(FLOWERS, 4)


def test_names_by_folder_that_have_no_numbers_need_no_warning() -> None:
    own = Labels(("n02", "n01"))
    with collect_warnings() as texts:
        labels = labels_for({"n01": "Ant", "n02": "Bee"}, 2, own=own)
    assert labels.names == ("Bee", "Ant")
    assert texts == []


def test_the_same_folders_and_indices_are_no_doubt() -> None:
    with collect_warnings() as texts:
        labels = labels_for({"1": "b", "0": "a"}, 2, own=Labels(("0", "1")))
    assert labels.names == ("a", "b")
    assert texts == []


SYNSETS = ("n01440764", "n01443537", "n01484850")


def test_names_with_the_models_synsets_are_taken_by_synset() -> None:
    own = Labels(("tench", "goldfish", "shark"), ids=SYNSETS)
    given = Labels(("Hai", "Schleie", "Goldfisch"), ids=(SYNSETS[2], SYNSETS[0], SYNSETS[1]))
    with collect_warnings() as texts:
        labels = labels_for(given, 3, own=own)
    assert labels == Labels(("Schleie", "Goldfisch", "Hai"), ids=SYNSETS)
    assert "each name is taken for the output that has its synset" in texts[0]


def test_the_models_synsets_in_its_own_order_are_quiet() -> None:
    own = Labels(("tench", "goldfish", "shark"), ids=SYNSETS)
    with collect_warnings() as texts:
        assert labels_for(Labels(("a", "b", "c"), ids=SYNSETS), 3, own=own).names == ("a", "b", "c")
    assert texts == []


def test_synsets_in_another_order_than_imagefolders_are_warned_of() -> None:
    with pytest.warns(ToplabelWarning, match="n01484850 first"):
        labels_for(Labels(("a", "b", "c"), ids=SYNSETS[::-1]), 3)


def test_the_models_own_names_in_another_order_are_warned_of() -> None:
    with pytest.warns(ToplabelWarning, match="the model itself names, in another order"):
        labels = labels_for(["b", "a"], 2, own=Labels(("a", "b")))
    assert labels.names == ("b", "a")


def test_arrays_and_their_numbers_are_taken_as_lists_and_integers() -> None:
    assert Labels.of(np.array(["b", "a"])).names == ("b", "a")  # type: ignore[arg-type]
    assert Labels.of({"b": np.int64(1), "a": np.int64(0)}).names == ("a", "b")
    assert Labels.of({np.str_("b"): 1, np.str_("a"): 0}).names == ("a", "b")
