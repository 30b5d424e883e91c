"""Accuracy: the exact path against eager PyTorch's own top five, index for index."""

from __future__ import annotations

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.photos import REFERENCE, find_photos
from benchmarks.results import Row, Section


def measure(bench: Bench) -> Section:
    """Equal top-5 lists, largest difference of a score, and the default path's labels."""
    if not REFERENCE.exists():
        note = "Not measured: no reference answers beside this checkout."
        return Section(title="Agreement with eager PyTorch", rows=(), notes=(note,))
    photos = find_photos(bench).small
    said = bench.ask_script(SUBJECTS / "accuracy.py", REFERENCE, *photos)
    count, equal = said["photos"], said["equal_top5"]
    return Section(
        title="Agreement with eager PyTorch",
        rows=(
            Row(
                what="top five equal, index for index, exact path",
                figure=f"{equal} of {count}",
                goal="all",
                met=equal == count,
            ),
            Row(
                what="largest difference of a score",
                figure=f"{said['score_difference']:.1e}",
                goal="<= 1e-3",
                met=said["score_difference"] <= 1e-3,
            ),
            Row(
                what="label equal, default path",
                figure=f"{said['guarded_equal_top1']} of {count}",
                goal="all",
                met=said["guarded_equal_top1"] == count,
            ),
        ),
        notes=(
            "The reference is timm's own evaluation transform and eager PyTorch with the same"
            " weights, decoded by Pillow.",
        ),
        raw=said,
    )
