"""Machine: nothing in, a description of processor, memory and library versions out."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "onnxruntime",
    "numpy",
    "Pillow",
    "simplejpeg",
    "torch",
    "torchvision",
    "timm",
    "transformers",
)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def describe() -> dict[str, str]:
    """What a reader needs to place the figures, as text by heading."""
    return {
        "processor": _processor(),
        "cores": str(cores()),
        "memory": f"{_memory_bytes() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
    }


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time: seconds on the clock, of all processors' work, and of that our own."""

    clock: float
    all_work: float
    own_work: float


def now() -> Moment:
    """This moment; our own work is that of this process and of children that have ended."""
    line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    user, nice, system, _idle, _waiting, irq, softirq, *_ = map(int, line.split()[1:])
    work = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return Moment(time.monotonic(), work, own)


def used_by_others(before: Moment, after: Moment) -> float:
    """How many cores other processes kept busy between two moments: the noise."""
    own = after.own_work - before.own_work
    seconds = max(after.clock - before.clock, 1e-3)
    return max(0.0, (after.all_work - before.all_work - own) / seconds)


def _processor() -> str:
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    lines = (line.partition(":") for line in information.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    flags = fields.get("flags", "").split()
    vectors = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if name in flags]
    family = f"family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"
    return f"{fields.get('model name', 'unknown')} ({family}; {', '.join(vectors)})"


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
