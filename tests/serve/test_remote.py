"""URLs that requests name: what is fetched, and what is refused before a packet is sent."""

import asyncio
import http.server
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.requests import Request

from serving import CAT, serving
from toplabel.serve.api_error import ApiError
from toplabel.serve.options import ServeOptions
from toplabel.serve.remote import Remote, is_public
from toplabel.serve.request_body import BodyReader
from toplabel.serve.service import Service

FORBIDDEN = (
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254"),
    *("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"),
    *("192.0.0.192", "192.0.0.9", "192.88.99.1", "64:ff9b::c000:c0", "5f00::1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::", "2001::1"),
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(address: str):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111"])
def test_a_public_address_is_accepted(address: str):
    assert is_public(ipaddress.ip_address(address))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with an image, or badly."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/slow":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            self.drip()
        elif self.path == "/slow-headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            self.drip()
        elif self.path == "/huge":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        elif self.path == "/endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(1000):
                self.wfile.write(bytes(65536))
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/short":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc")
        elif self.path == "/nonsense":
            self.wfile.write(b"nonsense\r\n\r\n")
        elif self.path == "/cat.jpg":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CAT)))
            self.end_headers()
            self.wfile.write(CAT)
        else:
            self.send_error(404)

    def drip(self) -> None:
        for _ in range(100):
            time.sleep(0.05)
            self.wfile.write(b"a")
            self.wfile.flush()

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def web() -> Iterator[http.server.ThreadingHTTPServer]:
    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return  # clients that leave are what is tested

    server = Quiet(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[http.server.ThreadingHTTPServer]:
    with web() as server:
        yield server


def remote(site: http.server.ThreadingHTTPServer, **changes: object) -> tuple[Remote, list[str]]:
    """A Remote that may go to example.org, which it finds at the test's own server."""
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    settings = {"max_bytes": 10**6, "timeout_seconds": 60, "resolve": resolve, **changes}
    settings.setdefault("accepts", lambda address: True)
    port = site.server_address[1]
    return Remote([f"example.org:{port}"], **settings), looked_up  # type: ignore[arg-type]


def url(site: http.server.ThreadingHTTPServer, path: str) -> str:
    return f"http://example.org:{site.server_address[1]}{path}"


def refusal(made: Remote, target: str) -> ApiError:
    with pytest.raises(ApiError, match=".") as caught:
        asyncio.run(made.fetch(target))
    return caught.value


def test_a_image_of_an_allowed_host_is_fetched(site: http.server.ThreadingHTTPServer):
    made, looked_up = remote(site)
    assert asyncio.run(made.fetch(url(site, "/cat.jpg"))) == CAT
    assert looked_up == ["example.org"]


def test_a_redirect_within_the_allowed_hosts_is_followed(site: http.server.ThreadingHTTPServer):
    made, _ = remote(site)
    assert asyncio.run(made.fetch(url(site, "/to//cat.jpg"))) == CAT


NOT_ALLOWED = (
    *("http://other.org/cat.jpg", "http://sub.example.org/", "http://example.org.evil.org/"),
    *("http://example.org/", "http://example.org:1/", "http://127.0.0.1/", "http://0x7f000001/"),
    *("http://2130706433/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost/"),
    *("http://user@example.org/", "http://example.org@127.0.0.1/", "http://example.org%00.evil/"),
)


@pytest.mark.parametrize("target", NOT_ALLOWED)
def test_other_hosts_are_refused_without_being_looked_up(
    site: http.server.ThreadingHTTPServer, target: str
):
    made, looked_up = remote(site)
    assert refusal(made, target).status in (403, 422)
    assert looked_up == []


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://example.org/a", "gopher://example.org/", "cat.jpg", "", "//x"],
)
def test_what_is_no_http_is_refused(site: http.server.ThreadingHTTPServer, target: str):
    made, looked_up = remote(site)
    assert refusal(made, target).code == "bad_url"
    assert looked_up == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"])
def test_an_allowed_name_of_a_private_address_gets_no_packet(
    site: http.server.ThreadingHTTPServer, address: str
):
    before = len(site.asked)  # type: ignore[attr-defined]
    made, _ = remote(site, accepts=is_public, resolve=lambda host, port: ["8.8.8.8", address])
    assert refusal(made, url(site, "/cat.jpg")).code == "url_not_allowed"
    assert len(site.asked) == before  # type: ignore[attr-defined]


