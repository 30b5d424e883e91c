"""Soak: a real server under good, bad, slow, dropped and fuzzed requests for a long time.

    python scripts/soak.py --minutes 30 --fuzz 100000 [--hostile FOLDER] [--leak-kb 50]

The server is a process of its own on a real socket, with its usual limits. At the same time come
- a steady client, one good request after another with pauses, whose answers are timed,
- a health check, four times a second, timed too,
- --clients others: good requests in each of the server's forms; cut, random and hostile images
  (those of --hostile, and drawn ones), wrong JSON, bodies beyond the limit; clients that leave in
  the middle, reset, close their half, never read, or send a byte now and then,
- --fuzz requests of scripts/fuzz_requests.py, spread over the time; --seed N repeats them.
Ctrl-C ends it earlier, with what was found until then.

It fails, and says by which of these rules, where
- wrong: a good request has no 200 or another label than the library gives for that image; a bad
  one has neither a 4xx nor, where that is right, a 200; a fuzzed one a 5xx that is neither 501, 503
  nor 505, or no end within a minute; the server wrote of an unexpected error,
- memory: resident memory, of all its processes, is not flat. The first third is warm-up. Of twelve
  equal spans of the rest the lowest sample is taken, and the slope is the median of the slopes
  between any two of these: more than --allow-mb over the rest is growth,
- descriptors, threads: more of them than when the server was last idle, before all this,
- health, steady: the 99th percentile of either takes longer than --health-ms, --steady-ms,
- end: it does not end with status 0 when told to.

--leak-kb plants a leak of so much for each image into the server that is started here: then it must
fail by the rule on memory, or it would find no leak.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak_clients import (
    MAX_BODY,
    SECONDS,
    Client,
    Material,
    Seen,
    Wrong,
    bad_random,
    drawn_bombs,
    fuzzing,
    good_form,
    good_raw,
    mixed,
    photos,
)

ROOT = Path(__file__).parents[1]
HOSTILE = ROOT.parent / "shared" / "data" / "hostile"
LEFT = {"descriptors": 8, "threads": 8}
"""So many more are no leak: decoders and the event loop's threads are started when needed."""
WARM_UP, SPANS = 1 / 3, 12
LEAK = """
from toplabel.serve import models
kept = []
answer = models.ServedModel.answer
def leaking(self, content, **wanted):
    kept.append(b"x" * {size})
    return answer(self, content, **wanted)
models.ServedModel.answer = leaking
from toplabel.cli import main
main()
"""


def expected_labels() -> tuple[str, ...]:
    """What the library says of each photo."""
    import toplabel

    predictor = toplabel.load()
    labels = [predictor(photo).label for photo in photos()]
    assert all(labels)
    return tuple(map(str, labels))


