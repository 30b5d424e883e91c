"""Measure and report: python -m benchmarks [NAMES...] [--quick] [--keep FOLDER].

Findings are kept in docs/benchmarks.json, so that one part can be measured anew without losing the
others; docs/benchmarks.md is written from them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    accuracy,
    camera,
    cold_start,
    engines,
    evaluating,
    fast,
    guard,
    install,
    int8,
    kills,
    machine,
    memory,
    million,
    mistakes,
    new_model,
    parts,
    precision,
    runs,
    serving,
    startup,
    throughput,
    training_draws,
)
from benchmarks.bench import ROOT, Bench
from benchmarks.photos import find_photos
from benchmarks.report import render, summary
from benchmarks.results import Section, read_results, to_dict, write_results

PARTS: dict[str, Callable[[Bench], Section]] = {
    "cold_start": cold_start.measure,
    "install": install.measure,
    "startup": startup.measure,
    "limit": throughput.measure_limit,
    "rivals": throughput.measure_rivals,
    "networks": throughput.measure_networks,
    "camera": camera.measure,
    "guard": guard.measure,
    "margin": guard.measure_margin,
    "engines": engines.measure,
    "fast": fast.measure,
    "memory": memory.measure,
    "new_model": new_model.measure,
    "precision": precision.measure,
    "int8": int8.measure,
    "accuracy": accuracy.measure,
    "mistakes": mistakes.measure,
    "runs": runs.measure,
    "runs_overhead": runs.measure_overhead,
    "million": million.measure,
    "listing": million.measure_listing,
    "kills": kills.measure,
    "parts": parts.measure,
    "evaluating": evaluating.measure,
    "training": training_draws.measure,
    "serving": serving.measure_rate,
    "serving_latency": serving.measure_latency,
    "serving_overload": serving.measure_overload,
}
RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """Measure what was asked for, tell it, and write it down unless it was only a quick look."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="toplabel-bench-") as temporary:
        bench = Bench(asked.keep or Path(temporary), quick=asked.quick)
        bench.folder.mkdir(parents=True, exist_ok=True)
        for name in asked.names or PARTS:
            print(f"{name} ...", flush=True)
            found = _measure(name, bench)
            print(summary(found), flush=True)
            if not asked.quick:
                _write(name, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="see that it works; write nothing")
    parser.add_argument("--keep", type=Path, help="a folder to keep and reuse what is prepared")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(PARTS):
        parser.error(f"got {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    return asked


def _measure(name: str, bench: Bench) -> dict[str, Any]:
    before = machine.now()
    section = PARTS[name](bench)
    surroundings = {
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
        "photos": find_photos(bench).origin,
        "used_by_others": round(machine.used_by_others(before, machine.now()), 2),
    }
    found: dict[str, Any] = json.loads(json.dumps(to_dict(section, surroundings=surroundings)))
    return found


def _write(name: str, found: dict[str, Any]) -> None:
    parts = {**read_results(RESULTS), name: found}
    write_results(RESULTS, parts)
    PAGE.write_text(render({part: parts[part] for part in PARTS if part in parts}), "utf-8")


if __name__ == "__main__":
    main()
