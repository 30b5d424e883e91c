"""A new model: how long until its first label, by eager PyTorch, and at later starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.bench import RIVALS, ROOT, Bench
from benchmarks.materials import base_install, checkpoints
from benchmarks.measure import interleave, spread
from benchmarks.results import Row, Section

PHOTO = ROOT / "examples" / "cat.jpg"
FILE = "resnet18-f37072fd.pth"  # what torchvision calls ResNet-18's weights in its cache
TEXTBOOK, FIRST, LATER = "textbook script", "toplabel -m resnet18, new model", "same, later start"


def measure(bench: Bench) -> Section:
    """Seconds until the first line stands on standard output, ResNet-18 of torchvision."""
    weights = checkpoints(bench) / "resnet18.pth"
    home = bench.folder / "torch-home"
    (home / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, home / "hub" / "checkpoints" / FILE)
    labels = base_install(bench).labels
    usual = [sys.executable, RIVALS / "textbook_resnet18.py", PHOTO, weights, labels]
    cache = bench.folder / "new-model-cache"

    def first() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        return _first_line(bench, home, cache)

    seconds = interleave(
        {
            TEXTBOOK: lambda: _until_first_line(usual, bench.environment()),
            FIRST: first,
            LATER: lambda: _first_line(bench, home, cache),
        },
        repeats=bench.repeats(5),
    )
    more = median(seconds[FIRST]) - median(seconds[TEXTBOOK])
    return Section(
        title="A new model: time to its first label",
        rows=(
            *(Row(what=name, figure=spread(found, "s")) for name, found in seconds.items()),
            Row(
                what="first label of a new model, beyond the textbook script",
                figure=f"{more:+.2f} s",
                goal="<= 1 s",
                met=more <= 1,
            ),
        ),
        notes=(
            "Until the first line on standard output. A new model is labelled in eager PyTorch"
            " first, then compiled; a later start imports no PyTorch. Random weights.",
        ),
        raw=seconds,
    )


def _first_line(bench: Bench, home: Path, cache: Path) -> float:
    environment = {
        **bench.environment(cache=cache),
        "TORCH_HOME": str(home),
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, "-m", "toplabel", PHOTO, "-m", "resnet18"]
    return _until_first_line(command, environment)


def _until_first_line(command: list[object], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        process.stdout.read()
    if not line or process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode} and no label")
    return seconds
