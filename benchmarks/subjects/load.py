"""Load: requests to a server on this machine, closed or open loop; a line of JSON out.

    load.py URL KIND SECONDS closed CONCURRENCY PHOTO...
    load.py URL KIND SECONDS open REQUESTS_PER_SECOND PHOTO...

Closed: each of so many clients sends its next request when it has its answer: that finds the rate.
Open: requests are sent at fixed times, whether earlier ones are answered or not, and a latency
counts from the time a request was due: that finds the latencies, with nothing left out.
KIND is how an image is sent: raw (its bytes), form (a file of a form) or json (base64).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

BOUNDARY = "toplabel-load"
MOST_SECONDS = 120.0
MOST_CONNECTIONS = 512
DEADLINE_SECONDS = 60.0


def encode(content: bytes, kind: str) -> tuple[str, bytes]:
    """The content type and the body of a request."""
    if kind == "raw":
        return "image/jpeg", content
    if kind == "json":
        return "application/json", json.dumps(
            {"image": base64.b64encode(content).decode()}
        ).encode()
    start = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = start.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return f"multipart/form-data; boundary={BOUNDARY}", body


def requests_for(url: str, kind: str, photos: list[Path]) -> list[bytes]:
    """A whole request for each photo."""
    parts = urlsplit(url)
    made = []
    for photo in photos:
        media, body = encode(photo.read_bytes(), kind)
        lines = (
            f"POST {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            f"Content-Type: {media}",
            f"Content-Length: {len(body)}",
        )
        made.append("\r\n".join([*lines, "", ""]).encode() + body)
    return made


class Connection(asyncio.Protocol):
    """One connection that is kept; one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = transport
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; an answer that is waited for will not come."""
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed"))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """The status and body that come back."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)  # type: ignore[attr-defined]
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Some of an answer has come."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        headers = bytes(self._received[:end])
        length = int(re.search(rb"(?i)content-length: *(\d+)", headers)[1])  # type: ignore[index]
        if len(self._received) < end + 4 + length:
            return
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        if re.search(rb"(?i)connection: *close", headers):
            self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(headers[9:12]), body))


class Load:
    """What was sent, and what came back."""

    def __init__(self, url: str, requests: list[bytes]) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._requests = requests
        self._idle: list[Connection] = []
        self._sent = 0
        self.answers: list[tuple[int, float, float]] = []  # status, latency, time of the answer
        self.bodies: dict[int, str] = {}
        self.unsent = 0
        self.failures: Counter[str] = Counter()

    async def _one(self, due: float, *, keep_body: bool = False) -> None:
        place = self._sent % len(self._requests)
        self._sent += 1
        status = 0
        try:
            connection = await self._connection()
            status, body = await asyncio.wait_for(
                connection.ask(self._requests[place]), DEADLINE_SECONDS
            )
            if connection.open:
                self._idle.append(connection)
            if keep_body and status == 200:
                self.bodies[place] = body.decode()
        except (TimeoutError, OSError) as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1
            status = 0
        now = time.perf_counter()
        self.answers.append((status, now - due, now))

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(Connection, *self._address)
        return made

    async def closed(self, concurrency: int, seconds: float) -> None:
        """So many clients, each with one request at a time."""
        end = time.perf_counter() + seconds

        async def client() -> None:
            while (now := time.perf_counter()) < end:
                await self._one(now, keep_body=True)

        await asyncio.gather(*(client() for _ in range(concurrency)))

    async def open(self, rate: float, seconds: float) -> None:
        """Requests at fixed times."""
        start = time.perf_counter()
        tasks = set()
        for number in range(int(rate * seconds)):
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if len(tasks) >= MOST_CONNECTIONS:  # bounded: the limit is this client, and it says so
                self.unsent += 1
                continue
            task = asyncio.create_task(self._one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)


def main() -> None:
    """Send the load, and tell what came back."""
    url, kind, seconds, how, amount, *photos = sys.argv[1:]
    assert urlsplit(url).hostname in ("127.0.0.1", "localhost"), "for servers on this machine only"
    load = Load(url, requests_for(url, kind, [Path(photo) for photo in photos]))
    length = min(float(seconds), MOST_SECONDS)
    started = time.perf_counter()
    if how == "closed":
        asyncio.run(load.closed(min(int(amount), MOST_CONNECTIONS), length))
    else:
        asyncio.run(load.open(float(amount), length))
    statuses = [status for status, _, _ in load.answers]
    said = {
        "seconds": max(end for _, _, end in load.answers) - started,
        "statuses": {str(s): statuses.count(s) for s in sorted(set(statuses))},
        "latencies": sorted(round(late, 5) for status, late, _ in load.answers if status == 200),
        "refusals": sorted(round(late, 5) for status, late, _ in load.answers if status == 503),
        "unsent": load.unsent,
        "failures": dict(load.failures),
        "bodies": {str(place): body for place, body in sorted(load.bodies.items())},
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
