"""The one HTTP client, against real servers on the loopback interface."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from toplabel._internal.http import (
    FetchOptions,
    HttpError,
    _Connection,
    _open_socket,
    get,
    open_url,
)

Answer = Callable[[bytes], bytes]


@contextmanager
def site(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each request by `answer`; its address and the requests it got."""
    requests: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.02)
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                request = connection.recv(65_536)
                if request:
                    requests.append(request)
                    connection.sendall(answer(request))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        over.set()
        thread.join()
        listener.close()


def reply(body: bytes, status: str = "200 OK", header: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{header}\r\n".encode() + body


def redirecting(request: bytes) -> bytes:
    """/3 leads to /2, to /1, to /0, which is the end."""
    number = int(request.split(b" ")[1].lstrip(b"/"))
    if not number:
        return reply(b"arrived")
    return reply(b"moved", "302 Found", f"Location: /{number - 1}\r\n")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def failure(url: str, **options: object) -> HttpError:
    with pytest.raises(HttpError, match=".") as caught:
        get(url, FetchOptions(**options))
    return caught.value


def test_a_body_is_read_with_its_length():
    options = FetchOptions(accept="image/*")
    with (
        site(lambda request: reply(b"1234")) as (address, requests),
        open_url(f"http://{address}/a b?c=d#e", options) as body,
    ):
        assert body.length == 4
        assert b"".join(body) == b"1234"
    assert requests[0].startswith(b"GET /a%20b?c=d HTTP/1.1\r\n")
    assert b"Accept: image/*\r\n" in requests[0]
    assert b"User-Agent: toplabel/" in requests[0]


def test_redirects_are_followed_up_to_the_limit():
    with site(redirecting) as (address, requests):
        assert get(f"http://{address}/3", FetchOptions(max_redirects=3)) == b"arrived"
        assert len(requests) == 4
        error = failure(f"http://{address}/4", max_redirects=3)
    assert (error.problem, str(error)) == ("failed", "it redirects too often")


def test_each_connection_goes_to_the_address_that_the_hook_gives():
    asked: list[str] = []

    def address_of(url: str) -> str:
        asked.append(url)
        return "127.0.0.1"

    with site(redirecting) as (address, requests):
        port = address.partition(":")[2]
        url = f"http://nowhere.invalid:{port}/1"
        assert get(url, FetchOptions(address_of=address_of)) == b"arrived"
    assert asked == [url, f"http://nowhere.invalid:{port}/0"]
    assert all(f"Host: nowhere.invalid:{port}\r\n".encode() in request for request in requests)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.org/x", "example.org"),
        ("https://example.org:444/x", "example.org:444"),
        ("http://example.org/x", "example.org"),
        ("http://[::1]/x", "[::1]"),
        ("https://[fe80::12]/x", "[fe80::12]"),
        ("http://[::1]:81/x", "[::1]:81"),
    ],
)
def test_the_host_is_named_with_its_port_only_where_that_is_unusual(url: str, host: str) -> None:
    here, there = socket.socketpair()
    with here, there:
        connection = _Connection(urlsplit(url), lambda: here)
        connection.request("GET", "/x")
        assert f"\r\nHost: {host}\r\n".encode() in there.recv(4096)
        connection.close()


def test_no_packet_is_sent_where_the_hook_refuses():
    def address_of(url: str) -> str:
        if url.endswith("/1"):
            return "127.0.0.1"
        raise PermissionRefused

    class PermissionRefused(Exception):
        pass

    with site(redirecting) as (address, requests):
        with pytest.raises(PermissionRefused):
            get(f"http://{address}/0", FetchOptions(address_of=address_of))
        assert requests == []
        with pytest.raises(PermissionRefused):
            get(f"http://{address}/1", FetchOptions(address_of=address_of))
        assert len(requests) == 1


def test_a_hook_that_gives_a_name_is_not_believed():
    with site(redirecting) as (address, requests):
        options = FetchOptions(address_of=lambda url: "localhost")
        with pytest.raises(HttpError, match="."):
            get(f"http://{address}/0", options)
    assert requests == []


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    with site(lambda request: reply(b"by proxy")) as (address, requests):
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{address}")
        assert get("http://nowhere.invalid/a?b", FetchOptions()) == b"by proxy"
    assert requests[0].startswith(b"GET http://nowhere.invalid/a?b HTTP/1.1\r\n")
    assert b"Host: nowhere.invalid\r\n" in requests[0]
    credentials = base64.b64encode(b"me:p@ss")
    assert b"Proxy-Authorization: Basic " + credentials + b"\r\n" in requests[0]


def test_a_proxy_is_asked_for_a_tunnel_for_https(monkeypatch: pytest.MonkeyPatch):
    with site(lambda request: reply(b"", "403 Forbidden")) as (address, requests):
        monkeypatch.setenv("https_proxy", address)
        error = failure("https://nowhere.invalid/a")
    assert requests[0].startswith(b"CONNECT nowhere.invalid:443 HTTP/1.")
    assert error.problem == "failed"
    assert "403" in str(error)


def test_a_host_that_needs_no_proxy_is_asked_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with site(lambda request: reply(b"itself")) as (address, _):
        assert get(f"http://{address}/", FetchOptions()) == b"itself"


def test_a_server_that_goes_silent_is_left_after_the_stall_time():
    hold = threading.Event()

    def answer(request: bytes) -> bytes:
        hold.wait(60)
        return b""

    with site(answer) as (address, _):
        try:
            assert failure(f"http://{address}/", stall_seconds=0.2).problem == "timeout"
        finally:
            hold.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_made_too_late_is_closed(scheme: str, monkeypatch: pytest.MonkeyPatch):
    made: list[socket.socket] = []
    connect, seconds = socket.create_connection, iter([60.0])

    def left() -> float:
        for value in seconds:
            return value
        raise TimeoutError

    monkeypatch.setattr(
        socket, "create_connection", lambda *a, **k: made.append(connect(*a, **k)) or made[0]
    )
    with site(lambda request: b"") as (address, _):
        with pytest.raises(TimeoutError):
            _open_socket(urlsplit(f"{scheme}://{address}"), None, left)
        descriptors = [one.fileno() for one in made]
        made[0].close()  # the server waits for it
    assert descriptors == [-1]


def test_statuses_and_sizes_are_told_apart():
    with site(lambda request: reply(b"no", "404 Not Found")) as (address, _):
        error = failure(f"http://{address}/")
    assert (error.problem, str(error)) == ("status", "the server answered 404 Not Found")
    with site(lambda request: reply(b"12345")) as (address, _):
        assert failure(f"http://{address}/", max_bytes=4).problem == "too_large"
        assert get(f"http://{address}/", FetchOptions(max_bytes=5)) == b"12345"


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/hostname", "http://me@a/", "http:///a"])
def test_what_is_no_plain_http_url_is_refused(url: str):
    assert failure(url).problem == "failed"
