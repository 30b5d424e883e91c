"""JSON, Python, YAML, label maps and tables: an index in any of them is followed."""

import json
from pathlib import Path

import pytest

from toplabel.errors import LabelsError
from toplabel.labels.files import read_labels

NAMES = ("ape", "bee", "cat", "doe")
ORDER = (2, 0, 3, 1)
PAIRS = ", ".join(f"{i}: '{NAMES[i]}'" for i in ORDER)


def rows(form: str, first: int = 0) -> str:
    return "".join(form.format(i=i + first, n=NAMES[i]) + "\n" for i in ORDER)


FORMS = {
    "a dict on a line": ("a.txt", "{" + PAIRS + "}"),
    "a dict of names": ("a.txt", "{" + ", ".join(f"'{NAMES[i]}': {i}" for i in ORDER) + "}"),
    "an assignment": ("a.txt", "id2label = {" + PAIRS + "}\n"),
    "an annotated one": ("a.py", "NAMES: dict[int, str] = {" + PAIRS + "}\n"),
    "a Python file": ("a.py", "import os\nLR = 0.1\nCLASSES = ['ape', 'bee', 'cat', 'doe']\n"),
    "dict() in Python": ("a.py", "idx = OrderedDict([" + rows("('{n}', {i}),") + "])"),
    "a tuple": ("a.txt", "('ape', 'bee', 'cat', 'doe')"),
    "a list of Python": ("a.txt", str(list(NAMES))),
    "a list over lines": ("a.txt", "[\n" + "".join(f"  '{n}',\n" for n in NAMES) + "]\n"),
    "YAML, numbered": ("a.yaml", "nc: 4\nnames:\n" + rows("  {i}: {n}")),
    "YAML in braces": ("a.yaml", "names: {" + PAIRS + "}\n"),
    "YAML list": ("a.yml", "names:\n- ape\n- bee  # small\n- 'cat'\n- \"doe\"\nnc: 4\n"),
    "YAML list in brackets": ("a.yml", "names: [ape, 'bee',\n  cat, doe]\nnc: 4\n"),
    "YAML of names": ("a.yml", "class_to_idx:\n" + rows("  {n}: {i}")),
    "YAML, a whole mapping": ("a.yml", rows("{i}: {n}")),
    "YAML objects": ("a.yml", "categories:\n" + rows("  - id: {i}\n    name: {n}")),
    "YAML called text": ("a.txt", "names:\n" + rows("  {i}: {n}")),
    "a label map": ("a.pbtxt", rows("item {{\n  id: {i}\n  name: '{n}'\n}}", first=1)),
    "a label map called text": ("a.txt", rows('item {{ id: {i} display_name: "{n}" }}')),
    "JSON pairs": ("a.json", json.dumps([[i, NAMES[i]] for i in ORDER])),
    "JSON pairs, name first": ("a.json", json.dumps([[NAMES[i], i] for i in ORDER])),
    "JSON objects": ("a.json", json.dumps([{"id": i, "name": NAMES[i]} for i in ORDER])),
    "JSON objects of one": ("a.json", json.dumps([{str(i): NAMES[i]} for i in ORDER])),
    "COCO": (
        "a.json",
        json.dumps({"images": [], "categories": [{"id": i, "name": NAMES[i]} for i in ORDER]}),
    ),
    "objects by index": ("a.json", json.dumps({str(i): {"name": NAMES[i]} for i in ORDER})),
    "JSON lines": ("a.jsonl", rows('{{"id": {i}, "name": "{n}"}}')),
    "text numbers": ("a.json", json.dumps({NAMES[i]: str(i) for i in ORDER})),
    "from one": ("a.json", json.dumps({str(i + 1): NAMES[i] for i in ORDER})),
    "two that agree": (
        "a.json",
        json.dumps(
            {
                "label2id": {NAMES[i]: i for i in ORDER},
                "id2label": {str(i): NAMES[i] for i in ORDER},
            }
        ),
    ),
    "UTF-16": ("a.csv", ("index,name\n" + rows("{i},{n}")).encode("utf-16")),
    "a German table": ("a.csv", "Nummer;Klasse\n" + rows("{i};{n}")),
    "label is the number": ("a.csv", "label,breed\n" + rows("{i},{n}")),
    "any heading": ("a.csv", "y,name\n" + rows("{i},{n}")),
    "any headings": ("a.csv", "species,code\n" + rows("{n},{i}")),
    "any heading, from one": ("a.csv", "klass,tier\n" + rows("{i},{n}", first=1)),
    "spaces": ("a.csv", "label index , label name\n" + rows("{i} , {n}")),
    "pipes": ("a.csv", "index|name\n" + rows("{i}|{n}")),
    "fractions": ("a.csv", "index,name\n" + rows("{i}.0,{n}")),
    "pandas' own index": (
        "a.csv",
        ",name,label\n" + "".join(f"{row},{NAMES[i]},{i}\n" for row, i in enumerate(ORDER)),
    ),
    "two columns that agree": ("a.csv", "no,class_id,name\n1,0,ape\n3,2,cat\n2,1,bee\n4,3,doe\n"),
    "counts beside": ("a.csv", "name,images,label\n" + rows("{n},{i}00,{i}")),
    "a line of a table": ("a.csv", "ape,bee,cat,doe\n"),
    "a column with indices in it": ("a.csv", "name\n" + rows("{i}: {n}")),
    "lines called a table": ("a.csv", rows("{i} {n}")),
    "commas at the ends": ("a.csv", "index,name,\n" + rows("{i},{n},")),
    "headings as a comment": ("a.csv", "# index,name\n" + rows("{i},{n}")),
    "under a key of its own": ("a.json", json.dumps({"map": {str(i): NAMES[i] for i in ORDER}})),
    "deeper": (
        "a.json",
        json.dumps({"epochs": 3, "model": {"id2label": {str(i): NAMES[i] for i in ORDER}}}),
    ),
    "dict of keywords": ("a.py", "d = dict(" + ", ".join(f"{NAMES[i]}={i}" for i in ORDER) + ")"),
    "YAML of pairs in brackets": ("a.yml", "names: [" + rows("[{i}, {n}],") + "]"),
    "a table called text": ("a.txt", "idx,what\n" + rows("{i},{n}")),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_index_is_followed_in_every_form(tmp_path: Path, form: str) -> None:
    name, content = FORMS[form]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_labels(tmp_path / name).names == NAMES


REFUSED = {
    "two columns": ("a.csv", "train_id,eval_id,name\n0,1,ape\n1,0,bee\n", "'train_id' and 'eval_"),
    "two mappings": (
        "a.json",
        '{"id2label": {"0": "ape", "1": "bee"}, "label2id": {"ape": 1, "bee": 0}}',
        "'id2label' and 'label2id' give the names different indices",
    ),
    "a column with a gap": ("a.csv", "nr,species\n0,ape\n1,bee\n3,cat\n", "line 4 has index 3"),
    "numbers to numbers": ("a.json", '{"0": 1, "1": 2, "2": 0}', "numbers to numbers"),
    "a list whose numbers are in another order": (
        "a.json",
        '["2: cat", "0: ape", "1: bee"]',
        "begin with numbers that are in another order",
    ),
    "objects without one": ("a.json", '[{"id": 0, "name": "a"}, {"id": 1}]', "without 'name'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    (tmp_path / name).write_text(content)
    with pytest.raises(LabelsError, match=message):
        read_labels(tmp_path / name)


def test_the_files_name_tells_which_numbers_are_indices(tmp_path: Path) -> None:
    path = tmp_path / "class_to_idx.json"
    path.write_text('{"2": 0, "0": 1, "1": 2}')
    assert read_labels(path).names == ("2", "0", "1")


def test_nothing_of_a_python_file_is_run(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nNAMES = ['a', 'b']\n")
    assert read_labels(path).names == ("a", "b")
    assert not (tmp_path / "run").exists()


def test_words_that_yaml_takes_for_truths_are_names(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("names: [no, yes, on, null, 007]\n")
    assert read_labels(tmp_path / "a.yaml").names == ("no", "yes", "on", "null", "007")
