"""Clients of the soak (scripts/soak.py): what they send, and what must come back.

Each kind is a function that does one thing as one client, and raises `Wrong` where what comes back
is not right. `mixed` and `fuzzing` run in processes of their own.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import re
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from PIL import Image

from fuzz_requests import fuzzed

EXAMPLES = Path(__file__).parents[1] / "examples"
MAX_BODY = 32 * 2**20
FUZZERS = 12
SECONDS = 60.0
PATIENCE = 1.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ANSWER = re.compile(rb"(?s)(?:HTTP/1\.1 100 .*?\r\n\r\n)?HTTP/1\.1 ([2-9]\d\d) ")
MAY_BE = {501, 503, 505}


# What is sent


@cache
def photos() -> tuple[bytes, ...]:
    """The example photos' files."""
    return tuple(path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg")))


@cache
def small_images() -> tuple[bytes, ...]:
    """Each photo at 48 pixels in several formats, so that fuzzing costs little."""
    made = []
    for photo, form in itertools.product(photos(), ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")):
        with Image.open(io.BytesIO(photo)) as image:
            file = io.BytesIO()
            image.resize((48, 48)).save(file, form)
        made.append(file.getvalue())
    return tuple(made)


def drawn_bombs() -> list[bytes]:
    """Images that claim more than they have, where no others are at hand."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0\0\0\0"
    bombs = [
        png,
        b"P6\n60000 60000\n255\n",
        b"GIF89a\xff\xff\xff\xff\0\0\0;",
        b"II*\0" + b"\xff" * 99,
    ]
    for form in ("PNG", "TIFF", "WEBP"):
        file = io.BytesIO()
        Image.new("1" if form != "WEBP" else "RGB", (6000, 6000)).save(file, form)
        bombs.append(file.getvalue())
    return bombs


@dataclass(frozen=True)
class Material:
    """What clients send, and what must come back.

    Args:
        port: The server's.
        labels: Of each photo, from the library.
        hostile: Files that are no good images.
    """

    port: int
    labels: tuple[str, ...]
    hostile: tuple[bytes, ...]


class Wrong(Exception):
    """An answer that breaks the first rule."""


class Client:
    """One client with one connection, which is kept while it is good."""

    def __init__(self, material: Material, chance: random.Random) -> None:
        self.material = material
        self.chance = chance
        self._connection: HTTPConnection | None = None

    def ask(self, path: str, body: Any, kind: str, method: str = "POST") -> tuple[int, bytes]:
        """Status and body of the answer."""
        for again in (True, False):
            kept = self._connection is not None
            if self._connection is None:
                port = self.material.port
                self._connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            try:
                self._connection.request(method, path, body, {"Content-Type": kind})
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, HTTPException):
                self.leave()
                if not (kept and again):  # one that was kept may have ended meanwhile
                    raise
        raise AssertionError

    def leave(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def socket(self) -> socket.socket:
        """A connection of its own."""
        return socket.create_connection(("127.0.0.1", self.material.port), timeout=SECONDS)

    def some_photo(self) -> tuple[bytes, str]:
        """A photo, and its label."""
        number = self.chance.randrange(len(photos()))
        return photos()[number], self.material.labels[number]


def head(length: int | None, path: str = "/v1/classify") -> bytes:
    """A request's line and headers."""
    said = "" if length is None else f"Content-Length: {length}\r\n"
    text = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n{said}\r\n"
    return text.encode()


def read_all(sock: socket.socket) -> bytes:
    """What comes until the end."""
    parts = []
    with suppress(ConnectionError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def as_base64(content: bytes) -> str:
    """Text."""
    return base64.b64encode(content).decode()


# Good requests: each has the right labels


def _must_be(labels: Sequence[str], status: int, body: bytes, *, form: str = "toplabel") -> None:
    if status != 200:
        raise Wrong(f"a good request in the form of {form} got {status} {body[:200]!r}")
    said = json.loads(body)
    if form == "toplabel":
        got = [one["label"] for one in said["predictions"]]
    elif form == "Hugging Face":
        got = [said[0]["label"]]
    else:
        got = said["outputs"][0]["data"]
    if got != list(labels):
        raise Wrong(f"a good request in the form of {form} got {got}; expected {list(labels)}")


def good_raw(client: Client) -> None:
    """An image as the body."""
    photo, label = client.some_photo()
    _must_be([label], *client.ask("/v1/classify", photo, "image/jpeg"))


def good_chunked(client: Client) -> None:
    """An image in chunks."""
    photo, label = client.some_photo()
    parts = [photo[start : start + 9999] for start in range(0, len(photo), 9999)]
    _must_be([label], *client.ask("/v1/classify", iter(parts), "image/jpeg"))


def good_form(client: Client) -> None:
    """A form with two files."""
    both = [client.some_photo() for _ in range(2)]
    name = 'Content-Disposition: form-data; name="file"; filename="a.jpg"'
    body = b"".join(f"--b\r\n{name}\r\n\r\n".encode() + photo + b"\r\n" for photo, _ in both)
    kind = "multipart/form-data; boundary=b"
    answer = client.ask("/v1/classify", body + b"--b--\r\n", kind)
    _must_be([label for _, label in both], *answer)


def good_json(client: Client) -> None:
    """JSON with two images, one of them bad: the other has its label."""
    photo, label = client.some_photo()
    body = json.dumps({"images": [as_base64(photo), as_base64(photo[:99])]})
    status, said = client.ask("/v1/classify", body, "application/json")
    if status == 200 and json.loads(said)["predictions"][1]["error"] is None:
        raise Wrong("a cut image has a label")
    _must_be([label, None], status, said)  # type: ignore[list-item]


def good_hugging_face(client: Client) -> None:
    """The form of Hugging Face's client."""
    photo, label = client.some_photo()
    body = json.dumps({"inputs": as_base64(photo)})
    _must_be([label], *client.ask("/", body, "application/json"), form="Hugging Face")


def good_triton(client: Client) -> None:
    """The Open Inference Protocol."""
    photo, label = client.some_photo()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [as_base64(photo)]}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "label"}]})
    path = "/v2/models/efficientnet_lite0/infer"
    _must_be([label], *client.ask(path, body, "application/json"), form="the protocol")


