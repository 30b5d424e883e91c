"""Sorting: a folder for each label, whatever the labels are called."""

import errno
import filecmp
import os
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import toplabel
from run_material import colour_bytes, draw_colours, local_predictor
from toplabel.errors import RunError, UsageError
from toplabel.labels.labels import Labels
from toplabel.runs import sorting
from toplabel.runs.entry import Entry
from toplabel.runs.sorting import Sorting, folder_names


def test_labels_that_share_a_name_get_folders_of_their_own() -> None:
    labels = Labels(("crane", "cat", "Cat", "crane", "dog/cat", "..", "CON", "a:b", "dog_cat"))
    assert folder_names(labels) == (
        "crane-0",
        "cat-1",
        "Cat-2",
        "crane-3",
        "dog_cat-4",
        "class-5",
        "CON_",
        "a_b",
        "dog_cat-8",
    )


@given(st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=20))
def test_folders_are_all_different_and_stay_in_their_place(names: list[str]) -> None:
    found = folder_names(Labels(tuple(names)))
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert "\0" not in name
        assert len(os.fsencode(name.encode("utf-8", "replace"))) < 200


def test_a_name_that_looks_like_anothers_index_takes_nobodys_folder() -> None:
    found = folder_names(Labels(("a", "A", "a-0", "A-1")))
    assert len({name.casefold() for name in found}) == 4


@pytest.mark.parametrize("how", ["copy_to", "link_to"])
def test_images_go_to_their_labels_folder(tmp_path: Path, how: str) -> None:
    draw_colours(tmp_path / "photos", 6)
    draw_colours(tmp_path / "photos" / "more", 3, first=3)
    (tmp_path / "photos" / "bad.png").write_bytes(b"?")
    (tmp_path / "photos" / "more" / "00003.png").write_bytes(colour_bytes(6))
    sort = {how: tmp_path / "sorted"}
    toplabel.run(tmp_path / "photos", tmp_path / "a.csv", model=local_predictor(), **sort)
    found = {
        folder: sorted(os.listdir(tmp_path / "sorted" / folder))
        for folder in os.listdir(tmp_path / "sorted")
    }
    assert sorted(found) == ["blue", "green", "red"]
    assert len(found["red"]) == 3  # 0, 3 and the other 3
    assert {"00000.png", "00003.png"} < set(found["red"])
    for folder, names in found.items():
        for name in names:
            path = tmp_path / "sorted" / folder / name
            assert path.is_symlink() == (how == "link_to")
            assert path.read_bytes()


@pytest.mark.parametrize("how", ["copy", "link"])
def test_sorting_twice_changes_nothing(tmp_path: Path, how: str) -> None:
    paths = draw_colours(tmp_path / "photos", 3)
    sorting = Sorting(folder=tmp_path / "sorted", how=how, names=("red", "green", "blue"))  # type: ignore[arg-type]
    entries, classes = [Entry(path) for path in paths], [[0], [0, 2], []]
    for _ in range(2):
        sorting.sort(entries, classes)
        assert sorted(os.listdir(tmp_path / "sorted" / "red")) == ["00000.png", "00001.png"]
        assert os.listdir(tmp_path / "sorted" / "blue") == ["00001.png"]


def two_of_a_name(tmp_path: Path) -> list[Entry]:
    """Two different images, each in a folder of its own, whose files have one name."""
    return [Entry(draw_colours(tmp_path / f"photos{n}", 1)[0]) for n in (0, 1)]


def sort_into(tmp_path: Path, *entries: Entry, how: str = "copy") -> None:
    sorting = Sorting(folder=tmp_path / "sorted", how=how, names=("red",))  # type: ignore[arg-type]
    sorting.sort(entries, [[0]] * len(entries))


def contents(tmp_path: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (tmp_path / "sorted" / "red").iterdir())


