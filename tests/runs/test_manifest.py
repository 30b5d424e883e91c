"""The manifest: what is listed comes back in shards, and keeps its number when more is added.

What is new in a listing is found whatever its order and however often a line is in it.
"""

import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from toplabel.errors import RunError
from toplabel.inference.prediction import Failure
from toplabel.runs import manifest
from toplabel.runs.entry import Entry
from toplabel.runs.manifest import (
    Additions,
    Manifest,
    choose_shard_size,
    copy_new,
    find_additions,
    write_listing,
)


def manifest_of(folder: Path, *counts: int, shard_size: int = 4) -> Manifest:
    found = Manifest(folder, ())
    for generation, count in enumerate(counts):
        entries = [Entry(f"{generation}/{n}.jpg") for n in range(count)]
        listing = write_listing(entries, folder / "listing")
        found = found.add(folder / "listing", listing.rows, shard_size=shard_size)
    return found


def test_shards_hold_all_inputs_in_order(tmp_path: Path) -> None:
    inputs = manifest_of(tmp_path, 10)
    shards = list(inputs.read_shards(range(3)))
    assert [len(shard.entries) for shard in shards] == [4, 4, 2]
    assert [e.name for s in shards for e in s.entries] == [f"0/{n}.jpg" for n in range(10)]
    assert (inputs.rows, inputs.shards) == (10, 3)


def test_later_inputs_make_shards_of_their_own(tmp_path: Path) -> None:
    inputs = manifest_of(tmp_path, 5, 1, 8)
    assert inputs.shards == 2 + 1 + 2
    again = Manifest(tmp_path, inputs.generations)
    shards = {s.number: s.entries for s in again.read_shards([1, 2, 4])}
    assert [e.name for e in shards[1]] == ["0/4.jpg"]
    assert [e.name for e in shards[2]] == ["1/0.jpg"]
    assert [e.name for e in shards[4]] == [f"2/{n}.jpg" for n in range(4, 8)]
    assert len(list(again.lines())) == 14


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, 256), (256_000, 256), (256_001, 512), (1_000_000, 1024), (10_000_000, 10_240)]
    + [(100_000_000, 10_240)],
)
def test_shards_are_about_a_thousand_and_never_too_large(rows: int, size: int) -> None:
    assert choose_shard_size(rows) == size


def test_inputs_that_all_have_a_problem_are_no_run(tmp_path: Path) -> None:
    broken = Entry("a.tar", "problem", problem=Failure("corrupt", "cannot read 'a.tar': no tar"))
    with pytest.raises(RunError, match="cannot read 'a.tar': no tar"):
        write_listing([broken, broken], tmp_path / "listing")
    assert write_listing([broken, Entry("a.jpg")], tmp_path / "listing").rows == 2


def test_a_damaged_manifest_is_told(tmp_path: Path) -> None:
    inputs = manifest_of(tmp_path, 10)
    path = tmp_path / "000.jsonl"
    content = bytearray(path.read_bytes())
    content[0:1] = b"{"
    path.write_bytes(content)
    with pytest.raises(RunError, match="is damaged.*restart=True"):
        list(inputs.read_shards([0]))


def test_listing_holds_no_names(tmp_path: Path) -> None:
    entries = (Entry(os.path.join("photos", f"{n:08d}.jpg")) for n in range(50_000))
    tracemalloc.start()
    listing = write_listing(entries, tmp_path / "listing")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listing.rows == 50_000
    assert peak < 2e6


# What a new listing adds


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


def test_an_image_that_lies_elsewhere_in_its_archive_is_seen(folder: Path) -> None:
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
