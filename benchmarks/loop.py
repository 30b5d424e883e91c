"""Loop: a script that labels many photos in; images per second, labels and memory out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench, last_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What one script did.

    Args:
        per_second: Images per second, counted inside the process, after loading and warming up.
        indices: The class of each photo.
        threads: How many threads its arithmetic was allowed.
        peak_mb: Largest resident memory of the process, without its workers.
    """

    per_second: float
    indices: tuple[int, ...]
    threads: int
    peak_mb: float


def run_loop(bench: Bench, script: Path, *arguments: str | Path, photos: Sequence[Path]) -> Loop:
    """Run the script on the photos in a new process."""
    finished = bench.run_script(script, *arguments, *photos)
    said = last_json(finished)
    return Loop(
        per_second=len(photos) / said["seconds"],
        indices=tuple(said["indices"]),
        threads=said["threads"],
        peak_mb=finished.peak_mb,
    )


def same_labels(ours: Loop, theirs: Loop) -> str:
    """How many labels agree: "199 of 200"."""
    pairs = zip(ours.indices, theirs.indices, strict=True)
    return f"{sum(a == b for a, b in pairs)} of {len(ours.indices)}"
