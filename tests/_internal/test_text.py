"""Text: what is hidden in it becomes visible."""

import os

from toplabel._internal.text import visible


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