def test_two_runs_that_copy_into_one_folder_do_not_mix_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, both, write = two_of_a_name(tmp_path), threading.Barrier(2), sorting._write

    def write_together(entry: Entry, path: Path) -> None:
        both.wait(60)
        write(entry, path)
        both.wait(60)

    Path(entries[1].name).write_bytes(b"another")
    monkeypatch.setattr(sorting, "_write", write_together)
    threads = [threading.Thread(target=sort_into, args=(tmp_path, entry)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert contents(tmp_path) == sorted(Path(entry.name).read_bytes() for entry in entries)


@pytest.mark.parametrize("how", ["copy", "link"])
def test_a_name_that_another_run_takes_at_this_moment_stays_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    first, second = two_of_a_name(tmp_path)
    Path(second.name).write_bytes(b"another")
    sort_into(tmp_path, first, how=how)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # as a moment ago
    sort_into(tmp_path, second, how=how)
    assert contents(tmp_path) == sorted(Path(e.name).read_bytes() for e in (first, second))


def test_a_copy_that_vanishes_while_it_is_compared_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_of_a_name(tmp_path)
    sort_into(tmp_path, first)

    def compare(one: Path, other: Path, *, shallow: bool) -> bool:
        other.unlink()
        raise FileNotFoundError(other)

    monkeypatch.setattr(filecmp, "cmp", compare)
    sort_into(tmp_path, second)
    assert os.listdir(tmp_path / "sorted" / "red") == ["00000.png"]


def test_a_copy_that_is_removed_before_it_has_its_name_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_in_vain(entry: Entry, path: Path) -> None:
        path.write_bytes(b"another")
        path.unlink()

    first, second = two_of_a_name(tmp_path)
    sort_into(tmp_path, first)
    monkeypatch.setattr(sorting, "_write", write_in_vain)
    with pytest.raises(OSError, match="No such file"):
        sort_into(tmp_path, second)


def test_copies_need_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    first, second = two_of_a_name(tmp_path)
    Path(second.name).write_bytes(b"another")
    monkeypatch.setattr(os, "link", refuse)
    sort_into(tmp_path, first, second, first)
    assert contents(tmp_path) == sorted(Path(e.name).read_bytes() for e in (first, second))


def test_a_folder_for_copies_within_the_inputs_is_refused(tmp_path: Path) -> None:
    draw_colours(tmp_path / "photos", 2)
    with pytest.raises(UsageError, match="within the input"):
        toplabel.run(
            tmp_path / "photos",
            tmp_path / "a.csv",
            model=local_predictor(),
            copy_to=tmp_path / "photos" / "sorted",
        )


def test_links_need_files(tmp_path: Path) -> None:
    sorting = Sorting(folder=tmp_path, how="link", names=("red",))
    with pytest.raises(UsageError, match="use copy_to="):
        sorting.check([Entry("a.tar#1.jpg", "tar", "a.tar", (0, 1))])
    with pytest.raises(UsageError, match="use copy_to="):
        sorting.check([Entry("https://example.org/1.jpg")])


def test_images_of_a_finished_run_are_sorted_when_that_is_asked_for_later(tmp_path: Path) -> None:
    draw_colours(tmp_path / "photos", 3)
    toplabel.run(tmp_path / "photos", tmp_path / "a.csv", model=local_predictor())
    for _ in range(2):
        summary = toplabel.run(
            tmp_path / "photos",
            tmp_path / "a.csv",
            model=local_predictor(),
            copy_to=tmp_path / "sorted",
        )
        assert summary.new == 0
        assert sorted(os.listdir(tmp_path / "sorted")) == ["blue", "green", "red"]
    draw_colours(tmp_path / "photos", 1, first=30)
    toplabel.run(
        tmp_path / "photos",
        tmp_path / "a.csv",
        model=local_predictor(),
        copy_to=tmp_path / "sorted",
    )
    assert len(os.listdir(tmp_path / "sorted" / "red")) == 2


def test_a_full_disk_is_named_by_the_folder_of_sorted_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    draw_colours(tmp_path / "photos", 3)
    monkeypatch.setattr("toplabel.runs.sorting.shutil.copyfile", fill)
    with pytest.raises(RunError, match=r"cannot write '.*sorted/red': No space left"):
        toplabel.run(
            tmp_path / "photos",
            tmp_path / "a.csv",
            model=local_predictor(),
            copy_to=tmp_path / "sorted",
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
@pytest.mark.parametrize("full", ["sorted", "report", "output"])
def test_a_really_full_disk_is_named_by_what_is_on_it(tmp_path: Path, full: str) -> None:
    disk = tmp_path / full
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    folder = tmp_path / "photos"
    draw_colours(folder, 12)
    for path in folder.iterdir():  # each of them fills a page of the disk
        path.write_bytes(path.read_bytes() + bytes(3000))
    outputs = {name: tmp_path / name for name in ("sorted", "report", "output")}
    for path in outputs.values():
        path.mkdir(exist_ok=True)
    try:
        with pytest.raises(RunError, match=rf"cannot write .*'{disk}.*No space left"):
            toplabel.run(
                folder,
                outputs["output"] / "a.jsonl",
                model=local_predictor(),
                copy_to=outputs["sorted"] / "s",
                report=outputs["report"] / "a.html",
            )
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_an_image_that_cannot_be_read_any_more_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = draw_colours(tmp_path / "photos", 3)
    toplabel.run(tmp_path / "photos", tmp_path / "a.csv", model=local_predictor())
    Path(paths[1]).unlink()
    os.mkfifo(paths[1])  # which a copy would wait for
    summary = toplabel.run(
        tmp_path / "photos", tmp_path / "a.csv", model=local_predictor(), copy_to=tmp_path / "s"
    )
    assert summary.inputs == 3
    assert len(list((tmp_path / "s").rglob("*.png"))) == 2
