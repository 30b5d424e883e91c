"""Text: what is hidden in it becomes visible."""

import os

from hypothesis import given, strategies as st

from toplabel._internal.text import escape_name, is_or_are, number_of, unescape_name, visible

NAMES = st.lists(st.sampled_from([b"\\", b"x", b"4", b"1", b"e9", b"\xe9", b"\xff", "é".encode()]))


@given(NAMES.map(b"".join) | st.binary())
def test_any_name_is_text_of_its_own_that_gives_the_name_back(name: bytes) -> None:
    text = escape_name(os.fsdecode(name))
    assert os.fsencode(unescape_name(text.encode().decode())) == name


def test_only_names_that_are_no_text_or_look_escaped_are_changed() -> None:
    for name in ("a.png", "école ☃.png", "C:\\photos\\x.png"):
        assert escape_name(name) == name
    assert escape_name(os.fsdecode(b"a\\caf\xe9.png")) == r"a\\caf\xe9.png"
    assert escape_name(r"a\xe9.png") == r"a\\xe9.png"


def test_hidden_characters_become_visible() -> None:
    assert visible("a\nb\u202ec\x00") == "a\\nb\\u202ec\\x00"
    assert visible(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert visible("lone \ud800") == "lone \\ud800"
    assert visible("👩‍🔬 שלום école") == "👩‍🔬 שלום école"


def test_long_text_loses_its_middle() -> None:
    text = visible("a" * 5000 + "z")
    assert len(text) < 1010
    assert text.startswith("aaa")
    assert text.endswith("az")


def test_one_of_a_thing_is_no_plural():
    assert number_of(1, "image") == "1 image"
    assert number_of(0, "image") == "0 images"
    assert number_of(1200, "class", "classes") == "1,200 classes"
    assert (is_or_are(1), is_or_are(0), is_or_are(2)) == ("is", "are", "are")
