"""Runs that are stopped in the middle: nothing lost, nothing twice, no process left behind."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from run_material import as_arguments, children, draw_colours, read_jsonl, save_model

TOPLABEL = [sys.executable, "-m", "toplabel"]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of 2,000 images, and the arguments of a quick model."""
    folder = tmp_path_factory.mktemp("material")
    draw_colours(folder / "photos", 2000)
    (folder / "photos" / "00100.png").write_bytes(b"?")
    return folder / "photos", as_arguments(save_model(folder))


def command(material: tuple[Path, list[str]], output: Path, *more: str) -> list[str]:
    photos, model = material
    return [*TOPLABEL, str(photos), "-o", str(output), *model, "--shard-size", "100", *more]


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )


def wait_for_parts(output: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(output.glob("part-*.jsonl"))) < count:
        assert time.monotonic() < deadline, "no part came"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_its_status_and_the_rest_is_done_later(
    material: tuple[Path, list[str]], tmp_path: Path, number: signal.Signals
) -> None:
    arguments = command(material, tmp_path / "out", "--format", "jsonl")
    process = start(arguments)
    wait_for_parts(tmp_path / "out", 3)
    workers = children(process.pid)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped" in told
    assert workers
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.05)
    finished = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1
    assert "inputs are already done" in finished.stderr
    assert "2,000 inputs" in finished.stderr


def test_workers_end_with_a_run_that_is_killed(
    material: tuple[Path, list[str]], tmp_path: Path
) -> None:
    process = start(command(material, tmp_path / "out", "--format", "jsonl"))
    wait_for_parts(tmp_path / "out", 1)
    workers = children(process.pid)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.05)


def kill_and_resume(
    arguments: list[str], unbroken_seconds: float, *, kills: int, seed: int
) -> tuple[int, int]:
    """Run to the end over and over, killed at random moments; how many kills, and ends."""
    chance = random.Random(seed)
    done = ends = 0
    while done < kills:
        process = start(arguments)
        time.sleep(chance.uniform(0.05, unbroken_seconds / 2))
        victims = [process.pid, *children(process.pid)]
        if process.poll() is None and chance.random() < 0.3:
            victims = victims[1:]  # the worker alone: the run goes on by itself
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
        done += 1
        if len(victims) and victims[0] != process.pid:
            assert process.wait(timeout=120) in (0, 1)
            ends += 1
        process.communicate(timeout=120)
    return done, ends


@pytest.mark.slow
def test_a_run_killed_at_random_gives_what_an_unbroken_one_gives(
    material: tuple[Path, list[str]], tmp_path: Path
) -> None:
    unbroken = command(material, tmp_path / "whole.jsonl")
    began = time.monotonic()
    assert subprocess.run(unbroken, capture_output=True, timeout=120).returncode == 1
    seconds = time.monotonic() - began
    for seed in range(3):
        output = tmp_path / f"killed{seed}.jsonl"
        arguments = command(material, output)
        kill_and_resume(arguments, seconds, kills=6, seed=seed)
        assert subprocess.run(arguments, capture_output=True, timeout=120).returncode == 1
        assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_reader_never_sees_half_an_output(
    material: tuple[Path, list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "a.jsonl"
    process = start(command(material, output))
    seen = set()
    while process.poll() is None:
        if output.exists():
            seen.add(output.read_bytes().count(b"\n"))
        for part in (tmp_path / ".a.jsonl.run").glob("part-*"):
            assert part.read_bytes().count(b"\n") == 100
        time.sleep(0.02)
    process.communicate(timeout=60)
    assert seen <= {2000}
    assert len(read_jsonl(output)) == 2000


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_resumes_when_there_is_room(
    material: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """As a limit on the size of a file, which writes meet as they meet a full disk."""
    arguments = command(material, tmp_path / "a.jsonl")

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    process = start(arguments, preexec_fn=little_room)
    began = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert time.monotonic() - began < 60
    assert "cannot write" in told
    assert "a.jsonl" in told
    assert not (tmp_path / "a.jsonl").exists()
    finished = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1
    assert "all already done" in finished.stderr
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 2000


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_really_full_disk_is_reported_in_seconds(
    material: tuple[Path, list[str]], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        arguments = command(material, disk / "out", "--format", "jsonl")
        process = start(arguments)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "No space left" in told
        parts = sorted((disk / "out").glob("part-*.jsonl"))
        assert parts
        assert all(part.read_bytes().count(b"\n") == 100 for part in parts)
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        assert subprocess.run(arguments, capture_output=True, timeout=120).returncode == 1
        assert len(list((disk / "out").glob("part-*.jsonl"))) == 20
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_a_folder_that_may_not_be_written_is_one_line(
    material: tuple[Path, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    process = start(command(material, tmp_path / "file" / "a.jsonl"))
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot write" in told
    assert "Traceback" not in told
