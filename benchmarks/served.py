"""Served: a server started, put under load, measured from outside and stopped."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import RIVALS, ROOT, SUBJECTS, Bench
from benchmarks.measure import run

LITSERVE = "litserve==0.2.19"
CONCURRENCY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server that is measured.

    Args:
        command: What starts it.
        port: Where it will listen.
        path: Of the endpoint.
        kind: How it takes an image: raw, form or json, as `subjects/load.py` has it.
        environment: Its variables.
    """

    command: tuple[str, ...]
    port: int
    path: str
    kind: str
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers.

    Args:
        subject: What it is.
        pid: Its process.
        ready_seconds: From its command to its first answer to a question whether it is ready.
    """

    subject: Subject
    pid: int
    ready_seconds: float

    def memory_mb(self, *, peak: bool = False) -> float:
        """Resident memory now, or its peak, in 10**6 bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        name = "VmHWM" if peak else "VmRSS"
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a load got. Times in seconds, sorted."""

    per_second: float
    latencies: tuple[float, ...]
    refusals: tuple[float, ...]
    statuses: dict[str, int]
    unsent: int
    bodies: dict[int, str]

    def quantile(self, share: float) -> float:
        """The latency that this share of the answers does not exceed."""
        return self.latencies[int(share * (len(self.latencies) - 1))]


def ours(bench: Bench, *options: str) -> Subject:
    """`toplabel serve`."""
    port = _free_port()
    start = (sys.executable, "-m", "toplabel", "serve", "--port", str(port), "--lame-duck", "0")
    environment = {**bench.environment(), "PYTHONPATH": str(ROOT / "src")}
    return Subject(
        command=(*start, "--no-access-log", *options),
        port=port,
        path="/v1/classify",
        kind="raw",
        environment=environment,
    )


def make_reduced(bench: Bench, photos: Sequence[Path]) -> None:
    """Make the built-in model's reduced program, for `toplabel serve --fast`."""
    images = [argument for photo in photos for argument in ("--images", photo)]
    command = [sys.executable, "-m", "toplabel", "optimize", *images]
    run(command, environment=ours(bench).environment)


def litserve(bench: Bench, weights: Path) -> Subject:
    """LitServe, installed beside this environment and not into it."""
    target = bench.folder / "litserve"
    if not target.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", target]
        # only what is not here already: torch and the rest are this environment's
        run([*pip, "--no-deps", LITSERVE, "pyzmq"], environment=bench.environment())
    return _rival(bench, "litserve_server.py", weights, kind="json", also=target)


def fastapi(bench: Bench, weights: Path) -> Subject:
    """FastAPI and eager PyTorch."""
    return _rival(bench, "fastapi_server.py", weights, kind="form")


def _rival(
    bench: Bench, script: str, weights: Path, *, kind: str, also: Path | None = None
) -> Subject:
    port = _free_port()
    environment = bench.environment()
    if also is not None:
        environment["PYTHONPATH"] = str(also)
    return Subject(
        command=(sys.executable, str(RIVALS / script), str(port), str(weights)),
        port=port,
        path="/predict",
        kind=kind,
        environment=environment,
    )


@contextmanager
def started(subject: Subject, photo: Path) -> Iterator[Running]:
    """The server, from its first good answer on; it and its children are stopped at the end."""
    _adopt_orphans()
    begun = time.perf_counter()
    process = subprocess.Popen(
        subject.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=subject.environment,
        start_new_session=True,
    )
    try:
        while not _answers(subject):
            if process.poll() is not None or time.perf_counter() - begun > 120:
                raise RuntimeError(f"{' '.join(subject.command[:4])} does not answer")
            time.sleep(0.005)
        ready = time.perf_counter() - begun
        for _ in range(100):  # the rivals listen before their model is there
            if load(subject, 0.1, "closed", 1, (photo,)).latencies:
                break
            time.sleep(0.2)
        yield Running(subject=subject, pid=process.pid, ready_seconds=ready)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _bury(process.pid)


def load(
    subject: Subject, seconds: float, how: str, amount: float, photos: Sequence[Path]
) -> Answers:
    """Put a server under load, by a process of its own."""
    command = [sys.executable, SUBJECTS / "load.py", subject.url, subject.kind]
    finished = run([*command, seconds, how, amount, *photos])
    said: dict[str, Any] = json.loads(finished.output.splitlines()[-1])
    return Answers(
        per_second=len(said["latencies"]) / said["seconds"],
        latencies=tuple(said["latencies"]),
        refusals=tuple(said["refusals"]),
        statuses=said["statuses"],
        unsent=said["unsent"],
        bodies={int(place): body for place, body in said["bodies"].items()},
    )


def _answers(subject: Subject) -> bool:
    """Whether it is ready: ours says so; of the others, that they listen."""
    try:
        with socket.create_connection(("127.0.0.1", subject.port), timeout=5) as sock:
            sock.sendall(
                b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            status = sock.recv(64).split(b" ")[1:2]
    except OSError:
        return False
    return status in ([b"200"], [b"404"])


def _adopt_orphans() -> None:
    """Become the parent of what servers leave behind, so that its work counts as theirs."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _bury(group: int) -> None:
    """End what is left of a process group, and take note of its work."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
