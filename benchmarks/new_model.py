"""A new model: its first label by eager PyTorch, the prompt after it, and what all of it computes.

Linux only: what a command leaves behind in the background becomes a child of this process, so that
its processor time is counted, too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from statistics import median

from benchmarks.bench import RIVALS, ROOT, Bench
from benchmarks.materials import base_install, checkpoints
from benchmarks.measure import interleave, spread
from benchmarks.results import Row, Section

PHOTO = ROOT / "examples" / "cat.jpg"
FILES = {"resnet18": "resnet18-f37072fd.pth", "resnet50": "resnet50-11ad3fa6.pth"}
"""What torchvision calls the weights of networks in its cache."""

TEXTBOOK, FIRST, WAITING, LATER = (
    "textbook script",
    "toplabel, new model",
    "the same, TOPLABEL_COMPILE=wait",
    "the same, later start",
)
_PR_SET_CHILD_SUBREAPER = 36  # from Linux's prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One command and all that it left behind.

    Args:
        label: Seconds until the first line stood on standard output.
        prompt: Seconds from then until it ended and all its output was closed.
        cpu: Processor time of it and its descendants, to the end of the last of them.
    """

    label: float
    prompt: float
    cpu: float


def measure(bench: Bench) -> Section:
    """ResNet-18 and ResNet-50 of torchvision, with random weights."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    runs = {name: _measure_network(bench, name) for name in FILES}
    rows = [row for name, starts in runs.items() for row in _rows(name, starts)]
    return Section(
        title="A new model: time to its first label",
        rows=tuple(rows),
        notes=(
            "A new model is labelled in eager PyTorch, then compiled in the background; a later"
            " start imports no PyTorch. The prompt is back when the command has ended and whoever"
            " reads its output is at the end of it. Processor time is that of the command and of"
            " what goes on in the background. Random weights.",
        ),
        raw={
            f"{name}, {what}": [astuple(one) for one in found]
            for name, starts in runs.items()
            for what, found in starts.items()
        },
    )


def _measure_network(bench: Bench, name: str) -> dict[str, list[Start]]:
    weights = checkpoints(bench) / f"{name}.pth"
    home = bench.folder / "torch-home"
    (home / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, home / "hub" / "checkpoints" / FILES[name])
    labels = base_install(bench).labels
    usual = [sys.executable, RIVALS / "textbook_resnet18.py", PHOTO, weights, labels, name]
    cache = bench.folder / "new-model-cache"
    ours = [sys.executable, "-m", "toplabel", PHOTO, "-m", name]
    environment = {
        **bench.environment(cache=cache),
        "TORCH_HOME": str(home),
        "PYTHONPATH": str(ROOT / "src"),
    }

    def first(**more: str) -> Start:
        shutil.rmtree(cache, ignore_errors=True)
        return _run(ours, environment | more)

    return interleave(
        {
            TEXTBOOK: lambda: _run(usual, bench.environment()),
            WAITING: lambda: first(TOPLABEL_COMPILE="wait"),
            FIRST: first,
            LATER: lambda: _run(ours, environment),
        },
        repeats=bench.repeats(5),
    )


def _rows(network: str, starts: dict[str, list[Start]]) -> tuple[Row, ...]:
    labels = {name: [one.label for one in found] for name, found in starts.items()}
    cpu = {name: [one.cpu for one in found] for name, found in starts.items()}
    prompts = [one.prompt for one in starts[FIRST]]
    later = median(labels[FIRST]) - median(labels[TEXTBOOK])
    more = median(cpu[FIRST]) - median(cpu[TEXTBOOK])
    measured = [
        Row(
            what=f"{network}, {name}",
            figure=f"{spread(labels[name], 's')}; {median(cpu[name]):.2f} s of processor time",
        )
        for name in starts
    ]
    return (
        *measured,
        Row(
            what=f"{network}, first label beyond the textbook script",
            figure=f"{later:+.2f} s",
            goal="<= 1 s",
            met=later <= 1,
        ),
        Row(
            what=f"{network}, from its label to the prompt",
            figure=spread(prompts, "s"),
            goal="<= 0.5 s",
            met=median(prompts) <= 0.5,
        ),
        Row(
            what=f"{network}, processor time beyond the textbook script",
            figure=f"{more:+.2f} s",
            goal="<= 3 s",
            met=more <= 3,
        ),
    )


def _run(command: list[object], environment: dict[str, str]) -> Start:
    """Run a command, and wait for all that it leaves behind."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        label = time.perf_counter() - started
        process.stdout.read()
        process.wait()
    prompt = time.perf_counter() - started - label
    if not line or process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode} and no label")
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Start(label=label, prompt=prompt, cpu=cpu)
