"""Labelled images: where they come from, and which of a model's classes they are."""

from pathlib import Path

import pytest

from pictures import encoded, scene
from toplabel.analysis.data.dataset import match_classes, read_dataset
from toplabel.errors import LabelsError, UsageError
from toplabel.labels.labels import Labels

PNG = encoded(scene(8, 8), "PNG")
ANIMALS = Labels(("tabby cat", "Golden_Retriever", "crane", "crane"), ids=("a1", "b2", "c3", "d4"))


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    return folder


def test_class_folders_give_their_first_level_as_the_class(tmp_path):
    found = read_dataset(put(tmp_path, "cat/1.png", "cat/deep/2.png", "dog/3.png"))
    assert found.names == ("cat", "cat", "dog")
    assert found.classes == ("cat", "dog")
    assert [Path(s).name for s in found.sources] == ["1.png", "2.png", "3.png"]


def test_file_names_that_begin_with_synsets_give_them(tmp_path):
    found = read_dataset(put(tmp_path, "n01440764_tench.JPEG", "n01496331_electric_ray.JPEG"))
    assert found.names == ("n01440764", "n01496331")


@pytest.mark.parametrize("heading", ["path,label\n", "label,path\n", ""])
def test_a_table_gives_paths_beside_it(tmp_path, heading):
    put(tmp_path, "a.png", "b.png")
    rows = [("a.png", "cat"), ("b.png", "dog")]
    if heading.startswith("label"):
        rows = [(label, path) for path, label in rows]
    (tmp_path / "t.csv").write_text(heading + "".join(f"{a},{b}\n" for a, b in rows))
    found = read_dataset(tmp_path / "t.csv")
    assert found.names == ("cat", "dog")
    assert found.sources == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))


def test_the_digest_knows_images_and_labels_again_wherever_they_lie(tmp_path):
    one = read_dataset(put(tmp_path / "1", "cat/1.png", "dog/2.png"))
    same = read_dataset(put(tmp_path / "2", "cat/1.png", "dog/2.png"))
    other = read_dataset(put(tmp_path / "3", "cat/1.png", "cow/2.png"))
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ((), "nowhere", "no such file or folder"),
        (("a.txt",), "a.txt", "not a folder or a table"),
        (("cat/1.png", "2.png"), ".", "also images outside of them, such as '2.png'"),
        (("1.png", "2.png"), ".", "the class of '1.png' in .* is unknown"),
        (("cat/notes.txt",), ".", "no images in the folder"),
    ],
)
def test_what_is_not_labelled_data_is_reported(tmp_path, files, data, message):
    put(tmp_path, *files)
    with pytest.raises(UsageError, match=message):
        read_dataset(tmp_path / data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "expected the columns path and label"),
        ("path,colour\na.png,red\n", "expected the columns path and label"),
        ("path,label\na.png,\n", "line 2 of .* has no path or no label"),
    ],
)
def test_an_incomplete_table_is_reported(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_dataset(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "index", "how"),
    [
        ("tabby cat", 0, "name"),
        ("b2", 1, "id"),
        ("golden retriever", 1, "spelling"),
        ("TABBY-CAT", 0, "spelling"),
        ("3", 3, "index"),
    ],
)
def test_a_class_is_found_by_name_id_spelling_or_index(name, index, how):
    found = match_classes([name], ANIMALS)
    assert (dict(found.indices), dict(found.how)) == ({name: index}, {name: how})


def test_synsets_are_ids_whatever_stands_behind_them():
    labels = Labels(("tench", "ray"), ids=("n01440764", "n01496331"))
    found = match_classes(["n01440764_tench", "n01496331"], labels)
    assert dict(found.indices) == {"n01440764_tench": 0, "n01496331": 1}
    assert str(found) == "both classes match by id"


def test_a_model_without_names_takes_the_sorted_names():
    found = match_classes(["b", "c", "a"], Labels.indices(3))
    assert dict(found.indices) == {"a": 0, "b": 1, "c": 2}
    assert found.assumed
    assert "ImageFolder" in str(found)
    with pytest.raises(LabelsError, match="2 of 2 classes match no label"):
        match_classes(["b", "a"], Labels.indices(3))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["tabby cat", "tabi cat"],
            "1 of 2 classes .* has 4 labels .*: 'tabi cat' .did you mean 'tabby cat",
        ),
        (["crane"], "2 classes of the model have that name .2, 3."),
        (["tabby cat", "Tabby_Cat"], "both match the label 'tabby cat'"),
    ],
)
def test_what_matches_no_label_or_several_stops(names, message):
    with pytest.raises(LabelsError, match=message):
        match_classes(names, ANIMALS)
