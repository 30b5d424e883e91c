"""Cold start: a new process labels one photo; seconds and peak memory, seen from outside."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from statistics import median

from benchmarks.bench import RIVALS, ROOT, Bench
from benchmarks.materials import base_install, checkpoints
from benchmarks.measure import Run, interleave, ratio, run, spread
from benchmarks.results import Row, Section

PHOTO = ROOT / "examples" / "cat.jpg"
OURS, FIRST, BARE = "toplabel cat.jpg", "toplabel, empty cache", "bare onnxruntime script"
LITE0, RESNET18 = "textbook script, Lite0", "textbook script, ResNet-18"
PIPELINE = "Hugging Face pipeline, Lite0"


def measure(bench: Bench) -> Section:
    """A base install of toplabel against a bare script and against the textbook scripts."""
    installed, folder = base_install(bench), checkpoints(bench)
    ours = partial(run, [installed.command, PHOTO], environment=bench.environment())
    bare = [installed.python, RIVALS / "bare_onnxruntime.py", PHOTO, installed.program]
    labels = installed.labels
    textbook = [sys.executable, RIVALS / "textbook_lite0.py", PHOTO, folder / "lite0.pth", labels]
    usual = [
        sys.executable,
        RIVALS / "textbook_resnet18.py",
        PHOTO,
        folder / "resnet18.pth",
        labels,
    ]
    pipeline = [sys.executable, RIVALS / "hf_one.py", PHOTO, folder / "lite0-hf"]
    near = interleave(
        {
            OURS: ours,
            BARE: partial(run, [*bare, labels], environment=bench.environment()),
            FIRST: partial(_first_start, bench),
        },
        repeats=bench.repeats(15),
    )
    far = interleave(
        {
            OURS: ours,
            LITE0: partial(run, textbook),
            RESNET18: partial(run, usual),
            PIPELINE: partial(run, pipeline),
        },
        repeats=bench.repeats(5),
    )
    _check_answers(near[OURS][0], near[BARE][0], far[LITE0][0])
    return Section(
        title="Cold start: one photo, one new process",
        rows=(*_rows_near(near), *_rows_far(far)),
        notes=(
            "All label `examples/cat.jpg`. The bare script runs the very ONNX program that toplabel"
            " ships, in the same environment, with default session options.",
            "The textbook scripts run in an environment with PyTorch; the first has the same"
            " weights as toplabel and gives the same label, the second random ones.",
            "Time is that of the whole process, memory its peak resident set.",
        ),
        raw={name: [_plain(one) for one in runs] for name, runs in (near | far).items()},
    )


def _first_start(bench: Bench) -> Run:
    cache = bench.folder / "empty-cache"
    shutil.rmtree(cache, ignore_errors=True)
    command = [base_install(bench).command, PHOTO]
    return run(command, environment=bench.environment(cache=cache))


def _rows_near(runs: dict[str, list[Run]]) -> tuple[Row, ...]:
    seconds = {name: [one.seconds for one in repeats] for name, repeats in runs.items()}
    memory = {name: [one.peak_mb for one in repeats] for name, repeats in runs.items()}
    slower, larger = ratio(seconds[OURS], seconds[BARE]), ratio(memory[OURS], memory[BARE])
    measured = [
        Row(
            what=name,
            figure=f"{spread(seconds[name], 's', digits=3)}, {median(memory[name]):.0f} MB,"
            f" {median([one.cpu_seconds for one in runs[name]]):.2f} s of processor time",
        )
        for name in (OURS, BARE, FIRST)
    ]
    return (
        *measured,
        Row(
            what="time, against the bare script",
            figure=f"{slower:.2f} x",
            goal="<= 1.25 x",
            met=slower <= 1.25,
        ),
        Row(
            what="memory, against the bare script",
            figure=f"{larger:.2f} x",
            goal="<= 1.2 x",
            met=larger <= 1.2,
        ),
    )


def _rows_far(runs: dict[str, list[Run]]) -> tuple[Row, ...]:
    rows = []
    ours = [one.seconds for one in runs[OURS]]
    for name, goal in ((LITE0, 12), (RESNET18, 12), (PIPELINE, None)):
        seconds = [one.seconds for one in runs[name]]
        faster = ratio(seconds, ours)
        memory = median([one.peak_mb for one in runs[name]])
        rows.append(Row(what=name, figure=f"{spread(seconds, 's')}, {memory:.0f} MB"))
        rows.append(
            Row(
                what=f"toplabel against it: {median(ours):.3f} s",
                figure=f"{faster:.1f} x faster",
                goal=f">= {goal} x" if goal else "",
                met=faster >= goal if goal else None,
            )
        )
    return tuple(rows)


def _check_answers(ours: Run, bare: Run, textbook: Run) -> None:
    """Stop where the same network gave different labels: then nothing can be compared."""
    label = ours.output.splitlines()[0].split("\t")[1]
    for other in (bare, textbook):
        rival = other.output.splitlines()[0].split("\t")[0]
        if rival != label:
            raise RuntimeError(f"toplabel says {label!r}, a rival with the same weights {rival!r}")


def _plain(one: Run) -> dict[str, float]:
    return {
        "seconds": round(one.seconds, 4),
        "cpu_seconds": round(one.cpu_seconds, 4),
        "peak_mb": round(one.peak_mb, 1),
    }