@contextmanager
def started(leak_kb: int, lines: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that is ready, and its port; what it says comes to `lines`."""
    how = ["-c", LEAK.format(size=leak_kb * 1024)] if leak_kb else ["-m", "toplabel"]
    command = [sys.executable, *how, "serve", "--port", "0", "--no-access-log"]
    # a session of its own: Ctrl-C is for the soak, which ends it in order
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"ready at http://\S+:(\d+)", line):
                reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
                reader.start()
                yield process, int(found[1])
                return
            lines.append(line)
        raise SystemExit("the server did not start:\n" + "".join(lines))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            found += [one for child in children.split() for one in family(int(child))]
    return found


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all below it."""
    total = 0
    for one in family(pid):
        with suppress(OSError, TypeError):  # it has ended meanwhile
            status = Path(f"/proc/{one}/status").read_text(encoding="ascii")
            total += int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
    return total * 1024 / 1e6


def held(pid: int) -> dict[str, int]:
    """How many descriptors and threads a process has."""
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def left_over(pid: int, before: dict[str, int]) -> dict[str, int]:
    """How many more it has than before, once it has had time to end what has ended."""
    until = time.monotonic() + 90  # above the time that a connection is kept
    while True:
        left = {name: count - before[name] for name, count in held(pid).items()}
        if all(left[name] <= LEFT[name] for name in left) or time.monotonic() > until:
            return left
        time.sleep(0.2)


def lowest_of_spans(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The time and the memory of the lowest sample of each span after the warm-up."""
    first, last = samples[0][0], samples[-1][0]
    begin = first + WARM_UP * (last - first)
    length = (last - begin) / SPANS
    lowest = []
    for span in range(SPANS):
        start = begin + span * length
        inside = [one for one in samples if start <= one[0] <= start + length]
        lowest += [min(inside, key=lambda one: one[1])] if inside else []
    return lowest


def growth_mb(samples: Sequence[tuple[float, float]]) -> float:
    """How much memory grows after the warm-up, by its slope.

    Args:
        samples: Time and memory, in the order of time.
    """
    lowest = lowest_of_spans(samples)
    slopes = [
        (mb - earlier_mb) / (at - earlier)
        for (earlier, earlier_mb), (at, mb) in itertools.combinations(lowest, 2)
        if at > earlier
    ]
    length = (1 - WARM_UP) * (samples[-1][0] - samples[0][0])
    return statistics.median(slopes) * length if slopes else 0.0


def repeat(act: Callable[[], object], pause: float, stop: Any, milliseconds: list[float]) -> None:
    """Do it with pauses, and time it, until it is stopped."""
    while not stop.is_set():
        began = time.monotonic()
        act()
        milliseconds.append(1000 * (time.monotonic() - began))
        stop.wait(pause)


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """50th, 99th and the most."""
    ordered = sorted(milliseconds) or [0.0]
    at = {"p50": 0.5, "p99": 0.99, "most": 1.0}
    return {name: round(ordered[int(part * (len(ordered) - 1))], 1) for name, part in at.items()}


@dataclass
class Watched:
    """What was seen of a server from its first request to its last."""

    counts: Counter[str]
    wrong: list[str]
    samples: list[tuple[float, float]]
    health: list[float]
    steady: list[float]
    left: dict[str, int]
    status: int | None = None


def _is_live(client: Client) -> None:
    status, _ = client.ask("/health/live", None, "", "GET")
    client.leave()  # each on a connection of its own, as such checks are
    if status != 200:
        raise Wrong(f"health got {status}")


def watch(process: subprocess.Popen[str], material: Material, asked: argparse.Namespace) -> Watched:
    """Let all clients go on for the time, and until all fuzzed requests are sent."""
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    seen, watched = Seen(), Watched(Counter(), [], [], [], [], {})
    client, checker = (Client(material, random.Random(name)) for name in ("steady", "health"))
    for act in (good_raw, bad_random, good_form):  # what is made once is there
        seen.note("first", lambda act=act: act(client))  # type: ignore[misc]
    client.leave()
    before = held(process.pid)
    seconds = 60 * asked.minutes
    load = context.Process(target=mixed, args=(material, asked.seed, asked.clients, stop, results))
    fuzz_arguments = (material, asked.seed, asked.fuzz, seconds, stop, results)
    fuzzer = context.Process(target=fuzzing, args=fuzz_arguments)
    one_good = lambda: seen.note("steady", lambda: good_raw(client))  # noqa: E731
    one_check = lambda: seen.note("health", lambda: _is_live(checker))  # noqa: E731
    timed = [
        threading.Thread(target=repeat, args=(one_good, 0.2, stop, watched.steady)),
        threading.Thread(target=repeat, args=(one_check, 0.25, stop, watched.health)),
    ]
    for one in (load, fuzzer, *timed):
        one.start()
    began = time.monotonic()
    with suppress(KeyboardInterrupt):
        while time.monotonic() < began + seconds or (fuzzer.is_alive() and results.empty()):
            watched.samples.append((time.monotonic() - began, resident_mb(process.pid)))
            time.sleep(0.5)
            if process.poll() is not None:
                break
    stop.set()
    for counts, wrong in (results.get(timeout=3 * SECONDS) for _ in range(2)):
        watched.counts += counts
        watched.wrong += wrong
    for one in (load, fuzzer, *timed):
        one.join()
    client.leave()
    watched.counts += seen.counts
    watched.wrong += seen.wrong
    if process.poll() is None:
        watched.left = left_over(process.pid, before)
    return watched


def verdict(watched: Watched, lines: Sequence[str], asked: argparse.Namespace) -> dict[str, Any]:
    """What was found, and which rules were broken."""
    wrong = watched.wrong + [line for line in lines if "unexpected error" in line]
    growth = growth_mb(watched.samples)
    health, steady = percentiles(watched.health), percentiles(watched.steady)
    broken = {
        "wrong": bool(wrong),
        "memory": growth > asked.allow_mb,
        **{name: count > LEFT[name] for name, count in watched.left.items()},
        "health": health["p99"] > asked.health_ms,
        "steady": steady["p99"] > asked.steady_ms,
        "end": watched.status != 0,
    }
    memory = [mb for _, mb in watched.samples]
    by_kind: dict[str, list[str]] = {}
    for one in wrong:
        by_kind.setdefault(one.partition(":")[0], []).append(one)
    return {
        "failed": [rule for rule, is_broken in broken.items() if is_broken],
        "minutes": round(watched.samples[-1][0] / 60, 2),
        "requests": dict(sorted(watched.counts.items())),
        "memory_mb": {
            "first": round(memory[0], 1),
            "median": round(statistics.median(memory), 1),
            "most": round(max(memory), 1),
            "growth_after_warm_up": round(growth, 2),
            "lowest_of_spans": [round(mb, 1) for _, mb in lowest_of_spans(watched.samples)],
        },
        "left": watched.left,
        "health_ms": health,
        "steady_ms": steady,
        "wrong": {name: len(every) for name, every in by_kind.items()},
        "first_wrong": [one for every in by_kind.values() for one in every[:3]],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--fuzz", type=int, default=100_000, metavar="N")
    parser.add_argument("--clients", type=int, default=12, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--hostile", type=Path, default=HOSTILE, metavar="FOLDER")
    parser.add_argument("--allow-mb", type=float, default=20.0)
    parser.add_argument("--health-ms", type=float, default=1000.0)
    parser.add_argument("--steady-ms", type=float, default=5000.0)
    parser.add_argument("--leak-kb", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """The exit status: 0 where no rule is broken."""
    asked = _arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    files = sorted(path for path in asked.hostile.rglob("*") if path.is_file())
    hostile = [path.read_bytes() for path in files if path.stat().st_size < MAX_BODY]
    lines: list[str] = []
    labels = expected_labels()
    with started(asked.leak_kb, lines) as (process, port):
        material = Material(port, labels, (*drawn_bombs(), *filter(None, hostile)))
        watched = watch(process, material, asked)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            watched.status = process.wait(120)
    said = verdict(watched, lines, asked)
    print(json.dumps(said, indent=1))
    return 1 if said["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