def good_half_closed(client: Client) -> None:
    """A client that has said all it will say, and listens; a busy server need not keep it."""
    photo, label = client.some_photo()
    with closing(client.socket()) as sock:
        sock.sendall(head(len(photo)) + photo)
        sock.shutdown(socket.SHUT_WR)
        said = read_all(sock)
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", said)
    if status is None:
        raise Wrong(f"a half-closed client got {said[:200]!r}")
    if int(status[1]) == 503:
        return
    _must_be([label], int(status[1]), said.partition(b"\r\n\r\n")[2])


# Bad requests: each has a 4xx, or ends


def _must_fail(status: int, body: bytes, *, also: tuple[int, ...] = ()) -> None:
    if status in also:
        return
    if not 400 <= status < 500 or "code" not in json.loads(body)["error"]:
        raise Wrong(f"a bad request got {status} {body[:200]!r}")


def bad_cut(client: Client) -> None:
    """An image without its end; near the end it may have a label."""
    photo, _ = client.some_photo()
    cut = photo[: client.chance.randrange(len(photo))]
    _must_fail(*client.ask("/v1/classify", cut, "image/jpeg"), also=(200,))


def bad_random(client: Client) -> None:
    """No image at all."""
    content = client.chance.randbytes(client.chance.randrange(1, 10**5))
    _must_fail(*client.ask("/v1/classify", content, "image/jpeg"))


def bad_hostile(client: Client) -> None:
    """An image of those that were made to break decoders; some are odd and right."""
    content = client.chance.choice(client.material.hostile)
    _must_fail(*client.ask("/v1/classify", content, "image/jpeg"), also=(200,))


def bad_json(client: Client) -> None:
    """JSON that is none, or not what is expected."""
    body = client.chance.choice(["{", "[]", "{}", '{"image": 5}', '{"url": "http://a.example/"}'])
    path = client.chance.choice(["/", "/v1/classify", "/v2/models/efficientnet_lite0/infer"])
    status, said = client.ask(path, body, "application/json")
    if not 400 <= status < 500:
        raise Wrong(f"{body} for {path} got {status} {said[:200]!r}")


def bad_path(client: Client) -> None:
    """A path that is not there."""
    _must_fail(*client.ask("/nowhere", client.some_photo()[0], "image/jpeg"))


