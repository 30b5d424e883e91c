"""A million inputs, and ten million names: memory, resuming, listing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.bench import SUBJECTS, Bench, last_json
from benchmarks.results import Row, Section, Table

WARM = 50_000


def measure(bench: Bench) -> Section:
    """A stub engine and tiny images: what the run itself needs."""
    count = 20_000 if bench.quick else 1_000_000
    folder, output = bench.folder / "million", bench.folder / "million-out"
    _draw(bench, folder, count, 1000)
    first = bench.ask_script(SUBJECTS / "million.py", folder, output)
    again = bench.run_script(SUBJECTS / "million.py", folder, output)
    warm = min(WARM, count // 2)
    before = next(mb for done, mb in first["samples"] if done >= warm)
    growth = max(mb for done, mb in first["samples"] if done >= warm) - before
    return Section(
        title=f"A run over {count:,} inputs",
        rows=(
            Row(
                what="a stub engine, tiny images, Parquet parts",
                figure=f"{count / first['seconds']:,.0f} inputs/s",
            ),
            Row(what=f"resident after {warm:,} inputs", figure=f"{before:.0f} MB"),
            Row(
                what="largest growth after that",
                figure=f"{growth:.1f} MB",
                goal="< 100 MB",
                met=growth < 100,
            ),
            Row(
                what="the same again, finished: whole process",
                figure=f"{again.seconds:.1f} s, {last_json(again)['peak_mb']:.0f} MB",
                goal="< 5 s",
                met=again.seconds < 5,
            ),
        ),
        raw=first,
    )


def measure_listing(bench: Bench) -> Section:
    """Names alone: in folders of a thousand, and all in one folder."""
    count = 50_000 if bench.quick else 10_000_000
    rows, table, raw = [], [], {}
    for name, in_each in (("folders of 1,000", 1000), ("one folder", count)):
        folder = bench.folder / f"names-{in_each}"
        _draw(bench, folder, count, in_each)
        target = bench.folder / "listing"
        said: dict[str, Any] = bench.ask_script(SUBJECTS / "listing.py", folder, target)
        shutil.rmtree(folder)
        target.unlink()
        raw[name] = said
        rows.append(
            Row(
                what=f"{count:,} names in {name}: peak memory",
                figure=f"{said['peak_mb']:.0f} MB",
                goal="< 1,000 MB",
                met=said["peak_mb"] < 1000,
            )
        )
        table.append((name, f"{said['seconds']:.0f} s", f"{count / said['seconds']:,.0f}"))
    return Section(
        title="Listing",
        rows=tuple(rows),
        tables=(Table(title="Time", header=("names in", "took", "names/s"), rows=tuple(table)),),
        raw=raw,
    )


def _draw(bench: Bench, folder: Path, count: int, in_each: int) -> None:
    if not folder.is_dir():
        bench.run_script(SUBJECTS / "draw_many.py", folder, str(count), str(in_each))
