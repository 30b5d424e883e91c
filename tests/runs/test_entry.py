"""Entries: what a reader lists comes back from the manifest as it was."""

import os

import pytest

from toplabel.inference.prediction import Failure
from toplabel.runs.entry import Entry

ENTRIES = (
    Entry("photos/cat.jpg"),
    Entry(os.fsdecode(b'photos/\xff\n"=,.jpg')),
    Entry("a.tar#b.jpg", "tar", "a.tar", (512, 1024)),
    Entry("a.tar", "problem", problem=Failure("truncated", "it ends early")),
)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_an_entry_survives_its_line(entry: Entry) -> None:
    line = entry.to_line()
    assert line.isascii()
    assert "\n" not in line
    assert Entry.from_line(line) == entry


@pytest.mark.parametrize("line", ['["a", "floppy", "", [], null]', "[1]", "{", "3"])
def test_a_damaged_line_is_refused(line: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Entry.from_line(line)
