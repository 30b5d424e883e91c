"""Soak: a server under mixed load for a long time; fails where its memory or descriptors grow.

    python scripts/soak_server.py --minutes 30 [--clients 20] [--leak-kb 50]

Good and bad requests from so many clients at once. Fails where the resident memory of the second
half grows by more than --allow-mb, where descriptors are left, or where an answer is a 500.
--leak-kb plants a leak of so much a request, but ten times a second at most, so that it is about
the same on any machine: then it must fail, or it would find none.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).parents[1]
DESCRIPTORS_LEFT = 2
LEAK = """
import time
from toplabel.serve import models
kept, last = [], 0.0
answer = models.ServedModel.answer
def leaking(self, content, **wanted):
    global last
    if time.monotonic() > last + 0.1:
        last = time.monotonic()
        kept.append(b"x" * {size})
    return answer(self, content, **wanted)
models.ServedModel.answer = leaking
from toplabel.cli import main
main()
"""


@dataclass
class Found:
    """What the clients have seen, and how large the server was, by time."""

    statuses: dict[int, int] = field(default_factory=dict)
    samples: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, status: int) -> None:
        """One answer."""
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1


def start(leak_kb: int) -> tuple[subprocess.Popen[str], int]:
    """A server, and its port."""
    how = ["-m", "toplabel"]
    if leak_kb:
        how = ["-c", LEAK.format(size=leak_kb * 1024)]
    process = subprocess.Popen(
        [sys.executable, *how, "serve", "--port", "0", "--no-access-log"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"ready at http://\S+:(\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(found[1])
    raise SystemExit("the server did not start")


def requests(chance: random.Random, photos: list[bytes]) -> tuple[str, str, bytes]:
    """A content type, a path and a body: mostly good, some bad in one way or another."""
    photo = chance.choice(photos)
    text = base64.b64encode(photo).decode()
    return chance.choice(
        [
            ("image/jpeg", "/v1/classify", photo),
            ("image/jpeg", "/v1/classify", photo),
            ("image/jpeg", "/v1/classify", photo[: chance.randrange(len(photo))]),
            ("image/jpeg", "/v1/classify", chance.randbytes(chance.randrange(10**5))),
            ("application/json", "/v1/classify", json.dumps({"image": text}).encode()),
            ("application/json", "/v1/classify", text.encode()),
            ("application/json", "/", json.dumps({"inputs": text}).encode()),
            ("application/json", "/v2/models/efficientnet_lite0/infer", b"{}"),
            ("multipart/form-data; boundary=b", "/v1/classify", photo),
            ("image/jpeg", "/nowhere", photo),
        ]
    )


def ask_on_and_on(port: int, photos: list[bytes], seed: int, end: float, found: Found) -> None:
    """One client."""
    chance = random.Random(seed)
    while time.monotonic() < end:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            for _ in range(chance.randrange(1, 20)):
                kind, path, body = requests(chance, photos)
                connection.request("POST", path, body, {"Content-Type": kind})
                if chance.random() < 0.02:
                    break  # leave without the answer
                response = connection.getresponse()
                response.read()
                found.count(response.status)
        except (OSError, HTTPException):
            found.count(0)
        finally:
            connection.close()


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]


def soak(minutes: float, clients: int, leak_kb: int) -> tuple[Found, int]:
    """What was found, and how many descriptors were left."""
    photos = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jpg"))]
    process, port = start(leak_kb)
    found = Found()
    begun = time.monotonic()
    before = len(os.listdir(f"/proc/{process.pid}/fd"))
    end = begun + 60 * minutes
    threads = [
        threading.Thread(target=ask_on_and_on, args=(port, photos, seed, end, found))
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(1.0, 0.6 * minutes))
        found.samples.append((time.monotonic() - begun, resident_mb(process.pid)))
    for thread in threads:
        thread.join()
    until = time.monotonic() + 60
    while (left := len(os.listdir(f"/proc/{process.pid}/fd")) - before) > DESCRIPTORS_LEFT:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait(120)
    return found, left


def main() -> int:
    """The exit status: 0 where nothing grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--allow-mb", type=float, default=100.0)
    parser.add_argument("--leak-kb", type=int, default=0)
    asked = parser.parse_args()
    found, left = soak(asked.minutes, asked.clients, asked.leak_kb)
    half = 60 * asked.minutes / 2
    middle = [mb for at, mb in found.samples if at <= half][-1]
    growth = max(mb for at, mb in found.samples if at > half) - middle
    print(
        json.dumps(
            {
                "statuses": dict(sorted(found.statuses.items())),
                "first_mb": round(found.samples[0][1], 1),
                "middle_mb": round(middle, 1),
                "growth_of_second_half_mb": round(growth, 1),
                "descriptors_left": left,
            }
        )
    )
    failed = growth > asked.allow_mb or left > DESCRIPTORS_LEFT or 500 in found.statuses
    return 1 if failed or not found.statuses.get(200) else 0


if __name__ == "__main__":
    sys.exit(main())
