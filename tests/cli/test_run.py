"""`toplabel ... -o` and `toplabel run`, as people type them."""

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from run_material import as_arguments, colour_bytes, draw_colours, read_csv, read_jsonl, save_model
from toplabel.cli.run import RunProgress, duration
from toplabel.runs.summary import Progress


def toplabel(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toplabel", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("cli_run")
    draw_colours(folder / "photos", 30)
    return folder, as_arguments(save_model(folder))


def test_dash_o_is_a_run_and_so_is_run(material: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, model = material
    one = toplabel("photos", "-o", str(tmp_path / "a.csv"), *model, cwd=folder)
    assert one.returncode == 0, one.stderr
    assert one.stdout == ""
    assert "30 inputs in " in one.stderr
    assert "labels: red 10, green 10, blue 10" in one.stderr
    other = toplabel("run", "photos", "-o", str(tmp_path / "a.csv"), *model, cwd=folder)
    assert other.returncode == 0
    assert "30 inputs, all already done: 30 labelled, 0 failed" in other.stderr
    assert [row["source"] for row in read_csv(tmp_path / "a.csv")][:1] == ["photos/00000.png"]


def test_failed_inputs_make_the_status_1(material: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, model = material
    (tmp_path / "bad.png").write_bytes(b"?")
    inputs = [str(folder / "photos"), str(tmp_path / "bad.png"), str(tmp_path / "gone.png")]
    done = toplabel(*inputs, "-o", str(tmp_path / "a.jsonl"), *model)
    assert done.returncode == 1
    assert "30 labelled, 2 failed" in done.stderr
    assert re.search(r"errors: .*not_found 1", done.stderr)
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 32


def test_quiet_is_quiet(material: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, model = material
    done = toplabel(str(folder / "photos"), "-q", "-o", str(tmp_path / "a.csv"), *model)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["photos", "--restart"], "got --restart without an output; add -o labels.csv"),
        (["photos", "--max-errors", "0"], "got --max-errors without an output"),
        (["photos", "--embeddings"], "got --embeddings without an output; add -o vectors.parquet"),
        (["photos", "--embeddings", "-o", "a.csv"], "got --embeddings and CSV, whose cells"),
        (["run", "photos"], "got no output; add -o labels.csv"),
        (["run", "-o", "a.csv"], "Missing argument 'INPUT...'"),
        (["photos", "--json", "-o", "a.csv"], "the output's suffix sets its format"),
        (["photos", "-o", "a.xlsx"], "expected a file with the suffix"),
        (["photos", "-o", "a.csv", "--format", "parquet"], "got the format 'parquet' for 'a.csv'"),
        (["./photoz", "-o", "a.csv"], "cannot read './photoz': there is no such file or folder"),
        (["-", "-o", "a.csv"], "cannot be read again"),
        (["photos", "-o", "a.csv", "--copy-to", "photos/x"], "within the input 'photos'"),
        (["photos", "-o", "a.csv", "--copy-to", "x", "--link-to", "y"], "expected one of them"),
        (["photos", "-o", "photos"], "holds files that are not a run's"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_status_2(
    material: tuple[Path, list[str]], arguments: list[str], text: str
) -> None:
    folder, _ = material
    before = sorted(os.listdir(folder))
    done = toplabel(*arguments, cwd=folder)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(os.listdir(folder)) == before


@pytest.mark.slow  # three thousand images, so that a bar moves
def test_a_terminal_sees_a_bar(material: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, model = material
    draw_colours(tmp_path / "photos", 3000)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "toplabel", str(tmp_path / "photos"), "-o", "a.csv", *model],
        stderr=theirs,
        stdout=theirs,
        cwd=tmp_path,
    )
    os.close(theirs)
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the other end has closed
                return
            seen.append(block)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(timeout=120) == 0
    reader.join(timeout=10)
    os.close(ours)
    text = b"".join(seen).decode()
    assert re.search(r"\[#+\.*\] \d+ % [\d,]+ of 3,000 images, [\d.e+]+ a second, .* left", text)
    assert text.rstrip().endswith("saved to a.csv")


def test_nothing_but_pictures_is_copied(material: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, model = material
    done = toplabel(
        str(folder / "photos"), "-o", "a.csv", "--copy-to", "by-label", *model, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "by-label")) == ["blue", "green", "red"]
    assert (tmp_path / "by-label" / "red" / "00000.png").read_bytes() == colour_bytes(0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42.2, "42 s"),
        (125, "2 min 5 s"),
        (11_520, "3 h 12 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_time_left_is_that_of_this_call() -> None:
    progress = Progress(inputs=1000, before=500, done=600, failed=0, seconds=10)
    assert progress.per_second == 10
    assert progress.seconds_left == 40


def test_without_a_terminal_a_line_is_told_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 9.0, 10.5, 11.0, 21.0])
    monkeypatch.setattr("toplabel.cli.run.monotonic", lambda: next(clock))
    shown = RunProgress(shown=True)
    for done in (100, 200, 300, 400):
        shown.update(Progress(inputs=1000, before=0, done=done, failed=1, seconds=done / 10))
    assert capfd.readouterr().err.splitlines() == [
        "toplabel: 200 of 1,000 images, 1 failed, 10 a second, 1 min 20 s left",
        "toplabel: 400 of 1,000 images, 1 failed, 10 a second, 1 min 0 s left",
    ]
