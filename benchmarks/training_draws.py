"""Training: draws of real photos, and whether what is printed holds on those not drawn."""

from __future__ import annotations

from functools import partial
from statistics import mean

from benchmarks.bench import ROOT, SUBJECTS, Bench
from benchmarks.measure import interleave, ratio, spread
from benchmarks.results import Row, Section
from benchmarks.runs import toplabel

DATA = ROOT.parent / "shared" / "data" / "train"
"""Photos that may not be passed on; without them there is nothing to measure."""

_DRAWS = 40
_ACCURACY = {"flowers": {20: 0.83, 50: 0.87}, "trash": {20: 0.72, 45: 0.79}}
"""By photos a class: what is asked for."""


def measure(bench: Bench) -> Section:
    """Flowers and trash, in draws; the start of a trained model."""
    rows: list[Row] = []
    for name, goals in _ACCURACY.items():
        rows += _drawn(bench, name, goals)
    rows.append(_start(bench))
    return Section(
        title="Training on draws of photos",
        rows=tuple(rows),
        notes=(
            "A logistic regression on the features of the built-in network. The photos are made"
            " smaller, which costs a point or two. Intervals are those that are printed; all photos"
            " that are not drawn are held out.",
        ),
    )


def _drawn(bench: Bench, name: str, goals: dict[int, float]) -> list[Row]:
    """Accuracy, interval and calibration error where so many photos of each class are drawn."""
    sizes, draws = ",".join(map(str, goals)), 4 if bench.quick else _DRAWS
    found = bench.ask_script(SUBJECTS / "training.py", DATA / name, sizes, str(draws))
    rows = []
    for size, goal in goals.items():
        results = found[str(size)]
        accuracy = mean(one["accuracy"] for one in results)
        said = mean(one["said"] for one in results)
        held = sum(one["low"] <= one["accuracy"] <= one["high"] for one in results)
        error = mean(one["calibration_error"] for one in results)
        rows += [
            Row(
                what=f"{name}: {size} photos a class, accuracy on the others",
                figure=f"{100 * accuracy:.1f} % (it says {100 * said:.1f} %)",
                goal=f">= {100 * goal:g} %",
                met=accuracy >= goal,
            ),
            Row(
                what=f"{name}: {size} photos a class, draws whose interval holds that accuracy",
                figure=f"{held} of {draws}; calibration error {error:.3f}",
                goal=">= 90 %",
                met=held >= 0.9 * draws,
            ),
        ]
    return rows


def _start(bench: Bench) -> Row:
    """One photo, whole process: a trained model beside the built-in one."""
    model = bench.folder / "bees.toplabel"
    toplabel(bench, "train", DATA / "bees" / "train", "-o", model, "-q")
    photo = ROOT / "examples" / "cat.jpg"
    alternatives = {
        "built-in": partial(toplabel, bench, photo, "-q"),
        "trained": partial(toplabel, bench, photo, "-q", "-m", model),
    }
    runs = interleave(alternatives, repeats=bench.repeats(15))
    seconds = {name: [one.cpu_seconds for one in repeats] for name, repeats in runs.items()}
    times = ratio(seconds["trained"], seconds["built-in"])
    return Row(
        what="one photo with a trained model, CPU-seconds, against the built-in one",
        figure=f"{times:.2f} x ({spread(seconds['trained'], 's')})",
        goal="<= 1.1 x",
        met=times <= 1.1,
    )