def bad_oversize(client: Client) -> None:
    """More than a body may have: said, or only sent."""
    with closing(client.socket()) as sock:
        if client.chance.random() < 0.8:
            sock.sendall(head(MAX_BODY + 1) + b"x" * 1000)
        else:
            with suppress(ConnectionError):  # refused before all is sent
                sock.sendall(
                    head(None).replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
                )
                for _ in range(MAX_BODY // 2**20 + 1):
                    sock.sendall(b"100000\r\n" + b"x" * 2**20 + b"\r\n")
        said = read_all(sock)
    if said and not said.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 408 ")):  # or sent too slowly
        raise Wrong(f"a body beyond the limit got {said[:200]!r}")


def dropped(client: Client) -> None:
    """A client that leaves, with a reset or without, before or after it has sent all."""
    photo, _ = client.some_photo()
    sent = head(len(photo)) + photo
    with closing(client.socket()) as sock:
        if client.chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(sent[: client.chance.choice([len(sent), client.chance.randrange(len(sent))])])


def unread(client: Client) -> None:
    """A client that asks for much and reads nothing of it."""
    with closing(client.socket()) as sock, suppress(OSError):
        sock.settimeout(2)
        sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        time.sleep(1)


QUICK: tuple[tuple[int, Callable[[Client], None]], ...] = (
    *((6, good_raw), (2, good_chunked), (2, good_form), (2, good_json), (2, good_hugging_face)),
    *((2, good_triton), (2, good_half_closed), (2, bad_cut), (2, bad_random), (3, bad_hostile)),
    *((2, bad_json), (1, bad_path), (1, bad_oversize), (3, dropped), (1, unread)),
)


def slow(client: Client, stop: Any) -> None:
    """A byte now and then, of the headers or of the body: ended with 408."""
    photo, _ = client.some_photo()
    sent = head(len(photo)) + photo
    at = client.chance.choice([20, len(head(len(photo))) + 20])
    with closing(client.socket()) as sock:
        sock.sendall(sent[:at])
        sock.settimeout(0.5)
        until = time.monotonic() + SECONDS
        while not stop.is_set():
            with suppress(TimeoutError, ConnectionError):
                if said := sock.recv(65536):
                    if not said.startswith(b"HTTP/1.1 408 "):
                        raise Wrong(f"a slow client got {said[:200]!r}")
                    return
            if time.monotonic() > until:
                raise Wrong("a slow client may go on for more than a minute")
            with suppress(OSError):
                sock.sendall(sent[at : at + 1])
                at += 1


# Clients, each kind in a process of its own so that none makes another wait


@dataclass
class Seen:
    """What clients have done and seen; of several threads."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, act: Callable[[], object]) -> None:
        """Do it, and count it."""
        problem = None
        try:
            act()
        except Wrong as error:
            problem = str(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        with self.lock:
            self.counts[name] += 1
            if problem is not None:
                self.wrong.append(f"{name}: {problem}")


def _in_threads(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def mixed(material: Material, seed: int, clients: int, stop: Any, results: Any) -> None:
    """Process: so many clients, and two slow ones, until it is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen = Seen()
    weights, kinds = zip(*QUICK, strict=True)

    def go_on(number: int) -> None:
        client = Client(material, random.Random(f"{seed}/{number}"))
        while not stop.is_set():
            (kind,) = client.chance.choices(kinds, weights)
            seen.note(kind.__name__, partial(kind, client))
            if client.chance.random() < 0.05:
                client.leave()
        client.leave()

    def go_on_slowly(number: int) -> None:
        client = Client(material, random.Random(f"{seed}/slow/{number}"))
        while not stop.is_set():
            seen.note("slow", lambda: slow(client, stop))

    works = [lambda n=n: go_on(n) for n in range(clients)]
    works += [lambda n=n: go_on_slowly(n) for n in range(2 * bool(clients))]
    _in_threads(works)
    results.put((seen.counts, seen.wrong))


def send_fuzzed(material: Material, seed: int, number: int) -> str:
    """Send one, and say what became of it; where it waits for more there is no more."""
    received = b""
    with closing(Client(material, random.Random()).socket()) as sock:
        with suppress(ConnectionError):  # what it does not take it has refused
            sock.sendall(fuzzed(seed, number, small_images()))
        sock.settimeout(PATIENCE)
        while not (found := ANSWER.match(received)):
            try:
                part = sock.recv(65536)
            except TimeoutError:
                if sock.gettimeout() == SECONDS:
                    raise
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(SECONDS)
                continue
            except ConnectionError:
                part = b""
            if not part:
                break
            received += part
    if received.removeprefix(CONTINUE) and not found:
        raise Wrong(f"number {number} of seed {seed} got {received[:200]!r}")
    if not found:
        return "fuzzed: ended"
    status = int(found[1])
    if status >= 500 and status not in MAY_BE:
        raise Wrong(f"number {number} of seed {seed} got {received[:300]!r}")
    return f"fuzzed: {status}"


def fuzzing(
    material: Material, seed: int, total: int, seconds: float, stop: Any, results: Any
) -> None:
    """Process: all fuzzed requests, spread over the time, unless it is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen = Seen()
    answers: Counter[str] = Counter()
    numbers = iter(range(total))
    began = time.monotonic()

    def go_on() -> None:
        while True:
            with seen.lock:
                number = next(numbers, None)
            if number is None or stop.is_set():
                return
            stop.wait(max(0.0, began + seconds * number / total - time.monotonic()))

            def act(number: int = number) -> None:
                answer = send_fuzzed(material, seed, number)
                with seen.lock:
                    answers[answer] += 1

            seen.note("fuzzed", act)

    _in_threads([go_on] * FUZZERS)
    results.put((seen.counts + answers, seen.wrong))
