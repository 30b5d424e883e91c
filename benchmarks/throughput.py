"""Throughput: many photos in one process, against the machine's limit and against the rivals."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import RIVALS, SUBJECTS, Bench
from benchmarks.loop import Loop, run_loop, same_labels
from benchmarks.machine import cores
from benchmarks.materials import checkpoints
from benchmarks.measure import interleave, spread
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section, Table

OURS, TEXTBOOK, EXPERT = "toplabel stream", "textbook loop", "expert's loop"
HF_DEFAULT, HF_BATCHED = "Hugging Face pipeline, default", "the same, batch 32, 2 workers"


def measure_limit(bench: Bench) -> Section:
    """The 200 photos through `stream` against what the cores could do at most."""
    photos = find_photos(bench).small
    ours = partial(_ours, bench, "lite0", photos)
    stages = partial(bench.ask_script, SUBJECTS / "stages.py", "guarded", *photos)
    alternatives: dict[str, Any] = {"stages": stages, OURS: ours}
    runs = interleave(alternatives, repeats=bench.repeats(7), warm_up=False)
    limits = [cores() / sum(one.values()) for one in runs["stages"]]
    speeds = [one.per_second for one in runs[OURS]]
    share = median(speeds) / median(limits)
    mean = {stage: median([one[stage] for one in runs["stages"]]) for stage in runs["stages"][0]}
    alone = ", ".join(f"{stage} {1000 * seconds:.2f} ms" for stage, seconds in mean.items())
    return Section(
        title="Many photos, against the limit of the machine",
        rows=(
            Row(what="one thread, one photo at a time, mean of a photo", figure=alone),
            Row(
                what=f"limit: {cores()} cores / their sum",
                figure=spread(limits, "images/s", digits=1),
            ),
            Row(
                what=f"{OURS}, {runs[OURS][0].threads} threads",
                figure=spread(speeds, "images/s", digits=1),
            ),
            Row(
                what="share of the limit",
                figure=f"{100 * share:.0f} %",
                goal=">= 85 %",
                met=share >= 0.85,
            ),
        ),
        notes=(
            "The limit takes the engine at batch 1 on one thread, while the other cores are idle."
            " Cores that are all busy share caches and memory, so 100 % cannot quite be had.",
        ),
        raw={"stages": runs["stages"], OURS: speeds},
    )


def measure_rivals(bench: Bench) -> Section:
    """The same photos and weights through everybody's loop."""
    photos, folder = find_photos(bench).small, checkpoints(bench)
    weights = folder / "lite0.pth"
    loops = {
        OURS: partial(_ours, bench, "lite0", photos),
        TEXTBOOK: partial(_rival, bench, "textbook_loop.py", "lite0", weights, photos=photos),
        HF_DEFAULT: partial(
            _rival, bench, "hf_pipeline.py", "default", folder / "lite0-hf", photos=photos
        ),
        HF_BATCHED: partial(
            _rival, bench, "hf_pipeline.py", "batched", folder / "lite0-hf", photos=photos
        ),
        EXPERT: partial(_rival, bench, "expert_loop.py", "lite0", weights, photos=photos),
    }
    runs = interleave(loops, repeats=bench.repeats(3), warm_up=False)
    return Section(
        title="Many photos, against PyTorch and Hugging Face",
        rows=_comparisons(runs),
        tables=(_details(runs),),
        notes=(
            "All run EfficientNet-Lite0 with the same weights on the same photos. Counted is the"
            " loop alone, after loading and one batch to warm up.",
        ),
        raw={name: [one.per_second for one in repeats] for name, repeats in runs.items()},
    )


def measure_networks(bench: Bench) -> Section:
    """Larger networks with random weights, compiled from a live module by `toplabel.wrap`."""
    photos, weights = find_photos(bench).small[:32], checkpoints(bench) / "lite0.pth"
    rows, raw = [], {}
    for network in ("resnet50", "convnext_tiny", "vit_b_16"):
        runs = interleave(
            {
                OURS: partial(_ours, bench, network, photos, weights=weights),
                TEXTBOOK: partial(
                    _rival, bench, "textbook_loop.py", network, weights, photos=photos
                ),
                EXPERT: partial(_rival, bench, "expert_loop.py", network, weights, photos=photos),
            },
            repeats=bench.repeats(3),
            warm_up=False,
        )
        speeds = {name: [one.per_second for one in repeats] for name, repeats in runs.items()}
        mine = median(speeds[OURS])
        rows += [
            Row(
                what=f"{network}: {name}",
                figure=spread(values, "images/s", digits=1)
                + ("" if name == OURS else f"; toplabel {mine / median(values):.1f} x"),
            )
            for name, values in speeds.items()
        ]
        raw[network] = speeds
    return Section(
        title="Larger networks",
        rows=tuple(rows),
        notes=(
            f"Random weights, {len(photos)} photos, the tutorials' preprocessing (256, crop 224)."
            " The more arithmetic a network needs, the less is left to win: all sides then"
            " run at the speed of matrix products.",
        ),
        raw=raw,
    )


def _ours(
    bench: Bench, network: str, photos: tuple[Path, ...], *, weights: Path = Path("-")
) -> Loop:
    return run_loop(bench, SUBJECTS / "stream.py", network, weights, "guarded", photos=photos)


def _rival(bench: Bench, script: str, *arguments: str | Path, photos: tuple[Path, ...]) -> Loop:
    return run_loop(bench, RIVALS / script, *arguments, photos=photos)


def _comparisons(runs: dict[str, list[Loop]]) -> tuple[Row, ...]:
    speed = {name: median([one.per_second for one in repeats]) for name, repeats in runs.items()}
    better = max((HF_DEFAULT, HF_BATCHED), key=speed.__getitem__)
    rows = []
    for rival, goal in ((TEXTBOOK, 5.0), (better, 5.0), (EXPERT, 3.0)):
        faster = speed[OURS] / speed[rival]
        rows.append(
            Row(
                what=f"toplabel against {rival}",
                figure=f"{speed[OURS]:.1f} / {speed[rival]:.1f} images/s = {faster:.1f} x",
                goal=f">= {goal:.0f} x",
                met=faster >= goal,
            )
        )
    return tuple(rows)


def _details(runs: dict[str, list[Loop]]) -> Table:
    return Table(
        title="Each",
        header=("what", "images/s", "threads", "peak MB", "labels equal to toplabel's"),
        rows=tuple(
            (
                name,
                spread([one.per_second for one in repeats], "", digits=1),
                str(repeats[0].threads),
                f"{median([one.peak_mb for one in repeats]):.0f}",
                same_labels(runs[OURS][0], repeats[0]),
            )
            for name, repeats in runs.items()
        ),
    )
