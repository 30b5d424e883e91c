"""Measure: commands in, seconds and megabytes as seen from outside out; repeats, interleaved.

The process that measures must stay small: Linux counts the memory of the parent at the moment of
starting into the peak of a child, so nothing here imports numpy.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished process.

    Args:
        seconds: Wall-clock time from before its start to after its end.
        cpu_seconds: Processor time of it and the children it waited for.
        peak_mb: Largest resident memory of the process, in units of 10**6 bytes.
        output: What it printed on standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str


def run(command: Sequence[object], *, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end and measure it.

    Raises:
        RuntimeError: It failed; the text is the end of what it said.
    """
    arguments = [str(argument) for argument in command]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        started = time.perf_counter()
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        complaints.seek(0)
        printed = output.read().decode(errors="replace")
        if process.returncode != 0:
            said = (printed + complaints.read().decode(errors="replace"))[-2000:]
            name = " ".join(arguments[:4])
            raise RuntimeError(f"{name} ended with {process.returncode}: {said}")
    return Run(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * 1024 / 1e6,
        output=printed,
    )


def interleave(
    alternatives: Mapping[str, Callable[[], Measured]], *, repeats: int, warm_up: bool = True
) -> dict[str, list[Measured]]:
    """Results by name, each alternative measured in turn: A B C A B C ...

    What disturbs the machine for a while then disturbs all of them.

    Args:
        alternatives: What measures each, by name.
        repeats: How often each is measured.
        warm_up: Whether each is run once before, uncounted, so that files are in memory.
    """
    if warm_up:
        for measure in alternatives.values():
            measure()
    results: dict[str, list[Measured]] = {name: [] for name in alternatives}
    for _ in range(repeats):
        for name, measure in alternatives.items():
            results[name].append(measure())
    return results


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The median of `first` over the median of `second`."""
    return median(first) / median(second)


def spread(values: Sequence[float], unit: str, *, digits: int = 2) -> str:
    """A figure for people: "0.31 s (0.30 to 0.35)"; the median, then smallest and largest."""
    text = f"{median(values):.{digits}f} {unit}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text
