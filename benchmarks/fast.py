"""Fast: reduced precision with what is computed again: labels changed, and speed against others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bench import RIVALS, SUBJECTS, Bench
from benchmarks.loop import Loop, run_loop, same_labels
from benchmarks.materials import checkpoints
from benchmarks.measure import interleave, spread
from benchmarks.photos import REAL, find_photos
from benchmarks.results import Row, Section

FAST, EXACT, TEXTBOOK = "toplabel --fast", "toplabel", "textbook loop"
HUGGING_FACE = "Hugging Face pipeline, default"
MOST_AGAIN = 0.2


def measure(bench: Bench) -> Section:
    """The built-in model: the reduced program is made first, then the loops take turns."""
    photos = find_photos(bench).small
    found = bench.ask_script(SUBJECTS / "fast.py", str(len(photos)), *many(photos))
    if "changed" not in found:
        return Section(
            title="Reduced precision",
            rows=(Row(what="no reduced program is used on this processor", figure="exact"),),
            raw=found,
        )
    folder = checkpoints(bench)
    weights = folder / "lite0.pth"
    loops = {
        FAST: partial(_run, bench, SUBJECTS / "stream.py", "lite0", weights, "fast", photos=photos),
        EXACT: partial(
            _run, bench, SUBJECTS / "stream.py", "lite0", weights, "guarded", photos=photos
        ),
        TEXTBOOK: partial(
            _run, bench, RIVALS / "textbook_loop.py", "lite0", weights, photos=photos
        ),
        HUGGING_FACE: partial(
            _run, bench, RIVALS / "hf_pipeline.py", "default", folder / "lite0-hf", photos=photos
        ),
    }
    runs = interleave(loops, repeats=bench.repeats(3), warm_up=False)
    speeds = {name: [one.per_second for one in repeats] for name, repeats in runs.items()}
    mine = median(speeds[FAST])
    again, changed = found["again_of_known"], found["changed"]
    labels = Row(
        what=f"labels changed of {found['images']:,} photos that took no part in making it",
        figure=f"{changed}",
        goal="0",
        met=changed == 0,
    )
    share = Row(
        what=f"computed again of the {found['images_of_known']:,} of ImageNet's classes",
        figure=f"{100 * again:.1f} %",
        goal=f"under {100 * MOST_AGAIN:.0f} %",
        met=again < MOST_AGAIN,
    )
    rest = Row(what="computed again of all of them", figure=f"{100 * found['again']:.1f} %")
    bound = Row(
        what=f"margin {found['margin']['logits']:.2f}, found with {found['made_with']:,} photos",
        figure=found["said"],
    )
    alone = Row(
        what=f"{found['precision']} program against float32, alone",
        figure=f"{found['speedup']:.2f} x",
    )
    others = [
        Row(
            what=name,
            figure=spread(values, "images/s", digits=1)
            + ("" if name == FAST else f"; --fast {mine / median(values):.2f} x")
            + f"; labels as --fast {same_labels(runs[name][0], runs[FAST][0])}",
        )
        for name, values in speeds.items()
    ]
    return Section(
        title="Reduced precision",
        rows=(labels, share, rest, bound, alone, *others),
        notes=(
            "The built-in model. A third of the photos make the reduced program, find its margin"
            " and check it; the labels of the others are compared with the exact path's. Most"
            " of these photos are of no ImageNet class: for these the network has no clear answer,"
            " and more of them are computed again. The loops take the photos of its classes.",
        ),
        raw={**found, "per_second": speeds},
    )


def many(photos: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those photos, and the others there are of about their size."""
    folder = REAL / "train"
    return photos + tuple(sorted(path for path in folder.rglob("*.jpg") if path.is_file()))


def _run(bench: Bench, script: Path, *arguments: str | Path, photos: tuple[Path, ...]) -> Loop:
    return run_loop(bench, script, *arguments, photos=photos)
