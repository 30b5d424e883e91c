"""Label files: every form people keep class names in, and what is refused."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from toplabel.errors import LabelsError
from toplabel.labels import files
from toplabel.labels.files import order_warning, read_labels
from toplabel.labels.labels import Labels
from toplabel.labels.tables import listed_of_table
from toplabel.labels.values import listed_of_json


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TEXTS = {
    "a name a line": ("cat\ndog\n", ("cat", "dog")),
    "no end of line": ("cat\ndog", ("cat", "dog")),
    "of Windows": ("cat\r\ndog\r\n", ("cat", "dog")),
    "of an old Mac": ("cat\rdog\r", ("cat", "dog")),
    "with a mark": ("\ufeffcat\ndog\n", ("cat", "dog")),
    "blank lines at the end": ("cat\ndog\n\n \n\n", ("cat", "dog")),
    "spaces around": ("  cat \n\tdog\n", ("cat", "dog")),
    "twice the same": ("crane\ncrane\n", ("crane", "crane")),
    "other scripts": ("кот\n犬\n\u2028x\n", ("кот", "犬", "x")),
    "commas": ("tench, Tinca tinca\ncat\n", ("tench, Tinca tinca", "cat")),
    "index, name": ("0 tench\n1 great white shark\n", ("tench", "great white shark")),
    "index: name": ("0: tench\n1: goldfish\n", ("tench", "goldfish")),
    "index, comma": ("0,tench\n1,goldfish\n", ("tench", "goldfish")),
    "index in another order": ("1 b\n2 c\n0 a\n", ("a", "b", "c")),
    "index padded": ("00 a\n01 b\n", ("a", "b")),
    "name, index": ("/a/airfield 0\n/a/alley 1\n", ("/a/airfield", "/a/alley")),
    "digits alone": ("0\n1\n2\n", ("0", "1", "2")),
    "numbers that are part of it": ("0 years\n1 years\n", ("0 years", "1 years")),
    "numbers after it": ("class 0\nclass 1\n", ("class 0", "class 1")),
    "one of them with a number": ("3 d printer\ncat\n", ("3 d printer", "cat")),
    "times": ("16:9\n4:3\n", ("16:9", "4:3")),
    "a JSON list": ('["cat", "dog"]\n', ("cat", "dog")),
    "a Python dict": ("{0: 'a, b',\n 1: \"jack-o'-l\"}\n", ("a, b", "jack-o'-l")),
}


@pytest.mark.parametrize("form", TEXTS)
def test_text_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    text, names = TEXTS[form]
    found = read_labels(write(tmp_path, "classes.txt", text))
    assert found == Labels(names)


@pytest.mark.parametrize("name", ["classes.names", "classes", "classes.TXT", "classes.lst"])
def test_text_is_read_under_other_names(tmp_path: Path, name: str) -> None:
    assert read_labels(str(write(tmp_path, name, "cat\ndog\n"))).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("tench, Tinca tinca", "goldfish")),
        ("n01440764: tench\nn01443537: goldfish", ("tench", "goldfish")),
        ("n01440764\nn01443537\n", ("n01440764", "n01443537")),
    ],
)
def test_synsets_become_ids(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    labels = read_labels(write(tmp_path, "synset_words.txt", text))
    assert labels == Labels(names, ids=("n01440764", "n01443537"))


JSON = {
    "a list": ["cat", "dog"],
    "index -> name": {"1": "dog", "0": "cat"},
    "name -> index": {"dog": 1, "cat": 0},
    "id2label": {"architectures": ["X"], "id2label": {"0": "cat", "1": "dog"}, "label2id": {}},
    "label2id": {"label2id": {"cat": 0, "dog": 1}},
    "class_to_idx": {"class_to_idx": {"cat": 0, "dog": 1}, "epoch": 3},
    "idx_to_class": {"idx_to_class": {"0": "cat", "1": "dog"}},
    "names": {"nc": 2, "names": ["cat", "dog"]},
    "nested twice": {"labels": {"names": {"0": "cat", "1": "dog"}}},
}


@pytest.mark.parametrize("form", JSON)
def test_json_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, "classes.json", json.dumps(JSON[form]))
    assert read_labels(path) == Labels(("cat", "dog"))


def test_a_class_may_be_called_as_a_key_is(tmp_path: Path) -> None:
    path = write(tmp_path, "classes.json", '{"names": 1, "labels": 0}')
    assert read_labels(path).names == ("labels", "names")


def test_class_index_of_keras_gives_ids(tmp_path: Path) -> None:
    text = '{"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench"]}'
    labels = read_labels(write(tmp_path, "imagenet_class_index.json", text))
    assert labels == Labels(("tench", "goldfish"), ids=("n01440764", "n01443537"))


TABLES = {
    "one column": "cat\ndog\n",
    "one column with a heading": "label\ncat\ndog\n",
    "index, name": "0,cat\n1,dog\n",
    "name, index": "dog,1\ncat,0\n",
    "headings": "index,name\n1,dog\n0,cat\n",
    "headings of a road sign": "ClassId,SignName\n1,dog\n0,cat\n",
    "class and name": "class,name\n1,dog\n0,cat\n",
    "name and label": "name,label\ndog,1\ncat,0\n",
    "label is a number, class a name": "label,class\n1,dog\n0,cat\n",
    "other columns": "id,colour,name\n0,red,cat\n1,blue,dog\n",
    "names alone under headings": "name,colour\ncat,red\ndog,blue\n",
    "semicolons": "index;name\n1;dog\n0;cat\n",
    "quotes": '"index","name"\r\n"1","dog"\r\n"0","cat"\r\n',
    "blank rows of a spreadsheet": "index,name\n0,cat\n1,dog\n,\n,\n\n",
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    assert read_labels(write(tmp_path, "a.csv", TABLES[form])).names == ("cat", "dog")


def test_names_in_quotes_keep_their_commas(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'id,name\n0,"tench, Tinca tinca"\n1,"a ""b"""\n')
    assert read_labels(path).names == ("tench, Tinca tinca", 'a "b"')


