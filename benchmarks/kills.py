"""Kills: a run of 10,000 images, killed at 200 random moments, against one that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import ROOT, SUBJECTS, Bench
from benchmarks.results import Row, Section

COUNT = 10_000


def measure(bench: Bench) -> Section:
    """The run or its worker ends by kill -9; then the same command again."""
    kills = 10 if bench.quick else 200
    folder = bench.folder / "kills"
    _prepare(bench, folder)
    began = time.perf_counter()
    whole = _finish(bench, folder, "whole.jsonl")
    seconds = time.perf_counter() - began
    chance = random.Random(0)
    done = {"run": 0, "worker": 0}
    ends, equal, new = 0, 0, 0
    while sum(done.values()) < kills:
        output = f"killed-{ends}.jsonl"
        victim = chance.choice(("run", "run", "worker"))
        if _kill(bench, folder, output, victim, chance.uniform(0.02, seconds / 2)):
            done[victim] += 1
        if (folder / output).exists():
            ends += 1
            equal += (folder / output).read_bytes() == whole
    output = f"killed-{ends}.jsonl"
    last = _finish(bench, folder, output)
    ends, equal, new = ends + 1, equal + (last == whole), len(last.splitlines())
    return Section(
        title="Killed",
        rows=(
            Row(
                what=f"{COUNT:,} images, kill -9 at {kills} random moments ({done['run']} of the"
                f" run, {done['worker']} of its worker): outputs equal to the byte to an unbroken"
                " run's",
                figure=f"{equal} of {ends}, each with {new:,} records",
                goal="all",
                met=equal == ends and new == COUNT,
            ),
            Row(what="an unbroken run", figure=f"{seconds:.1f} s"),
        ),
        notes=("A small ONNX model in ONNX Runtime, images of 32 pixels, shards of 256.",),
        raw={"kills": done, "ends": ends},
    )


def _prepare(bench: Bench, folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    bench.run_script(SUBJECTS / "small_model.py", folder)
    bench.run_script(SUBJECTS / "draw_many.py", folder / "photos", str(COUNT), str(COUNT))


def _start(bench: Bench, folder: Path, output: str) -> subprocess.Popen[bytes]:
    model = ["-m", "small.onnx", "--preprocess", "preprocess.json", "--labels", "labels.txt"]
    return subprocess.Popen(
        [sys.executable, "-m", "toplabel", "photos", "-o", output, "-q", *model],
        cwd=folder,
        env={**bench.environment(), "PYTHONPATH": str(ROOT / "src")},
    )


def _finish(bench: Bench, folder: Path, output: str) -> bytes:
    status = _start(bench, folder, output).wait()
    if status != 0:
        raise RuntimeError(f"the run ended with {status}")
    return (folder / output).read_bytes()


def _kill(bench: Bench, folder: Path, output: str, victim: str, after: float) -> bool:
    """Start the run, kill it or its worker after a while; whether there was one to kill."""
    process = _start(bench, folder, output)
    time.sleep(after)
    targets = [process.pid] if victim == "run" else _children(process.pid)
    killed = False
    for target in targets:
        if process.poll() is None:
            try:
                os.kill(target, signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                continue
    process.wait()
    return killed


def _children(parent: int) -> list[int]:
    """The processes that this one has begun, as Linux lists them."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path("/proc", name, "stat").read_text()
            except OSError:  # it has ended
                continue
            if int(status.rpartition(")")[2].split()[1]) == parent:
                found.append(int(name))
    return found
