"""Bench: where a part is measured: folders, interpreters, environments; scripts run there."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Run, run

ROOT = Path(__file__).parents[1]
RIVALS = ROOT / "benchmarks" / "rivals"
SUBJECTS = ROOT / "benchmarks" / "subjects"


@dataclass(frozen=True, slots=True)
class Bench:
    """A workplace for one run.

    Args:
        folder: Where everything is put that is made for measuring.
        quick: Once instead of several times, on fewer photos: to see that it works.
    """

    folder: Path
    quick: bool = False

    def repeats(self, usual: int) -> int:
        """How often to measure what is usually measured `usual` times."""
        return min(usual, 2) if self.quick else usual

    def environment(self, *, cache: Path | None = None) -> dict[str, str]:
        """Variables for the installed toplabel: no path to the checkout, a cache of our own.

        ONNX Runtime's telemetry is off for everybody, as toplabel has it, which is fair to rivals.
        """
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        kept["ORT_DISABLE_TELEMETRY"] = "1"
        return {**kept, "TOPLABEL_CACHE": str(cache or self.folder / "cache")}

    def run_script(self, script: Path, *arguments: str | Path) -> Run:
        """Run a script with this interpreter and the checkout's toplabel."""
        environment = {**self.environment(), "PYTHONPATH": str(ROOT / "src")}
        return run([sys.executable, script, *arguments], environment=environment)

    def ask_script(self, script: Path, *arguments: str | Path) -> Any:
        """What a script printed as JSON on its last line."""
        return last_json(self.run_script(script, *arguments))


def last_json(finished: Run) -> Any:
    """The JSON on the last line that a process printed."""
    return json.loads(finished.output.strip().splitlines()[-1])
