"""Evaluating: `toplabel evaluate` on labelled photos, against a run over the same ones."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import interleave, spread
from benchmarks.results import Row, Section
from benchmarks.runs import many_photos, toplabel

TIMES = 20
EVALUATE, RUN = "toplabel evaluate", "toplabel -o, --exact"


def measure(bench: Bench) -> Section:
    """Whole commands in turn: both read every image in full."""
    folder, count = many_photos(bench, times=TIMES)
    alternatives = {
        EVALUATE: partial(toplabel, bench, "evaluate", folder),
        RUN: partial(
            toplabel,
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
