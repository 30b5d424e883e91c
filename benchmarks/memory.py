"""Memory: 20,000 inputs through one `stream`, some of which fail."""

from __future__ import annotations

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section, Table

WARM = 500


def measure(bench: Bench) -> Section:
    """How much the process grows after its first 500 inputs."""
    count = 1000 if bench.quick else 20_000
    said = bench.ask_script(SUBJECTS / "memory.py", str(count), *find_photos(bench).small)
    samples = dict(said["samples"])
    warm = samples[WARM]
    largest = max(resident for number, resident in said["samples"] if number > WARM)
    growth = largest - warm
    shown = [number for number in (250, 500, 1000, 2000, 5000, 10_000, 20_000) if number in samples]
    return Section(
        title=f"Memory over {count:,} inputs",
        rows=(
            Row(what=f"resident after {WARM} inputs", figure=f"{warm:.0f} MB"),
            Row(
                what="largest growth after that",
                figure=f"{growth:.1f} MB",
                goal="< 30 MB",
                met=growth < 30,
            ),
            Row(what="inputs that failed, each with a record", figure=f"{said['failed']:,}"),
        ),
        tables=(
            Table(
                title="Resident memory",
                header=("after", "MB"),
                rows=tuple((f"{number:,}", f"{samples[number]:.0f}") for number in shown),
            ),
        ),
        notes=(
            "The photos over and over; in each round one file that is missing, one that is cut"
            " short, one that is no image and one that is empty.",
        ),
        raw=said,
    )
