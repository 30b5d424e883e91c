"""Serving against an earlier checkout: `python -m benchmarks.serving_against OTHER/src`.

With --fast this one answers in reduced precision; OTHER may be the same one: what that gains.

Both servers run at once, and are asked in turns, so that whatever else the machine does meets
both alike; what counts are the medians of the rounds' ratios. Processor time a request changes
least on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.bench import ROOT, Bench
from benchmarks.fast import many
from benchmarks.photos import find_photos
from benchmarks.served import CONCURRENCY, Running, load, make_reduced, ours, started


def main() -> None:
    """Print both servers' requests/s and p99, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="the folder `src` of an earlier checkout")
    parser.add_argument("photos", type=Path, nargs="*", default=[ROOT / "examples" / "cat.jpg"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=CONCURRENCY)
    parser.add_argument("--fast", action="store_true")
    args = parser.parse_args()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(folder=Path(folder), quick=False)
        if args.fast:
            make_reduced(bench, many(find_photos(bench).small))
        mine = ours(bench, *(["--fast"] if args.fast else []))
        theirs = ours(bench)
        environment = {**theirs.environment, "PYTHONPATH": str(args.other.resolve())}
        theirs = replace(theirs, environment=environment)
        servers = [stack.enter_context(started(one, args.photos[0])) for one in (mine, theirs)]
        _compare(servers, args)


def _compare(servers: list[Running], args: argparse.Namespace) -> None:
    rates: list[float] = []
    tails: list[float] = []
    costs: list[float] = []
    for number in range(-1, args.rounds):
        turns = servers if number % 2 else servers[::-1]
        found, cost = {}, {}
        for one in turns:
            before = _cpu_seconds(one.pid)
            got = load(one.subject, args.seconds, "closed", args.clients, args.photos)
            cost[one.pid] = (_cpu_seconds(one.pid) - before) / len(got.latencies)
            found[one.pid] = got
        new, old = (found[one.pid] for one in servers)
        new_cost, old_cost = (cost[one.pid] for one in servers)
        if number >= 0:  # the first warms up
            rates.append(new.per_second / old.per_second)
            tails.append(new.quantile(0.99) / old.quantile(0.99))
            costs.append(new_cost / old_cost)
        print(
            f"{new.per_second:6.1f} and {old.per_second:6.1f} requests/s,"
            f" p99 {1000 * new.quantile(0.99):.0f} and {1000 * old.quantile(0.99):.0f} ms,"
            f" {1000 * new_cost:.1f} and {1000 * old_cost:.1f} ms of a processor",
            flush=True,
        )
    memory = ", ".join(f"{one.memory_mb(peak=True):.0f} MB" for one in servers)
    print(
        f"requests/s {median(rates):.3f} x, p99 {median(tails):.3f} x,"
        f" processor time a request {median(costs):.3f} x; peaks {memory}"
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
