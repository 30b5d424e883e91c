"""Precision: labels by eager PyTorch in bfloat16 and float16 against float32, on the CPU."""

from __future__ import annotations

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section


def measure(bench: Bench) -> Section:
    """How many labels lower precision changes."""
    photos = find_photos(bench).small[: 20 if bench.quick else None]
    indices = bench.ask_script(SUBJECTS / "precision.py", *photos)
    full = indices["float32"]

    def agreeing(name: str) -> str:
        equal = sum(a == b for a, b in zip(full, indices[name], strict=True))
        return f"{equal} of {len(full)}"

    return Section(
        title="Lower precision in PyTorch",
        rows=tuple(
            Row(what=f"labels equal to float32's, {name}", figure=agreeing(name))
            for name in indices
            if name != "float32"
        ),
        notes=(
            "EfficientNet-Lite0 through `--engine torch --dtype ...` on a CPU, by autocast. On a"
            " GPU it has not been run.",
        ),
        raw=indices,
    )
