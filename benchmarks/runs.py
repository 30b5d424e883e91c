"""Runs: 2,000 photos by the whole command, against timm's loop, Ray Data's, and `stream`."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import RIVALS, ROOT, SUBJECTS, Bench
from benchmarks.materials import checkpoints
from benchmarks.measure import Run, interleave, run, spread
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section

TIMES = 10
OURS, FAST = "toplabel -o", "toplabel -o --fast"
TIMM, RAY = "timm's loop", "Ray Data's map_batches"


def measure(bench: Bench) -> Section:
    """The whole command, process and all, against the others' whole process."""
    folder, count = many_photos(bench)
    weights = checkpoints(bench) / "lite0.pth"
    alternatives = {
        FAST: partial(_ours, bench, folder, "--fast"),
        OURS: partial(_ours, bench, folder),
        TIMM: partial(_rival, bench, "timm_inference.py", weights, folder, "timm.csv"),
        RAY: partial(_rival, bench, "ray_map_batches.py", weights, folder, "ray-csv"),
    }
    runs = interleave(alternatives, repeats=bench.repeats(1), warm_up=False)
    seconds = {name: [one.seconds for one in repeats] for name, repeats in runs.items()}
    rows = [
        Row(
            what=f"{name}: {count:,} photos, whole process",
            figure=f"{spread(seconds[name], 's', digits=1)} = {count / median(seconds[name]):.1f}"
            f" images/s, {median([one.peak_mb for one in runs[name]]):.0f} MB",
        )
        for name in alternatives
    ]
    for ours, rival in ((OURS, TIMM), (FAST, TIMM), (OURS, RAY), (FAST, RAY)):
        times = median(seconds[rival]) / median(seconds[ours])
        rows.append(
            Row(
                what=f"{ours} against {rival}",
                figure=f"{times:.1f} x as fast",
                goal=">= 5 x",
                met=times >= 5,
            )
        )
    return Section(
        title="A run over many photos",
        rows=tuple(rows),
        notes=(
            "The 200 photos ten times over, in one folder; EfficientNet-Lite0 with the same"
            " weights. timm: its dataset and loader with 2 workers, batch 32, channels_last. Ray:"
            " read_images, map and map_batches with an actor each on a local Ray of two"
            " processors; its start and end count, as all of everybody's process does. Megabytes"
            " are those of the largest process, not their sum.",
        ),
        raw=seconds,
    )


def measure_overhead(bench: Bench) -> Section:
    """What listing, a worker process, parts and marks cost beyond `stream`."""
    folder, count = many_photos(bench)
    alternatives = {how: partial(_seconds, bench, how, folder) for how in ("stream", "run")}
    runs = interleave(alternatives, repeats=bench.repeats(3), warm_up=False)
    over = 100 * (median(runs["run"]) / median(runs["stream"]) - 1)
    pairs = [100 * (r / s - 1) for r, s in zip(runs["run"], runs["stream"], strict=True)]
    return Section(
        title="What a run costs beyond stream",
        rows=(
            *(
                Row(what=f"{name}, {count:,} photos", figure=spread(values, "s"))
                for name, values in runs.items()
            ),
            Row(
                what="overhead of run",
                figure=f"{over:.1f} % (pair by pair {min(pairs):.1f} to {max(pairs):.1f} %)",
                goal="< 5 %",
                met=over < 5,
            ),
        ),
        notes=(
            "Both in a process that has loaded the model and labelled one image. `stream` writes a"
            " line of JSON for each; `run` lists, starts its worker, writes and fsyncs parts, and"
            " joins them.",
        ),
        raw=runs,
    )


def many_photos(bench: Bench, *, times: int = TIMES) -> tuple[Path, int]:
    """A folder with the photos several times over, and how many that is.

    Their names begin with their class's synset, as those of the real ones do.
    """
    photos = find_photos(bench).small
    times = 2 if bench.quick else times
    folder = bench.folder / f"many-{times}"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for time in range(times):
            for photo in photos:
                shutil.copyfile(photo, folder / f"{photo.stem}-{time:02d}{photo.suffix}")
    return folder, times * len(photos)


def toplabel(bench: Bench, *arguments: object) -> Run:
    """The command, as a process of its own."""
    environment = {**bench.environment(), "PYTHONPATH": str(ROOT / "src")}
    return run([sys.executable, "-m", "toplabel", *arguments], environment=environment)


def _ours(bench: Bench, folder: Path, *options: str) -> Run:
    output = bench.folder / "run.csv"
    return toplabel(bench, folder, "-o", output, "--restart", "-q", *options)


def _rival(bench: Bench, script: str, weights: Path, folder: Path, output: str) -> Run:
    target = bench.folder / output
    if target.is_dir():
        shutil.rmtree(target)
    return bench.run_script(RIVALS / script, weights, folder, target)


def _seconds(bench: Bench, how: str, folder: Path) -> float:
    output = bench.folder / f"{how}.jsonl"
    shutil.rmtree(bench.folder / f".{output.name}.run", ignore_errors=True)
    output.unlink(missing_ok=True)
    said: dict[str, Any] = bench.ask_script(SUBJECTS / "run_or_stream.py", how, folder, output)
    return float(said["seconds"])
