"""Training on one's own folder: python -m benchmarks.training [--rivals PYTHON] [--epochs N].

The set of PyTorch's transfer-learning tutorial (244 ants and bees to learn from, 153 to check), by
`toplabel train`, by fastai's `fine_tune(1)` and by the tutorial's own loop, on the same network and
weights. Whole processes, in CPU-seconds: they hold on a machine that others use, too. fastai runs
in an interpreter of its own (PYTHON), because it wants other versions of what the rest uses.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import RIVALS, ROOT, Bench, last_json
from benchmarks.materials import checkpoints
from benchmarks.measure import Run, run
from benchmarks.report import summary
from benchmarks.results import Row, Section, to_dict

BEES = ROOT.parent / "shared" / "data" / "train" / "bees"
OURS, FASTAI, TUTORIAL = "toplabel train", "fastai, fine_tune(1)", "PyTorch's tutorial"
EPOCHS = 25
"""Of the tutorial."""


def measure(
    bench: Bench, *, rivals: Path | None = None, epochs: int | None = None, data: Path = BEES
) -> Section:
    """Each of them once, from a start to an end."""
    weights = checkpoints(bench) / "lite0.pth"
    epochs = epochs or (1 if bench.quick else EPOCHS)
    alternatives = {OURS: partial(_ours, bench, data)}
    if rivals is not None:
        name = TUTORIAL if epochs == EPOCHS else f"{TUTORIAL}, {epochs} of its {EPOCHS} epochs"
        alternatives[FASTAI] = partial(_rival, rivals, "fastai_fine_tune.py", weights, data, 1)
        alternatives[name] = partial(_rival, rivals, "tutorial_training.py", weights, data, epochs)
    found = {}
    for name, measured in alternatives.items():
        finished, accuracy = found[name] = measured()
        print(f"{name}: {accuracy:.1%}, {finished.cpu_seconds:.1f} CPU-s", flush=True)
    own = found[OURS][0].cpu_seconds
    rows = [
        Row(
            what=f"{name}: {data.name}, whole process",
            figure=f"{accuracy:.1%} right on the validation part, {finished.cpu_seconds:.1f}"
            f" CPU-s, {finished.peak_mb:.0f} MB"
            + ("" if name == OURS else f"; {finished.cpu_seconds / own:.0f} x"),
            goal="94 %, 8 CPU-s, 300 MB" if name == OURS else "30 x ours, and no more right",
            met=_is_met(finished, accuracy)
            if name == OURS
            else finished.cpu_seconds >= 30 * own and accuracy <= found[OURS][1] + 0.01,
        )
        for name, (finished, accuracy) in found.items()
    ]
    return Section(
        title="Training on one's own images",
        rows=tuple(rows),
        notes=(
            "EfficientNet-Lite0 with the weights of toplabel's built-in model throughout, the cache"
            " empty. toplabel's process also tells its accuracy out of fold and what is unknown;"
            " its validation part is labelled by another process. The others validate after each"
            " epoch, as their users have them do.",
        ),
        raw={name: [one.cpu_seconds, one.peak_mb, right] for name, (one, right) in found.items()},
    )


def _is_met(finished: Run, accuracy: float) -> bool:
    return accuracy >= 0.94 and finished.cpu_seconds <= 8 and finished.peak_mb <= 300


def _ours(bench: Bench, data: Path) -> tuple[Run, float]:
    bundle, cache = bench.folder / "bees.toplabel", bench.folder / "training-cache"
    environment = {**bench.environment(cache=cache), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "toplabel"]
    trained = run([*command, "train", data / "train", "-o", bundle, "-q"], environment=environment)
    told = run([*command, data / "val", "-m", bundle, "--json", "-q"], environment=environment)
    records = [json.loads(line) for line in told.output.splitlines()]
    right = [Path(one["source"]).parent.name == one["label"] for one in records]
    return trained, sum(right) / len(right)


def _rival(python: Path, script: str, weights: Path, data: Path, epochs: int) -> tuple[Run, float]:
    finished = run([python, RIVALS / script, weights, data, epochs])
    return finished, float(last_json(finished)["accuracy"])


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rivals", type=Path, help="a Python with fastai and timm")
    parser.add_argument("--epochs", type=int, help=f"of the tutorial's loop, {EPOCHS} by default")
    asked = parser.parse_args()
    before = machine.now()
    with tempfile.TemporaryDirectory(prefix="toplabel-bench-") as folder:
        section = measure(Bench(Path(folder)), rivals=asked.rivals, epochs=asked.epochs)
    others = machine.used_by_others(before, machine.now())
    print(summary(to_dict(section, surroundings={"used_by_others": round(others, 2)})))


if __name__ == "__main__":
    main()
