"""An S3 server on the loopback address behind a proxy that has bad days."""

import http.client
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = tuple[int, str] | None
"""A status and S3's code of an error; None: what the store answers."""

SLOW_DOWN = (503, "SlowDown")
AWAY = (-1, "")
"""The connection is closed without an answer."""


class StoreProxy(ThreadingHTTPServer):
    """Hands requests on to a store, unless `mood` says otherwise.

    `mood` is called with method, path with query, and how often this was asked for before.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = (host, port)
        self.mood: Callable[[str, str, int], Answer] = lambda method, path, times: None
        self.asked: Counter[str] = Counter()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        proxy: Any = self.server
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        request = f"{self.command} {self.path}"
        times, proxy.asked[request] = proxy.asked[request], proxy.asked[request] + 1
        answer = proxy.mood(self.command, self.path, times)
        if answer == AWAY:
            self.close_connection = True
            self.connection.close()
        elif answer is not None:
            status, code = answer
            text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self._send(status, [("Content-Type", "application/xml")], text)
        else:
            connection = http.client.HTTPConnection(*proxy.store, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers))
            found = connection.getresponse()
            self._send(found.status, found.getheaders(), found.read(), found.length)
            connection.close()

    def _send(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        dropped = ("content-length", "transfer-encoding", "connection")
        for name, value in headers:
            if name.lower() not in dropped or (self.command == "HEAD" and name == "Content-Length"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        """Silence."""
