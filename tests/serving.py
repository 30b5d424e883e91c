"""A real server in a process of its own, and plain sockets to talk to it; for the tests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CAT = (ROOT / "examples" / "cat.jpg").read_bytes()


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


@dataclass
class Server:
    """A running `toplabel serve`."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The access log so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        timeout: float = 120,
    ) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, fields, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: bytes, kind: str = "application/octet-stream") -> Reply:
        return self.ask("POST", path, body, {"Content-Type": kind})

    def classify(self, body: bytes, query: str = "", kind: str = "image/jpeg") -> Reply:
        return self.post(f"/v1/classify{query}", body, kind)

    def socket(self, timeout: float = 120) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, sent: bytes, *, timeout: float = 120) -> bytes:
        """All that comes back for these bytes until the server ends the connection."""
        with self.socket(timeout) as sock:
            with suppress(OSError):  # it does not take all of it: what it says is there to read
                sock.sendall(sent)
            return read_all(sock)

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024 / 1e6

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self) -> float:
        """The processor time used so far, which other processes of the machine do not change."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_listening(self) -> bool:
        try:
            self.socket().close()
        except ConnectionRefusedError:
            return False
        return True

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = self.ask("GET", "/metrics").body.decode()
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def stop(self, number: int = signal.SIGTERM, *, timeout: float = 120) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout)


def read_all(sock: socket.socket) -> bytes:
    parts = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def read_one(sock: socket.socket) -> bytes:
    """One answer on a connection that is kept."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(sock)
    headers, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", headers)[1])
    while len(body) < length:
        body += _receive(sock)
    return headers + b"\r\n\r\n" + body


def _receive(sock: socket.socket) -> bytes:
    if part := sock.recv(65536):
        return part
    raise EOFError("the connection ended in the middle of an answer")


@contextmanager
def held_port() -> Iterator[int]:
    """A port that servers can be given one after the other, and that goes to nobody else."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


@contextmanager
def serving(
    *arguments: str, environment: dict[str, str] | None = None, code: str | None = None
) -> Iterator[Server]:
    """A server with these arguments; `code`: a Python program that starts it instead.

    It is ready, or says "listening at URL" earlier, which only `code` can make it do.
    """
    start = [sys.executable, *(("-c", code) if code else ("-m", "toplabel"))]
    process = subprocess.Popen(
        [*start, "serve", "--port", "0", "--lame-duck", "0", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
    )
    server = Server(process, 0)
    ready = threading.Event()
    reader = threading.Thread(target=_read, args=(server, ready))
    reader.start()
    try:
        assert ready.wait(300), server.lines
        assert server.port, server.lines
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def _read(server: Server, ready: threading.Event) -> None:
    assert server.process.stderr is not None
    for line in server.process.stderr:
        server.lines.append(line.rstrip("\n"))
        if found := re.search(r"(?:listening|ready) at http://\S+:(\d+)$", line):
            server.port = int(found[1])
            ready.set()
    ready.set()  # it has ended


def form(*files: tuple[str, bytes], boundary: str = "b0undary") -> tuple[bytes, str]:
    """The body and the content type of a multipart form."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


def head(
    path: str = "/v1/classify", *, length: int | None = None, method: str = "POST", **more: str
) -> bytes:
    """A request's line and headers, by hand."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: image/jpeg"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(content: bytes, size: int = 65536) -> bytes:
    """Content as chunks, with the last one."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def wait_until(condition: Any, *, seconds: float = 120.0) -> bool:
    """Whether the condition came true within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
