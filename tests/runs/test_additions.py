"""Additions: what is new in a listing, whatever its order and however often a line stands in it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toplabel.inference.prediction import Failure
from toplabel.runs import manifest
from toplabel.runs.entry import Entry
from toplabel.runs.manifest import Additions, copy_new, find_additions


def as_lines(entries: list[Entry]) -> list[bytes]:
    return [f"{entry.to_line()}\n".encode() for entry in entries]


def compare(known: list[Entry], listed: list[Entry], folder: Path) -> tuple[list[Entry], Additions]:
    path, new = folder / "listed", folder / "new"
    path.write_bytes(b"".join(as_lines(listed)))
    found = find_additions(as_lines(known), path, folder)
    copy_new(path, found.is_new, new)
    return [Entry.from_line(line) for line in new.read_bytes().splitlines()], found


names = st.lists(st.sampled_from("abcdefgh"), max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("additions")


@settings(deadline=None)
@given(known=names, listed=names, at_once=st.sampled_from([1, 3, 1000]))
def test_new_is_what_is_listed_more_often_than_known(
    known: list[str], listed: list[str], at_once: int, folder: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_KEYS_AT_ONCE", at_once)
        new, found = compare([Entry(n) for n in known], [Entry(n) for n in listed], folder)
    wanted = Counter(listed) - Counter(known)
    assert Counter(entry.name for entry in new) == wanted
    assert found.missing == (Counter(known) - Counter(listed)).total()
    assert found.moved is None


def test_new_inputs_keep_the_order_of_the_listing(folder: Path) -> None:
    listed = [Entry(f"{n}") for n in (9, 3, 7, 1, 5)]
    new, _ = compare([Entry("7"), Entry("5")], listed, folder)
    assert [entry.name for entry in new] == ["9", "3", "1"]


def test_a_picture_that_lies_elsewhere_in_its_archive_is_seen(folder: Path) -> None:
    known = [Entry("a.tar#1.jpg", "tar", "a.tar", (512, 10)), Entry("x.jpg")]
    moved = [Entry("a.tar#1.jpg", "tar", "a.tar", (1024, 10)), Entry("x.jpg")]
    _, found = compare(known, moved, folder)
    assert found.moved == "a.tar#1.jpg"


def test_another_message_of_the_same_problem_is_nothing_new(folder: Path) -> None:
    known = [Entry("a.tar", "problem", problem=Failure("truncated", "after 3 members"))]
    listed = [Entry("a.tar", "problem", problem=Failure("truncated", "after 4 members"))]
    new, found = compare(known, listed, folder)
    assert new == []
    assert found.moved is None


def test_a_million_lines_are_compared_in_seconds_and_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    count = 100_000
    known = (f'"photos/{n:08d}.jpg"\n'.encode() for n in range(0, count, 2))
    with open(tmp_path / "listed", "wb") as file:
        file.writelines(f'"photos/{n:08d}.jpg"\n'.encode() for n in range(count))
    tracemalloc.start()
    found = find_additions(known, tmp_path / "listed", tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.flatnonzero(found.is_new).tolist() == list(range(1, count, 2))
    assert peak < 40e6
