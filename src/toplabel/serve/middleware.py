"""The edge: what happens to every request before and after the application, whatever it is.

A plain ASGI application around the other: it names the request, refuses what need not be read,
turns what nobody has caught into a 500 that says nothing, counts, and writes the journal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toplabel.serve.access_log import ACCESS, request_id
from toplabel.serve.api_error import Refusal, busy
from toplabel.serve.request_body import check_headers
from toplabel.serve.tokens import check_token

if TYPE_CHECKING:
    from toplabel.serve.lifecycle import Lifecycle
    from toplabel.serve.limits import Limits
    from toplabel.serve.metrics import Metrics
    from toplabel.serve.work import Workers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What the journal calls a request whose client left; nginx's number, never sent."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_CACHE = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What the edge needs to know.

    Args:
        limits: Of a request.
        token: The secret that requests must carry; None: none.
        open_paths: Of what is answered without it: health, and the page with its files.
    """

    limits: Limits
    token: str | None
    open_paths: frozenset[str]


class Edge:
    """The application that uvicorn calls; `app` is the one behind it, None until that is ready."""

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        lifecycle: Lifecycle,
        workers: Workers,
        metrics: Metrics,
    ) -> None:
        self.app: Application | None = None
        self._settings = settings
        self._lifecycle = lifecycle
        self._workers = workers
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        answer = _Answer(scope, send, self._lifecycle)
        scope["state"]["deadline"] = time.monotonic() + self._settings.limits.request_seconds
        scope["state"]["request_id"] = answer.request_id
        self._metrics.in_flight.inc()
        try:
            self._check(scope, answer.headers)
            if self.app is None:
                await _answer_early(scope, answer)
            else:
                await self.app(scope, receive, answer.send)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Exception as error:
            await self._fail(error, scope, answer)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, answer)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Refuse what need not be read.

        Raises:
            Refusal: 401, 413 or 503.
        """
        settings = self._settings
        if settings.token is not None and scope["path"] not in settings.open_paths:
            given = headers.get(b"authorization", b"").decode("latin-1")
            check_token(given, token=settings.token)
        length = headers.get(b"content-length")
        check_headers(None if length is None else length.decode(), limits=settings.limits)
        if scope["method"] == "POST" and self._workers.is_full:
            raise busy("the queue is full")

    async def _fail(self, error: Exception, scope: Scope, answer: _Answer) -> None:
        """Answer 500 where something is left that nobody has caught; its text goes to the log."""
        facts = {"request_id": answer.request_id}
        logger.error("a defect of the server", exc_info=error, extra={"facts": facts})
        if answer.status is None:
            await answer.refuse(Refusal(500, "internal", "this is a defect of the server"))

    def _note(self, scope: Scope, answer: _Answer) -> None:
        seconds = time.perf_counter() - answer.started
        route = getattr(scope.get("route"), "path", None) or "(none)"
        late = scope["state"].get("late")  # answered with 408 by the protocol already
        status = 408 if late else answer.status or CLIENT_GONE
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            client = scope.get("client")
            facts = {
                "request_id": answer.request_id,
                "client": None if client is None else client[0],
                "method": scope["method"][:20],
                "path": scope["path"][:200],
                "status": status,
                "milliseconds": round(1000 * seconds, 2),
                **scope["state"].get("facts", {}),
            }
            ACCESS.info("request", extra={"facts": facts})


async def _answer_early(scope: Scope, answer: _Answer) -> None:
    """What there is to say while models are being loaded.

    Raises:
        Refusal: 503, for all but the question whether the server is there.
    """
    if (scope["method"], scope["path"]) not in (
        ("GET", "/health/live"),
        ("GET", "/v2/health/live"),
    ):
        raise Refusal(503, "not_ready", "the server is starting")
    await answer.send_whole(200, b'{"status": "live"}', {})


_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)


class _Answer:
    """The answer to one request: what its headers get on their way out, and what became of it."""

    def __init__(self, scope: Scope, send: Send, lifecycle: Lifecycle) -> None:
        self.started = time.perf_counter()
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id(self.headers.get(b"x-request-id"))
        self.status: int | None = None
        self._send = send
        self._lifecycle = lifecycle

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            headers += _HEADERS
            headers.append((b"x-request-id", self.request_id.encode()))
            if b"cache-control" not in names:
                headers.append(_NO_CACHE)
            if self._lifecycle.state == "draining" and b"connection" not in names:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error."""
        await self.send_whole(refusal.status, refusal.body, refusal.headers)

    async def send_whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Answer with a JSON body."""
        fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})
