"""The manifest: what is listed comes back in shards, and keeps its number when more is added."""

import os
from pathlib import Path

import pytest

from toplabel.errors import RunError
from toplabel.inference.prediction import Failure
from toplabel.runs.entry import Entry
from toplabel.runs.manifest import Manifest, choose_shard_size, write_listing


def manifest_of(folder: Path, *counts: int, shard_size: int = 4) -> Manifest:
    manifest = Manifest(folder, ())
    for generation, count in enumerate(counts):
        entries = [Entry(f"{generation}/{n}.jpg") for n in range(count)]
        listing = write_listing(entries, folder / "listing")
        manifest = manifest.add(folder / "listing", listing.rows, shard_size=shard_size)
    return manifest


def test_shards_hold_all_inputs_in_order(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 10)
    shards = list(manifest.read_shards(range(3)))
    assert [len(shard.entries) for shard in shards] == [4, 4, 2]
    assert [e.name for s in shards for e in s.entries] == [f"0/{n}.jpg" for n in range(10)]
    assert (manifest.rows, manifest.shards) == (10, 3)


def test_later_inputs_make_shards_of_their_own(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 5, 1, 8)
    assert manifest.shards == 2 + 1 + 2
    again = Manifest(tmp_path, manifest.generations)
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
    manifest = manifest_of(tmp_path, 10)
    path = tmp_path / "000.jsonl"
    content = bytearray(path.read_bytes())
    content[0:1] = b"{"
    path.write_bytes(content)
    with pytest.raises(RunError, match="is damaged.*--restart"):
        list(manifest.read_shards([0]))


def test_listing_holds_no_names(tmp_path: Path) -> None:
    import tracemalloc

    entries = (Entry(os.path.join("photos", f"{n:08d}.jpg")) for n in range(50_000))
    tracemalloc.start()
    listing = write_listing(entries, tmp_path / "listing")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listing.rows == 50_000
    assert peak < 2e6
