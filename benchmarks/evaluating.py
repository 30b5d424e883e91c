"""Evaluating: `toplabel evaluate` on labelled photos, against a run over the same ones."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bench import ROOT, Bench
from benchmarks.measure import Run, interleave, run, spread
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section

TIMES = 20
EVALUATE, RUN = "toplabel evaluate", "toplabel -o, --exact"


def measure(bench: Bench) -> Section:
    """Whole commands in turn: both read every picture in full."""
    folder, count = _labelled_photos(bench)
    alternatives = {
        EVALUATE: partial(_toplabel, bench, "evaluate", folder),
        RUN: partial(
            _toplabel,
            bench,
            *("run", folder, "-o", bench.folder / "evaluated.csv", "--exact", "--restart", "-q"),
        ),
    }
    runs = interleave(alternatives, repeats=bench.repeats(3), warm_up=False)
    seconds = {name: [one.seconds for one in repeats] for name, repeats in runs.items()}
    over = 100 * (median(seconds[EVALUATE]) / median(seconds[RUN]) - 1)
    pairs = [100 * (e / r - 1) for e, r in zip(seconds[EVALUATE], seconds[RUN], strict=True)]
    return Section(
        title="Evaluating",
        rows=(
            *(
                Row(
                    what=f"{name}: {count:,} photos, whole process",
                    figure=f"{spread(seconds[name], 's', digits=1)},"
                    f" {median([one.peak_mb for one in runs[name]]):.0f} MB",
                )
                for name in alternatives
            ),
            Row(
                what="evaluate's time beyond the run's",
                figure=f"{over:.1f} % (pair by pair {min(pairs):.1f} to {max(pairs):.1f} %)",
                goal="< 5 %",
                met=over < 5,
            ),
        ),
        notes=(
            "The 200 photos several times over. Evaluating adds a constant: it imports SciPy and"
            " scikit-learn, and draws a thousand resamples for its intervals.",
        ),
        raw=seconds,
    )


def _labelled_photos(bench: Bench) -> tuple[Path, int]:
    """A folder of photos whose names begin with their class's synset, and how many they are."""
    photos = find_photos(bench).small
    times = 2 if bench.quick else TIMES
    folder = bench.folder / f"labelled-{times}"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for time in range(times):
            for photo in photos:
                shutil.copyfile(photo, folder / f"{photo.stem}-{time:02d}{photo.suffix}")
    return folder, times * len(photos)


def _toplabel(bench: Bench, *arguments: object) -> Run:
    environment = {**bench.environment(), "PYTHONPATH": str(ROOT / "src")}
    return run([sys.executable, "-m", "toplabel", *arguments], environment=environment)