def test_tabs_separate_in_tsv(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "index\tname\n1\tdog, old\n0\tcat\n")
    assert read_labels(path).names == ("cat", "dog, old")


@pytest.mark.torch
def test_a_class_folder_is_numbered_as_torchvision_does(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from toplabel.models.zoo_import import import_torchvision

    import_torchvision()
    from torchvision.datasets.folder import find_classes

    for name in ("10", "9", "b", "B", "ä", "a b", "a-b", "_x", "犬"):
        (tmp_path / name).mkdir()
    write(tmp_path, "readme.txt", "not a class")
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    assert list(read_labels(tmp_path)) == find_classes(tmp_path)[0]


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    for name in ("dog", "cat", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    assert read_labels(tmp_path).names == ("cat", "dog")


@pytest.mark.shared_data
def test_a_real_class_folder(shared_data: Path) -> None:
    labels = read_labels(shared_data / "cifar10-test")
    assert labels.names[:3] == ("airplane", "automobile", "bird")
    assert len(labels) == 10


REFUSED = {
    "blank line": ("a.txt", "cat\n\ndog\n", "line 2 is blank"),
    "blank line first": ("a.txt", "\ncat\n", "line 1 is blank"),
    "a gap": ("a.txt", "0: cat\n1: dog\n3: emu\n", "line 3 has index 3; expected 0 to 2"),
    "a gap, without marks": ("a.txt", "0 cat\n1 dog\n3 emu\n", "line 3 has index 3"),
    "an index twice": ("a.txt", "0: a\n1: b\n1: c\n", "line 3 has index 1 again"),
    "indices behind tabs": ("a.txt", "5\tcat\n6\tdog\n", "number them from 0, or leave"),
    "nothing": ("a.txt", "", "the file is empty"),
    "spaces": ("a.txt", " \n\n", "the file is empty"),
    "a pointer": ("a.txt", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "a page": ("a.json", "<!doctype html>", "a web page, probably saved instead of the file"),
    "Latin-1": ("a.txt", b"cat\nk\xe4fer\n", "line 2 is not UTF-8; save the file again"),
    "zeros": ("a.txt", b"cat\nd\0g\n", "line 2 contains a null byte"),
    "a workbook": ("a.xlsx", "names", r"got a \.xlsx file; expected a text file.*\.json"),
    "YAML of something else": ("a.yaml", "lr: 0.1\nsteps:\n  a: b\n", "got the pair 'steps'"),
    "YAML that ends early": ("a.yaml", "names: [cat, dog\n", "line 1 opens a bracket"),
    "YAML of neither": ("a.yaml", "names:\n  cat dog\n", "line 2 is neither a list item nor"),
    "Python without a list": ("a.py", "import os\nx = len(os.sep)\n", "no list or dict of names"),
    "a label map of none": ("a.pbtxt", "x: 1\n", "it has no items"),
    "an image": ("a.png", "cat", r"got a \.png file"),
    "broken JSON": ("a.json", '["cat",\n "dog"', "line 2 is not valid JSON"),
    "JSON of text": ("a.json", '"cat"', "got the JSON 'cat'"),
    "JSON of nothing": ("a.json", "[]", "got no class names"),
    "an empty object": ("a.json", "{}", "got no class names"),
    "a number in a list": ("a.json", '["cat", 3]', "got 3 at item 1; expected a name"),
    "an empty name": ("a.json", '["cat", " "]', "got ' ' at item 1; expected a name"),
    "an empty name by index": ("a.json", '{"0": "cat", "1": ""}', "empty name for class 1"),
    "no name at all": ("a.json", '{"0": "cat", "1": null}', "got the pair '1': None"),
    "an empty key": ("a.json", '{"cat": 0, "": 1}', "empty name for class 1"),
    "a gap in lines": ("a.json", '{"0": "cat", "2": "dog"}', "without one for index 1"),
    "an index of two names": ("a.json", '{"cat": 0, "dog": 0}', "index 0 twice"),
    "a key twice": ("a.json", '{"cat": 0, "cat": 1}', "the key 'cat' appears twice"),
    "true": ("a.json", '{"cat": true, "dog": false}', "got the pair 'cat': True"),
    "a fraction": ("a.json", '{"cat": 0.0}', "got the pair 'cat': 0.0"),
    "settings": ("a.json", '{"lr": 0.1, "model": "x"}', "id2label"),
    "nested too deep": ("a.json", "[" * 100_000, "got JSON that cannot be read"),
    "a huge number": ("a.json", "[" + "9" * 5000 + "]", "got JSON that cannot be read"),
    "a row too long": (
        "a.csv",
        "id,name\n0,a\n1,b,c\n",
        "line 3 has 3 cells, but the first line has 2; quote names",
    ),
    "commas in names": ("a.csv", "cat\ntench, Tinca\n", "line 2 has 2 cells"),
    "no headings": (
        "a.csv",
        "red,cat\nblue,dog\n",
        "line 1 has 2 cells, none of them a known header",
    ),
    "headings only": ("a.csv", "index,name\n", "only headers"),
    "an empty cell": ("a.csv", "index,name\n0,cat\n1,\n", "line 3 has no name"),
    "an index that is none": ("a.csv", "index,name\n0,cat\nx,dog\n", "line 3 has the index 'x'"),
    "an index too large": ("a.csv", "index,name\n5,cat\n6,dog\n", "line 2 has index 5; expected 0"),
    "an index again": ("a.csv", "index,name\n0,cat\n0,dog\n", "line 3 has index 0 again"),
    "a blank row": ("a.csv", "index,name\n0,cat\n\n1,dog\n", "line 3 is blank"),
    "a quote without its end": ("a.csv", 'index,name\n0,"cat\n', "line 2 is not valid CSV"),
    "a cell too long": ("a.csv", "name\n" + "x" * 200_000, "line 2 is not valid CSV"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_names_no_classes_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    path = write(tmp_path, name, content)
    with pytest.raises(LabelsError, match=message) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"cannot read labels from {str(path)!r}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"No such file.*expected a text file"):
        read_labels(tmp_path / "no.txt")


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "cat.jpg", "")
    with pytest.raises(LabelsError, match="no sub-folders; expected one per class"):
        read_labels(tmp_path)


def test_the_folder_of_a_whole_data_set_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    with pytest.raises(LabelsError, match=r"train, val are splits of a dataset.*train'"):
        read_labels(tmp_path)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(LabelsError, match="neither a file nor a folder"):
        read_labels(tmp_path / "pipe.txt")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    tracemalloc.start()
    with pytest.raises(LabelsError, match="it has 16 MB; expected at most 16 MB"):
        read_labels(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    for read in (listed_of_json, lambda text: listed_of_table(text, delimiters=",;\t")):
        try:
            labels = read(text).in_order()
        except LabelsError:
            continue
        assert all(name.strip() for name in labels)


@given(st.lists(st.text(min_size=1).filter(lambda name: bool(name.strip())), min_size=1))
def test_a_list_of_any_names_survives_json(names: list[str]) -> None:
    assert listed_of_json(json.dumps(names)).names == tuple(names)


@pytest.mark.parametrize(
    "names",
    [
        ("1", "10", "2"),
        ("class_1", "class_10", "class_2"),
        ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"),
        ("background", "grade 1", "grade 10", "grade 9"),
        ("10.5", "9.5"),
    ],
)
def test_names_in_text_order_are_warned_of(names: tuple[str, ...]) -> None:
    text = order_warning(Labels(names))
    assert text is not None
    assert "ImageFolder" in text
    assert "check one image" in text
    assert "\n" not in text


def test_the_warning_shows_the_first_place() -> None:
    assert "'class_10' comes before 'class_2'" in str(
        order_warning(Labels(("class_1", "class_10", "class_2")))
    )


@pytest.mark.parametrize(
    "names",
    [
        ("1", "2", "10"),
        ("2", "10", "1"),
        ("01", "02", "10"),
        ("cat", "dog"),
        ("a1", "a2", "a9"),
        ("0.25", "0.5", "0.75"),
        ("n01440764", "n01443537", "n12768682"),
        ("001.Albatross", "002.Auklet", "010.Bunting"),
        ("Audi 2009", "Audi 2012", "BMW 1"),
        ("Zebra", "ape", "bee"),
        ("one",),
    ],
)
def test_other_orders_are_not_warned_of(names: tuple[str, ...]) -> None:
    assert order_warning(Labels(names)) is None


def test_indices_are_not_warned_of() -> None:
    assert order_warning(Labels.indices(12)) is None


def test_a_class_folder_of_numbers_is_warned_of(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / str(number)).mkdir()
    assert "'10' comes before '2'" in str(order_warning(read_labels(tmp_path)))
