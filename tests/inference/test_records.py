"""Formats: records that parse back to what went in."""

import csv
import io
import json
import os
import re

import pytest

from toplabel._internal.text import unescape_name
from toplabel.cli.view import choose_view
from toplabel.errors import ImageError
from toplabel.inference.prediction import Candidate, Prediction
from toplabel.inference.records import CSV_COLUMNS, csv_header, to_csv, to_json, to_quiet, to_tsv

MODEL = "embedded/efficientnet_lite0@3f1c9a0b"

NASTY_NAMES = [
    "plain.jpg",
    "a\tb\nc\rd.jpg",
    "back\\slash\\t.jpg",
    "comma, quote \" and 'single'.jpg",
    "=cmd|' /C calc'!A0.jpg",
    "+1.jpg",
    "-k.jpg",
    "@sum.jpg",
    "'=already quoted.jpg",
    "\n=1+1.jpg",
    "\uff1d1+1.jpg",
    "\uff201.jpg",
    "two lines\u2028here\x85there.jpg",
    "Katze 猫 🐈.jpg",
    os.fsdecode(b"latin-1 \xe9\xff.jpg"),
    os.fsdecode(b"latin-1 \xe9 \\xe9 \\.jpg"),
    r"four characters: \xe9.jpg",
    "x" * 255,
]


def prediction(source: str = "cat.jpg", label: str = "tabby", **changes: object) -> Prediction:
    best = Candidate(label, 281, 0.713)
    fields = {
        "source": source,
        "label": label,
        "index": 281,
        "score": 0.713,
        "top": (best, Candidate("tiger cat", 282, 0.126)),
        "unsure": False,
        "warnings": (),
        "model": MODEL,
    }
    return Prediction(**(fields | changes))


def failure(source: str = "bad.jpg") -> Prediction:
    return Prediction.failed(source, MODEL, ImageError("truncated", "ends after 60 of 100 rows"))


def undo_line(text: str) -> str:
    """The documented rule of `to_tsv`, backwards."""
    plain = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    return re.sub(r"\\[\\tnr]", lambda match: plain[match[0]], text)


def test_json_has_the_contracts_keys_in_order():
    record = to_json(prediction()).decode()
    assert record == (
        '{"source": "cat.jpg", "label": "tabby", "index": 281, "score": 0.713, "top": [{"label":'
        ' "tabby", "index": 281, "score": 0.713}, {"label": "tiger cat", "index": 282, "score":'
        ' 0.126}], "unsure": false, "warnings": [], "model": "embedded/efficientnet_lite0@3f1c9a0b"'
        ', "error": null}\n'
    )


def test_json_of_a_failure_has_the_same_keys():
    assert json.loads(to_json(failure())) == {
        "source": "bad.jpg",
        "label": None,
        "index": None,
        "score": None,
        "top": None,
        "unsure": None,
        "warnings": [],
        "model": MODEL,
        "error": {"code": "truncated", "message": "ends after 60 of 100 rows"},
    }


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_json_parses_back_to_the_same_bytes(name: str):
    line = to_json(prediction(name)).decode()  # valid UTF-8, whatever the name is
    assert line.splitlines(keepends=True) == [line]
    assert unescape_name(json.loads(line)["source"]) == name


@pytest.mark.parametrize("name", NASTY_NAMES)
@pytest.mark.parametrize("make", [prediction, failure])
def test_tsv_parses_back_to_the_same_bytes(name: str, make):
    line = to_tsv(make(name))
    assert line.endswith(b"\n")
    source, _label, _score = line[:-1].split(b"\t")
    assert b"\n" not in source
    assert undo_line(os.fsdecode(source)) == name


def test_tsv_is_source_label_score():
    assert to_tsv(prediction()) == b"cat.jpg\ttabby\t0.7130\n"


def test_tsv_has_as_many_classes_as_were_asked_for_and_says_unsure():
    line = to_tsv(prediction(unsure=True), top_k=2)
    assert line == b"cat.jpg\ttabby\t0.7130\ttiger cat\t0.1260\tunsure\n"
    assert to_tsv(prediction(unsure=True)) == b"cat.jpg\ttabby\t0.7130\tunsure\n"
    assert to_tsv(failure(), top_k=2) == b"bad.jpg\t\t\n"
    assert to_quiet(prediction(unsure=True), top_k=2) == b"tabby\ttiger cat\tunsure\n"


