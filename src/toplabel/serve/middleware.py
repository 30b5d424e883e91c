"""The outermost ASGI application: what happens to every request, whatever is asked for.

It names the request, refuses what need not be read, ends bodies that come too slowly, turns what
nobody has caught into a 500 that says nothing, counts, and writes the access log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from toplabel.serve.access_log import ACCESS, request_id
from toplabel.serve.api_error import INTERNAL, ApiError, busy, headers_too_large, too_large
from toplabel.serve.connection import MAX_HEAD_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from toplabel.serve.connection import Connection
    from toplabel.serve.gate import Gate
    from toplabel.serve.metrics import Metrics
    from toplabel.serve.options import ServeOptions
    from toplabel.serve.work import Workers

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What the access log calls a request whose client left; nginx's number, never sent."""

State = Literal["starting", "ready", "draining"]

_SKIP_SECONDS, _SKIP_BYTES = 0.05, 2**20
_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Middleware:
    """The application that uvicorn calls.

    Args:
        options: What clients may do.
        gate: Who may ask.
        workers: Full ones refuse requests before their body is read.
        metrics: Counts requests.
    """

    def __init__(
        self,
        options: ServeOptions,
        *,
        gate: Gate,
        workers: Workers,
        metrics: Metrics,
    ) -> None:
        self.app: ASGIApp | None = None
        """The application behind, once it is ready."""
        self.state: State = "starting"
        self.options = options
        self.gate = gate
        self._workers = workers
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        root = self.options.root_path
        if root and (scope["path"] + "/").startswith(root + "/"):  # the proxy did not take it away
            scope["path"] = scope["path"].removeprefix(root) or "/"
        exchange = _Exchange(scope, receive, send, self)
        scope["state"]["deadline"] = time.monotonic() + self.options.request_timeout
        scope["state"]["request_id"] = exchange.request_id
        self._metrics.in_flight.inc()
        try:
            self._check(scope, exchange.headers)
            if exchange.is_preflight:
                await exchange.send_whole(204, b"", {})
            elif self.app is None:
                await _answer_early(scope, exchange)
            else:
                await self.app(scope, exchange.receive, exchange.send)
        except ApiError as error:
            if exchange.status is None:
                await exchange.refuse(error)
        except Exception as error:
            facts = {"request_id": exchange.request_id}
            logger.error("unexpected error", exc_info=error, extra={"facts": facts})
            if exchange.status is None:
                await exchange.refuse(ApiError(500, "internal", INTERNAL))
        finally:
            exchange.connection.end_request()
            self._metrics.in_flight.dec()
            self._log(scope, exchange)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Refuse what need not be read.

        Raises:
            ApiError: 401, 403, 413, 431 or 503.
        """
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD_BYTES:
            raise headers_too_large()  # what came at once, uvicorn takes at any size
        self.gate.check(scope, headers)
        if int(headers.get(b"content-length", b"0")) > self.options.max_body:
            raise too_large(self.options.max_body)
        if scope["method"] == "POST" and self._workers.is_full:
            raise busy("the queue is full")

    def _log(self, scope: Scope, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.started
        route = getattr(scope.get("route"), "path", None) or "(none)"
        status = exchange.status or CLIENT_GONE
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        if exchange.is_late:
            self._metrics.refused.labels("timeout").inc()
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            client = scope.get("client")
            facts = {
                "request_id": exchange.request_id,
                "client": None if client is None else client[0],
                "method": scope["method"][:20],
                "path": scope["path"][:200],
                "status": status,
                "milliseconds": round(1000 * seconds, 2),
                **scope["state"].get("facts", {}),
            }
            ACCESS.info("request", extra={"facts": facts})


async def _answer_early(scope: Scope, exchange: _Exchange) -> None:
    """What there is to answer while models are being loaded.

    Raises:
        ApiError: 503, for all but the question whether the server is there.
    """
    if (scope["method"], scope["path"]) not in (
        ("GET", "/health/live"),
        ("GET", "/v2/health/live"),
    ):
        raise ApiError(503, "not_ready", "the server is starting")
    await exchange.send_whole(200, b'{"status": "live"}', {})


def _below(root: str, name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header; where it leads elsewhere on this server, by a path that a proxy's clients know."""
    if name.lower() != b"location":
        return name, value
    parts = urlsplit(value.decode("latin-1"))
    query = f"?{parts.query}" if parts.query else ""
    return name, f"{root}{parts.path}{query}".encode("latin-1")


class _Exchange:
    """One request and its response: what passes between uvicorn and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, middleware: Middleware) -> None:
        self.started = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id(self.headers.get(b"x-request-id"))
        self.is_preflight = middleware.gate.is_preflight(scope, self.headers)
        self.status: int | None = None
        self.is_late = False
        self.connection: Connection = scope["state"]["connection"]
        self._middleware = middleware
        self._receive = receive
        self._send = send
        self._seconds = middleware.options.body_timeout
        self._deadline = asyncio.get_running_loop().time() + self._seconds
        has_body = self.headers.get(b"content-length", b"0") != b"0"
        has_body |= b"transfer-encoding" in self.headers
        self.connection.begin_request(has_body=has_body)

    async def receive(self) -> Message:
        """The next part of the body, while there is time for it.

        Raises:
            ApiError: 408.
        """
        if not self.connection.receiving:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive_part()
        except TimeoutError as error:
            self.is_late = True
            text = f"the request's body took longer than {self._seconds:g} seconds"
            raise ApiError(408, "timeout", text) from error

    async def _receive_part(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):  # the last part, or the client has gone
            self.connection.receiving = False
        return message

    async def _skip_body(self) -> None:
        """Take a small body that nobody reads, if it comes at once: the connection can be kept."""
        length = int(self.headers.get(b"content-length", b"0"))
        if not 0 < length <= _SKIP_BYTES or b"expect" in self.headers:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_SKIP_SECONDS):
                while self.connection.receiving:
                    await self._receive_part()

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers that every response has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.connection.receiving and not self.is_late:
                await self._skip_body()
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            if b"location" in names:
                headers = [_below(self._middleware.options.root_path, *field) for field in headers]
            headers += _HEADERS
            headers += self._middleware.gate.cors_headers(self.headers, preflight=self.is_preflight)
            headers.append((b"x-request-id", self.request_id.encode()))
            if b"cache-control" not in names:
                headers.append((b"cache-control", b"no-store"))
            # what is left of a body has no deadline any more, so it ends with the response
            ends = self.connection.receiving or self._middleware.state == "draining"
            if ends and b"connection" not in names:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error."""
        await self.send_whole(error.status, error.body, error.headers)

    async def send_whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Answer with a JSON body."""
        fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})
