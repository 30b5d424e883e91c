"""The table for people."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from toplabel._internal.text import fit, printable, text_width
from toplabel.cli.view import Layout, to_rows
from toplabel.errors import ImageError
from toplabel.inference.prediction import Candidate, Prediction


def prediction(source: str = "cat.jpg", **changes: object) -> Prediction:
    top = (Candidate("tabby", 281, 0.713), Candidate("tiger cat", 282, 0.126))
    fields = {"top": top, "unsure": False, "warnings": (), "model": "embedded"} | changes
    return Prediction(source=source, label="tabby", index=281, score=0.713, **fields)


def failure(source: str = "bad.jpg") -> Prediction:
    return Prediction.failed(source, "embedded", ImageError("truncated", "ends early"))


def layout(*sources: str, width: int = 80, top_k: int | None = None, **options: bool) -> Layout:
    looks = {"color": False, "blocks": True} | options
    return Layout.of(sources, width=width, top_k=top_k, **looks)


def test_one_image_shows_its_classes_without_its_name():
    assert to_rows(prediction(), layout("cat.jpg")) == (
        "tabby      ███████████████        0.71\ntiger cat  ██▋                    0.13\n"
    )


def test_several_images_take_a_row_each():
    shape = layout("cat.jpg", "longer-name.jpg")
    rows = to_rows(prediction(), shape) + to_rows(prediction("longer-name.jpg"), shape)
    first, second = rows.splitlines()
    assert first.startswith("cat.jpg          tabby ")
    assert second.startswith("longer-name.jpg  tabby ")
    assert first.index("█") == second.index("█")


def test_top_k_adds_rows_below_the_name():
    rows = to_rows(prediction(), layout("cat.jpg", "dog.jpg", top_k=2)).splitlines()
    assert [row[:7] for row in rows] == ["cat.jpg", "       "]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_rows_fit_the_terminal(width: int):
    sources = ["a" * 300, "b"]
    long = Candidate("label " * 20, 1, 1.0)
    rows = to_rows(prediction("a" * 300, top=(long,)), layout(*sources, width=width))
    assert max(map(text_width, rows.splitlines())) <= max(width, 46)


def test_a_failed_image_is_a_row_among_others():
    assert to_rows(failure(), layout("cat.jpg", "bad.jpg")) == "bad.jpg  (truncated)\n"
    assert to_rows(failure(), layout("bad.jpg")) == ""


def test_unsure_is_shown():
    rows = to_rows(prediction(unsure=True), layout("cat.jpg")).splitlines()
    assert rows[0].endswith("0.71  unsure")
    assert not rows[1].endswith("unsure")


def test_a_multi_label_image_without_any_class_says_so():
    none = replace(prediction(top=(), unsure=True, multi_label=True), label=None, index=None)
    assert to_rows(none, layout("cat.jpg")).startswith("(none)  ")
    assert "unsure" not in to_rows(none, layout("cat.jpg"))


def test_all_classes_of_a_multi_label_image_are_shown_among_several_images():
    both = tuple(Candidate(name, place, 0.9) for place, name in enumerate(("cat", "dog")))
    rows = to_rows(prediction(top=both, multi_label=True), layout("cat.jpg", "dog.jpg"))
    assert [line.split()[0] for line in rows.splitlines()] == ["cat.jpg", "dog"]


def test_no_score_is_shown_as_nothing_or_as_certain_that_is_neither():
    scores = {
        0.0: " 0.00",
        1e-5: "<0.01",
        0.005: " 0.01",
        0.994: " 0.99",
        0.9987: ">0.99",
        1.0: " 1.00",
    }
    top = tuple(Candidate("a", n, score) for n, score in enumerate(scores))
    rows = to_rows(prediction(top=top), layout("cat.jpg", top_k=6)).splitlines()
    assert [row[-5:] for row in rows] == [*scores.values()]


def test_bars_without_block_characters():
    rows = to_rows(prediction(), layout("cat.jpg", blocks=False))
    assert rows.startswith("tabby      ###############        0.71\n")
    assert rows.isascii()


def test_colour_only_where_welcome():
    assert "\x1b[" in to_rows(prediction(), layout("cat.jpg", color=True))
    assert "\x1b" not in to_rows(prediction(), layout("cat.jpg"))


def test_names_cannot_control_the_terminal():
    name = "\x1b]0;gone\x07\n" + os.fsdecode(b"\xff.jpg")
    assert printable(name) == "\\x1b]0;gone\\x07\\n\\xff.jpg"
    assert "\x1b" not in to_rows(prediction(name), layout(name, "b"))


def test_wide_characters_take_two_columns():
    assert text_width("猫 cat") == 6
    assert text_width("e\u0301") == 1
    assert fit("猫猫猫", 5) == "猫猫…"
    assert fit("猫猫", 5) == "猫猫 "
    assert fit("folder/name.jpg", 9, keep_end=True) == "…name.jpg"


def test_no_command_controls_a_terminal_by_names():
    lines = ["predicted \x1b]0;gone\x07, actual \u202ecat", "two\tcolumns\nand lines"]
    code = f"from toplabel.cli.records import print_lines; print_lines({lines!a})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert out.decode() == (
        "predicted \\x1b]0;gone\\x07, actual \\u202ecat\ntwo\tcolumns\nand lines\n"
    )
