"""Materials: a bench in; the environments, checkpoints and programs that are measured out.

Each is made once for a run; in a kept folder, the installed toplabel is made anew.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from benchmarks.bench import RIVALS, ROOT, Bench
from benchmarks.measure import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A fresh environment with the base install.

    Args:
        python: Its interpreter.
        command: Its `toplabel`.
        program: The built-in ONNX program within.
        labels: A text file with a class name on each line.
    """

    python: Path
    command: Path
    program: Path
    labels: Path


@lru_cache(maxsize=1)
def base_install(bench: Bench) -> Installed:
    """What `pip install .` gives in a fresh environment, without torch."""
    environment = bench.folder / "base"
    python = environment / "bin" / "python"
    options = ["--force-reinstall", "--no-deps"] if python.exists() else []
    if not python.exists():
        run([sys.executable, "-m", "venv", environment])
    run([python, "-m", "pip", "install", "-q", *options, ROOT], environment=bench.environment())
    where = run(
        [python, "-c", "import toplabel; print(toplabel.__path__[0])"],
        environment=bench.environment(),
    ).output.strip()
    built_in = Path(where) / "data" / "efficientnet_lite0"
    manifest = json.loads((built_in / "manifest.json").read_text(encoding="utf-8"))
    labels = bench.folder / "labels.txt"
    labels.write_text("\n".join(manifest["labels"]["names"]) + "\n", encoding="utf-8")
    return Installed(
        python=python,
        command=environment / "bin" / "toplabel",
        program=built_in / "program.onnx",
        labels=labels,
    )


@lru_cache(maxsize=1)
def checkpoints(bench: Bench) -> Path:
    """A folder with lite0.pth, resnet18.pth, resnet50.pth and lite0-hf, for the rivals."""
    folder = bench.folder / "checkpoints"
    if not (folder / "lite0-hf" / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        bench.run_script(RIVALS / "prepare.py", folder)
    return folder
