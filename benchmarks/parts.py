"""Parts: what a run costs beside labelling, by the part; what docs/scaling.md reckons with."""

from __future__ import annotations

import shutil

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.results import Row, Section


def measure(bench: Bench) -> Section:
    """Steps of the process that writes, for a part of 10,240 records."""
    folder = bench.folder / "parts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    said = bench.ask_script(SUBJECTS / "parts.py", folder)
    rows = [
        Row(what=f"{step}, 10,240 records", figure=f"{1000 * seconds:.0f} ms")
        for step, seconds in said["steps"].items()
    ]
    rows += [
        Row(
            what="a part, Parquet, top 5 of 1,000 classes",
            figure=f"{said['part bytes']:,.0f} bytes",
        ),
        Row(what="its mark", figure=f"{said['mark bytes']:,.0f} bytes"),
        Row(
            what="the manifest, for an input",
            figure=f"{said['manifest bytes of an input']:.0f} bytes",
        ),
        Row(
            what="names of a new listing compared with the known ones",
            figure=f"{said['names compared in a second']:,.0f} a second",
        ),
    ]
    return Section(title="What a part costs", rows=tuple(rows), raw=said)