def test_the_connection_goes_to_the_address_that_was_checked(
    site: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
):
    """A name that is public when it is checked, and private when it is looked up again."""
    connected: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        connected.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr("toplabel._internal.http.socket.create_connection", connect)
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    made, _ = remote(site, accepts=is_public, resolve=lambda host, port: next(answers))
    assert refusal(made, url(site, "/cat.jpg")).code == "fetch_failed"
    assert connected == [("93.184.216.34", site.server_address[1])]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/", "http://169.254.169.254/", "file:///etc/passwd"]
)
def test_a_redirect_to_where_it_may_not_go_is_refused(
    site: http.server.ThreadingHTTPServer, target: str
):
    made, _ = remote(site)
    assert refusal(made, url(site, f"/to/{target}")).code in ("url_not_allowed", "bad_url")


def test_a_redirect_in_a_circle_ends(site: http.server.ThreadingHTTPServer):
    made, _ = remote(site)
    path = "/to/" * 9 + "/cat.jpg"
    assert refusal(made, url(site, path)).code == "fetch_failed"


@pytest.mark.parametrize("path", ["/huge", "/endless"])
def test_a_huge_body_is_refused(site: http.server.ThreadingHTTPServer, path: str):
    made, _ = remote(site)
    assert refusal(made, url(site, path)).code == "too_large"


@pytest.mark.parametrize("path", ["/slow", "/slow-headers"])
def test_a_server_that_drips_is_left_in_time(site: http.server.ThreadingHTTPServer, path: str):
    made, _ = remote(site, timeout_seconds=0.6)
    assert refusal(made, url(site, path)).code == "timeout"


@pytest.mark.parametrize("path", ["/missing", "/short", "/nonsense"])
def test_a_bad_answer_is_a_failure_without_details(
    site: http.server.ThreadingHTTPServer, path: str
):
    made, _ = remote(site)
    found = refusal(made, url(site, path))
    assert (found.status, found.code) == (422, "fetch_failed")
    assert "127.0.0.1" not in found.message


def test_a_server_with_an_allowed_host_still_refuses_private_addresses():
    with (
        web() as site,
        serving("--allow-url-host", f"localhost:{site.server_address[1]}") as server,
    ):
        body = b'{"url": "http://localhost:%d/cat.jpg"}' % site.server_address[1]
        reply = server.post("/v1/classify", body, "application/json")
        assert (reply.status, reply.code) == (403, "url_not_allowed")
        assert site.asked == []  # type: ignore[attr-defined]


class Waiting:
    """A remote whose URLs wait for each other, and of which one never comes."""

    def __init__(self, *, together: int) -> None:
        self.together, self.begun = together, 0
        self.all_begun = asyncio.Event()
        self.ended: list[str] = []

    async def fetch(self, target: str) -> bytes:
        self.begun += 1
        if self.begun == self.together:
            self.all_begun.set()
        try:
            await self.all_begun.wait()
        finally:
            self.ended.append(target)
        return target.encode()


def uploads_of(site: Waiting, urls: list[str], *, seconds: float) -> list[bytes]:
    """What a request with these URLs gets from this remote."""
    service = Service(
        models=None, bodies=BodyReader(ServeOptions()), labeller=None, options=ServeOptions(),
        metrics=None, remote=site, state=lambda: "ready",
    )  # type: ignore[arg-type]  # fmt: skip
    body = json.dumps({"urls": urls}).encode()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def ask() -> list[bytes]:
        headers = [(b"content-type", b"application/json")]
        state = {"deadline": time.monotonic() + seconds}
        scope = {"type": "http", "headers": headers, "method": "POST", "state": state}
        async with service.uploads(Request(scope, receive)) as uploads:
            return [upload.content for upload in uploads]

    return asyncio.run(ask())


def test_the_urls_of_a_request_are_fetched_at_once_and_come_back_in_order():
    urls = [f"http://a.example/{number}" for number in range(12)]
    assert uploads_of(Waiting(together=12), urls, seconds=60) == [url.encode() for url in urls]


def test_all_urls_of_a_request_share_its_deadline():
    site = Waiting(together=13)  # which is never reached
    with pytest.raises(ApiError) as caught:
        uploads_of(site, [f"http://a.example/{number}" for number in range(12)], seconds=0.2)
    assert (caught.value.status, caught.value.code) == (503, "busy")
    assert len(site.ended) == 12  # nothing goes on
