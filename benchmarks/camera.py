"""Camera: large photos, where a JPEG is decoded at a reduced scale first."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.bench import RIVALS, SUBJECTS, Bench
from benchmarks.loop import Loop, run_loop, same_labels
from benchmarks.materials import checkpoints
from benchmarks.measure import interleave, spread
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section

OURS, EXACT, TEXTBOOK = "toplabel stream", "toplabel stream, exact", "textbook loop"


def measure(bench: Bench) -> Section:
    """The camera photos, four times over, through both our paths and the textbook loop."""
    photos = find_photos(bench).camera * (1 if bench.quick else 4)
    weights = checkpoints(bench) / "lite0.pth"
    stream, loop = SUBJECTS / "stream.py", RIVALS / "textbook_loop.py"
    runs = interleave(
        {
            OURS: partial(run_loop, bench, stream, "lite0", weights, "guarded", photos=photos),
            EXACT: partial(run_loop, bench, stream, "lite0", weights, "exact", photos=photos),
            TEXTBOOK: partial(run_loop, bench, loop, "lite0", weights, photos=photos),
        },
        repeats=bench.repeats(5),
        warm_up=False,
    )
    return Section(
        title="Camera photos",
        rows=_rows(runs),
        notes=(f"{len(photos)} photos of 8 to 17 megapixels.",),
        raw={name: [one.per_second for one in repeats] for name, repeats in runs.items()},
    )


def _rows(runs: dict[str, list[Loop]]) -> tuple[Row, ...]:
    speeds = {name: [one.per_second for one in repeats] for name, repeats in runs.items()}
    ours = median(speeds[OURS])
    measured = [
        Row(
            what=f"{name}, {runs[name][0].threads} threads",
            figure=f"{spread(values, 'images/s', digits=1)},"
            f" {median([one.peak_mb for one in runs[name]]):.0f} MB",
        )
        for name, values in speeds.items()
    ]
    compared = [
        Row(
            what=f"toplabel against {name}",
            figure=f"{ours / median(speeds[name]):.1f} x",
            goal=f">= {goal} x",
            met=ours / median(speeds[name]) >= goal,
        )
        for name, goal in ((TEXTBOOK, 5), (EXACT, 2))
    ]
    equal = same_labels(runs[OURS][0], runs[EXACT][0])
    return (
        *measured,
        *compared,
        Row(
            what="labels equal to the exact path's",
            figure=equal,
            goal="all",
            met=runs[OURS][0].indices == runs[EXACT][0].indices,
        ),
    )
