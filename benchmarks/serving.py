"""Serving: the same network behind HTTP, against LitServe and against what tutorials write."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bench import SUBJECTS, Bench
from benchmarks.fast import many
from benchmarks.loop import run_loop
from benchmarks.materials import checkpoints
from benchmarks.measure import interleave, spread
from benchmarks.photos import find_photos
from benchmarks.results import Row, Section, Table
from benchmarks.served import (
    CONCURRENCY,
    Answers,
    Subject,
    fastapi,
    litserve,
    load,
    make_reduced,
    ours,
    started,
)

OURS, FAST = "toplabel serve", "toplabel serve --fast"
LITSERVE, TUTORIAL = "LitServe, batching on", "FastAPI, eager PyTorch"
STREAM = "stream in a process"
SECONDS = 6.0


def measure_rate(bench: Bench) -> Section:
    """Requests per second at a concurrency of 16, interleaved with `stream` in a process."""
    photos, weights = find_photos(bench).small, checkpoints(bench) / "lite0.pth"
    seconds = 2.0 if bench.quick else SECONDS

    def rate(subject: Callable[[], Subject]) -> Answers:
        with started(subject(), photos[0]) as server:
            load(server.subject, 1.0, "closed", CONCURRENCY, photos)
            return load(server.subject, seconds, "closed", CONCURRENCY, photos)

    def stream() -> float:
        script = SUBJECTS / "stream.py"
        return run_loop(bench, script, "lite0", Path("-"), "guarded", photos=photos).per_second

    make_reduced(bench, many(photos))
    subjects: dict[str, Callable[[], Answers | float]] = {
        STREAM: stream,
        OURS: partial(rate, partial(ours, bench)),
        FAST: partial(rate, partial(ours, bench, "--fast")),
        LITSERVE: partial(rate, partial(litserve, bench, weights)),
        TUTORIAL: partial(rate, partial(fastapi, bench, weights)),
    }
    runs = interleave(subjects, repeats=bench.repeats(5), warm_up=False)
    answers = {name: [one for one in got if isinstance(one, Answers)] for name, got in runs.items()}
    speeds = {
        name: [one.per_second if isinstance(one, Answers) else one for one in got]
        for name, got in runs.items()
    }
    share = median([a / b for a, b in zip(speeds[OURS], speeds[STREAM], strict=True)])
    rows = [
        Row(
            what=f"{mine} against {rival}",
            figure=f"{median(speeds[mine]):.1f} / {median(speeds[rival]):.1f} requests/s"
            f" = {median(speeds[mine]) / median(speeds[rival]):.1f} x",
            goal=f">= {goal} x",
            met=median(speeds[mine]) >= goal * median(speeds[rival]),
        )
        for mine, goal in ((OURS, 4), (FAST, 5))
        for rival in (LITSERVE, TUTORIAL)
    ]
    rows.append(
        Row(
            what="share of what `stream` does in a process, median of the rounds",
            figure=f"{100 * share:.0f} %",
            goal=">= 75 %",
            met=share >= 0.75,
        )
    )
    return Section(
        title=f"Serving, {CONCURRENCY} clients at a time",
        rows=tuple(rows),
        tables=(_table(speeds, answers),),
        notes=(
            "Closed loop, real photos, kept connections; the load generator shares the cores with"
            " the server, and takes 0.3 ms a request. All servers run EfficientNet-Lite0 with the"
            " same weights, on the CPU; LitServe with batches of 8 and one worker, as its"
            " documentation has it.",
        ),
        raw=dict(speeds),
    )


def _table(speeds: dict[str, list[float]], answers: dict[str, list[Answers]]) -> Table:
    labels = {name: _indices(got[-1]) for name, got in answers.items() if got}
    rows = []
    for name, values in speeds.items():
        got = answers[name]
        times = [
            f"{1000 * median([one.quantile(share) for one in got]):.0f}" if got else ""
            for share in (0.5, 0.99)
        ]
        agree = ""
        if got:
            both = labels[name].keys() & labels[OURS].keys()
            same = sum(labels[name][place] == labels[OURS][place] for place in both)
            agree = f"{same} of {len(both)}"
        rows.append((name, spread(values, "", digits=1), *times, agree))
    return Table(
        title="Each",
        header=("what", "images/s", "p50 ms", "p99 ms", "labels equal to toplabel's"),
        rows=tuple(rows),
    )


def _indices(answers: Answers) -> dict[int, int]:
    """The class of each photo."""
    found = {}
    for place, body in answers.bodies.items():
        said = json.loads(body)
        found[place] = said["predictions"][0]["index"] if "predictions" in said else said["index"]
    return found


def measure_latency(bench: Bench) -> Section:
    """Latencies at half of the greatest rate, sent at fixed times; start and memory."""
    photos = find_photos(bench).small
    seconds = 3.0 if bench.quick else 10.0
    starts, single, busy, idle, peak, rates = [], [], [], [], [], []
    for number in range(bench.repeats(5)):
        with started(ours(bench), photos[0]) as server:
            if number:  # the second start and later: the optimised copy is there
                starts.append(server.ready_seconds)
            idle.append(server.memory_mb())
            load(server.subject, 1.0, "closed", CONCURRENCY, photos)
            alone = load(server.subject, seconds / 2, "closed", 1, photos)
            full = load(server.subject, seconds / 2, "closed", CONCURRENCY, photos)
            half = load(server.subject, seconds, "open", full.per_second / 2, photos)
            rates.append(full.per_second)
            single.append(alone.quantile(0.5))
            busy.append(half.quantile(0.99))
            peak.append(server.memory_mb(peak=True))
    ratio = median([late / usual for late, usual in zip(busy, single, strict=True)])
    return Section(
        title="Serving: latency, start and memory",
        rows=(
            Row(what="one request at a time, median", figure=_ms(single)),
            Row(
                what="p99 at half of the greatest rate, sent at fixed times",
                figure=f"{_ms(busy)} = {ratio:.1f} x one request",
                goal="< 3 x",
                met=ratio < 3,
            ),
            Row(
                what="from the command to ready, second start",
                figure=spread(starts, "s"),
                goal="< 1.5 s",
                met=median(starts) < 1.5,
            ),
            Row(
                what="resident memory, idle",
                figure=spread(idle, "MB", digits=0),
                goal="< 200 MB",
                met=max(idle) < 200,
            ),
            Row(
                what=f"its peak under load, {CONCURRENCY} clients",
                figure=spread(peak, "MB", digits=0),
                goal="< 400 MB",
                met=max(peak) < 400,
            ),
        ),
        raw={"starts": starts, "single": single, "p99": busy, "idle": idle, "peak": peak},
    )


def measure_overload(bench: Bench) -> Section:
    """Ten times what it can do, for a minute."""
    photos = find_photos(bench).small
    seconds = 5.0 if bench.quick else 60.0
    with started(ours(bench), photos[0]) as server:
        usual = load(server.subject, 4.0, "closed", 2, photos)
        full = load(server.subject, 4.0, "closed", CONCURRENCY, photos)
        warm = server.memory_mb()
        flood = load(server.subject, seconds, "open", 10 * full.per_second, photos)
        grown = server.memory_mb(peak=True)
        after = load(server.subject, 5.0, "closed", 2, photos)
        later = load(server.subject, 4.0, "closed", 2, photos)
    fine = set(flood.statuses) <= {"200", "503"}
    slowest = max([*flood.latencies, *flood.refusals])
    back = later.quantile(0.5) / usual.quantile(0.5)
    return Section(
        title=f"Serving: ten times too much, for {seconds:.0f} s",
        rows=(
            Row(
                what=f"answers to {10 * full.per_second:.0f} requests/s, by status",
                figure=", ".join(f"{k}: {v:,}" for k, v in flood.statuses.items())
                + f"; {flood.unsent:,} more than the client could send",
                goal="200 or 503",
                met=fine,
            ),
            Row(
                what="slowest answer",
                figure=f"{slowest:.2f} s",
                goal="< 60 s, its deadline",
                met=slowest < 60,
            ),
            Row(what="refusals, p50 and p99, as the client sees them", figure=_refusals(flood)),
            Row(
                what="memory before, and its peak",
                figure=f"{warm:.0f} MB, {grown:.0f} MB",
                goal="< 400 MB",
                met=grown < 400,
            ),
            Row(
                what="latency from 5 s after on, against before",
                figure=f"{back:.2f} x (within the 5 s {after.quantile(0.5):.3f} s)",
                goal="normal",
                met=back < 1.5,
            ),
        ),
        notes=(
            "The load generator shares two cores with the server; at this rate its own waiting is"
            " part of the times.",
        ),
        raw={"statuses": flood.statuses, "slowest": slowest, "back": back},
    )


def _refusals(answers: Answers) -> str:
    if not answers.refusals:
        return "none"
    last = len(answers.refusals) - 1
    p50, p99 = (1000 * answers.refusals[int(share * last)] for share in (0.5, 0.99))
    return f"{p50:.0f} ms, {p99:.0f} ms"


def _ms(seconds: list[float]) -> str:
    return spread([1000 * one for one in seconds], "ms", digits=1)