def test_tsv_of_a_failure_has_an_empty_label_and_score():
    assert to_tsv(failure()) == b"bad.jpg\t\t\n"


def test_quiet_is_the_label_or_an_empty_line():
    assert to_quiet(prediction()) == b"tabby\n"
    assert to_quiet(prediction(label="two\nlines")) == b"two\\nlines\n"
    assert to_quiet(failure()) == b"\n"


def read_csv(*rows: bytes) -> list[dict[str, str]]:
    text = b"".join((csv_header(), *rows)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_csv_parses_back_to_the_same_bytes(name: str):
    (row,) = read_csv(to_csv(prediction(name)))
    assert row["source"][:1] not in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
    assert unescape_name(row["source"].removeprefix("'")) == name


def test_csv_has_every_column_in_every_row():
    good, bad = read_csv(to_csv(prediction(unsure=True, warnings=("a", "b"))), to_csv(failure()))
    assert tuple(good) == CSV_COLUMNS
    assert good["unsure"] == "true"
    assert good["warnings"] == "a; b"
    assert json.loads(good["top"])[1]["label"] == "tiger cat"
    assert (good["score"], good["error_code"]) == ("0.713", "")
    assert (bad["label"], bad["index"], bad["top"], bad["unsure"]) == ("", "", "", "")
    assert (bad["error_code"], bad["error_message"]) == ("truncated", "ends after 60 of 100 rows")


def test_csv_lines_end_with_a_bare_newline():
    assert csv_header() == ",".join(CSV_COLUMNS).encode() + b"\n"
    assert b"\r" not in to_csv(prediction())


def test_a_label_with_a_surrogate_that_is_no_byte_still_prints():
    label = json.loads('"\\ud800"')
    assert to_tsv(prediction(label=label)) == b"cat.jpg\t\\ud800\t0.7130\n"
    assert json.loads(to_json(prediction(label=label)))["label"] == "\\ud800"
    assert read_csv(to_csv(prediction(label=label)))[0]["label"] == "\\ud800"


@pytest.mark.parametrize("option", ["as_csv", "quiet"])
def test_a_terminal_is_not_controlled_by_labels(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"as_json": False, "as_csv": False, "quiet": False, "top_k": None, option: True}
    evil = prediction("a\udcff.jpg", "\x1b[2Jcat")
    piped = choose_view([], **asked).encode(evil)
    assert b"\x1b[2Jcat" in piped
    monkeypatch.setattr("toplabel.cli.view.is_terminal", lambda stream: True)
    shown = choose_view([], **asked).encode(evil)
    assert b"\x1b" not in shown
    assert b"\\x1b[2Jcat" in shown
    assert shown.count(b"\n") == 1


def several(*names: str) -> Prediction:
    """What a multi-label model says of an image."""
    top = tuple(Candidate(name, place, 0.9 - place / 10) for place, name in enumerate(names))
    best = top[0] if top else Candidate("", -1, 0.3)
    return Prediction(
        "a.jpg",
        best.label or None,
        None if best.index < 0 else best.index,
        best.score,
        top,
        not top,
        (),
        "m",
        multi_label=True,
    )


def test_classes_that_apply_are_all_said_in_lines() -> None:
    assert to_tsv(several("cat", "a\tb")) == b"a.jpg\tcat\t0.9000\ta\\tb\t0.8000\n"
    assert to_quiet(several("cat", "a\tb")) == b"cat\ta\\tb\n"
    assert str(several("cat", "dog")) == "cat, dog"
    assert several("cat", "dog").labels == ("cat", "dog")


def test_where_no_class_applies_lines_say_none() -> None:
    none = several()
    assert to_tsv(none) == b"a.jpg\t\t0.3000\n"
    assert to_quiet(none) == b"\n"
    assert (str(none), none.labels) == ("", ())
    record = none.to_dict()
    assert (record["label"], record["index"], record["top"]) == (None, None, [])
    assert (record["unsure"], record["error"], record["score"]) == (True, None, 0.3)
