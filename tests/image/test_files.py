"""Fetching URLs, against real servers on the loopback interface."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from toplabel.errors import ImageError
from toplabel.image.files import fetch, is_url
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image


def png() -> bytes:
    import io

    file = io.BytesIO()
    Image.new("RGB", (5, 4), (10, 20, 30)).save(file, "PNG")
    return file.getvalue()


class Pages(BaseHTTPRequestHandler):
    """A few paths, each with its behaviour."""

    agents: list[str] = []

    def do_GET(self) -> None:
        self.agents.append(self.headers["User-Agent"])
        path = self.path
        if path == "/redirect":
            self.answer(302, b"", {"Location": "/photo.png"})
        elif path == "/circle":
            self.answer(302, b"", {"Location": "/circle"})
        elif path == "/to-file":
            self.answer(302, b"", {"Location": "file:///etc/hostname"})
        elif path == "/to-ftp":
            self.answer(302, b"", {"Location": "ftp://127.0.0.1/x"})
        elif path.startswith("/status"):
            self.answer(int(path[7:]), b"no")
        elif path == "/html":
            self.answer(200, b"<!doctype html><html></html>")
        elif path == "/short":
            self.answer(200, png()[:40], {"Content-Length": "5000"})
        elif path == "/chunked":
            self.chunked()
        elif path == "/caf%C3%A9%20a.png?q=%C3%A9%20b" or path == "/photo.png":
            self.answer(200, png())
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def chunked(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        body = png()
        for at in range(0, len(body), 10):
            part = body[at : at + 10]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does with one connection whatever `talk` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):  # the client had enough, or never came
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                talk(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/photo.png"
    finally:
        with suppress(OSError):  # for a client whose time was over before it could connect
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def failure(url: str, **options: object) -> ImageError:
    with pytest.raises(ImageError, match="cannot read 'http") as caught:
        read_image(url, options=ReadOptions(**options))
    return caught.value


def test_reads_an_image_from_a_url(server: str) -> None:
    for path in ("/photo.png", "/redirect", "/chunked", "/café a.png?q=é b#part"):
        assert np.array_equal(read_image(server + path).pixels[0, 0], [10, 20, 30]), path
    assert read_image(server.replace("http", "HTTP") + "/photo.png").width == 5
    assert all(agent.startswith("toplabel/") for agent in Pages.agents)


@pytest.mark.parametrize("status", [400, 403, 404, 410, 429, 500, 503])
def test_bad_statuses_are_named(server: str, status: int) -> None:
    error = failure(f"{server}/status{status}")
    assert error.code == "fetch_failed"
    assert str(status) in error.message


def test_redirects_stay_with_http_and_end(server: str) -> None:
    for path in ("/circle", "/to-file", "/to-ftp"):
        assert failure(server + path).code == "fetch_failed"


def test_a_web_page_is_no_image(server: str) -> None:
    assert failure(server + "/html").code == "not_an_image"


def test_a_connection_that_ends_early_is_a_failed_fetch(server: str) -> None:
    error = failure(server + "/short")
    assert error.code == "fetch_failed"
    assert "of 5,000 bytes" in error.message


def test_bodies_above_the_limit_are_refused_stated_or_not(server: str) -> None:
    for path in ("/photo.png", "/chunked"):
        assert failure(server + path, max_bytes=20).code == "too_large"


def test_refused_connections_and_unknown_hosts_are_failed_fetches() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/a.jpg").code == "fetch_failed"
    assert failure("http://name.invalid/a.jpg").code == "fetch_failed"


@pytest.mark.parametrize(
    "url", ["http://", "http:///a.jpg", "http://a:b:c/d", "http://[::1/a", "https://h:99999/a"]
)
def test_urls_that_are_none_are_failed_fetches(url: str) -> None:
    assert failure(url).code == "fetch_failed"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_server_that_drips_ends_at_the_deadline(start: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(100):
            connection.sendall(b"1")
            time.sleep(0.05)

    with raw_server(drip) as url:
        began = time.perf_counter()
        error = failure(url, timeout_seconds=0.6)
        assert time.perf_counter() - began > 0.4
        assert error.code == "timeout"


def test_a_server_that_says_nothing_ends_at_the_deadline() -> None:
    with raw_server(lambda connection: connection.recv(1)) as url:  # until the client leaves
        assert failure(url, timeout_seconds=0.3).code == "timeout"


def test_a_server_that_answers_nonsense_is_a_failed_fetch() -> None:
    for answer in (b"", b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 70_000):
        with raw_server(lambda connection, answer=answer: connection.sendall(answer)) as url:
            assert failure(url).code == "fetch_failed"


def test_a_tls_client_meets_a_plain_server_in_time() -> None:
    with raw_server(lambda connection: connection.sendall(b"hello")) as url:
        error = failure(url.replace("http:", "https:"), timeout_seconds=60)
        assert error.code == "fetch_failed"


def test_only_http_and_https_are_urls() -> None:
    assert is_url("http://a")
    assert is_url("HTTPS://a")
    for text in ("ftp://a", "file:///a", "httpx://a", "a.jpg", "http:/a", ""):
        assert not is_url(text)


def test_fetch_gives_the_body(server: str) -> None:
    assert fetch(server + "/photo.png", timeout_seconds=60, max_bytes=10_000) == png()
