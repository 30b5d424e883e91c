"""The protocol: uvicorn's HTTP/1.1 connection, with an end to every wait for a client.

uvicorn has no time limit for a request's headers or body, and its keep-alive timer starts anew
with each byte. Whatever runs behind it runs too late: the headers have to be complete first.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from toplabel.serve.api_error import Refusal, busy
from toplabel.serve.lingering import LingeringTransport

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from toplabel.serve.limits import Limits

LAST_CHANCE_SECONDS = 0.5

Phase = Literal["head", "body", None]


class GuardedProtocol(H11Protocol):
    """One connection. Reads a request within its time, or answers 408 and ends it.

    `limits` and `count_refusal` are set by `guarded`, as uvicorn makes the instances.
    """

    limits: Limits
    count_refusal: Callable[[str], None]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._phase: Phase = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        self._lingering = LingeringTransport(transport, self.loop, self._is_sending)
        super().connection_made(self._lingering)  # type: ignore[arg-type]
        if len(self.connections) > self.limits.connections:
            self._phase = "head"
            self._refuse(busy("the server has too many connections"))
            return
        self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        for timer in (self._read_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._lingering.forget()

    def data_received(self, data: bytes) -> None:
        """Read on, and watch the time."""
        if self._lingering.lingers:
            self._lingering.drop(len(data))
            return
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Go on to the next request, if the client has sent some of it already."""
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        """The client does not take its answer: give it some time, not all."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self.limits.write_seconds, self._lingering.abort
            )

    def resume_writing(self) -> None:
        """The client has taken what there was."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def shutdown(self) -> None:
        """The server stops: a connection without a request gets a last chance to bring one.

        A client that has just connected, or is just sending its next request, cannot know yet. What
        it brings is answered, and the answer ends the connection.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        else:
            self.loop.call_later(LAST_CHANCE_SECONDS, self._shut_if_quiet)

    def _shut_if_quiet(self) -> None:
        asked = self.cycle is not None and not self.cycle.response_complete
        begun = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        if not asked and not begun and not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP. uvicorn calls this where h11 has raised an error."""
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        if status == 431:
            refusal = Refusal(431, "headers_too_large", "the request's headers are too large")
        else:
            refusal = Refusal(400, "bad_request", "this is no valid HTTP/1.1 request")
        self._refuse(refusal)

    def _follow(self) -> None:
        """Notice which part of a request is being read now, and start its time."""
        if self.transport.is_closing():
            self._enter(None)
            return
        theirs = self.conn.their_state
        if theirs is h11.SEND_BODY:
            self._enter("body")
        elif theirs is h11.IDLE and self.conn.trailing_data[0]:
            self._enter("head")
        elif theirs is h11.IDLE and self.cycle is not None:
            self._enter(None)
            if self.timeout_keep_alive_task is None and self.cycle.response_complete:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        elif theirs is not h11.IDLE:  # a whole request: now it is the server's turn
            self._enter(None)

    def _enter(self, phase: Phase) -> None:
        if phase == self._phase and self._read_timer is not None:
            return
        self._phase = phase
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        if phase is not None:
            seconds = self.limits.head_seconds if phase == "head" else self.limits.body_seconds
            self._read_timer = self.loop.call_later(seconds, self._be_late, phase, seconds)

    def _be_late(self, phase: str, seconds: float) -> None:
        part = "headers" if phase == "head" else "body"
        if phase == "body" and self.cycle is not None:
            self.scope["state"]["late"] = True
        text = f"the request's {part} took longer than {seconds:g} seconds"
        self._refuse(Refusal(408, "timeout", text))

    def _is_sending(self) -> bool:
        """Whether the client may be in the middle of a request."""
        return self._phase is not None or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer here, without the application, and end the connection."""
        if self.transport.is_closing():
            return
        type(self).count_refusal(refusal.code)
        self._unset_keepalive_if_required()
        answered = self.cycle is not None and self.cycle.response_started
        if not answered or self.cycle.response_complete:
            self.transport.write(_encoded(refusal))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application, if it waits, goes on
            self.cycle.message_event.set()
        self.transport.close()
        if self._read_timer is not None:
            self._read_timer.cancel()


def guarded(limits: Limits, count_refusal: Callable[[str], None]) -> type[GuardedProtocol]:
    """The protocol with these limits, as a class for uvicorn to make instances of.

    Args:
        limits: What a connection may do.
        count_refusal: Called with the code of each refusal that the application never sees.
    """
    settings = {"limits": limits, "count_refusal": staticmethod(count_refusal)}
    return type("LimitedProtocol", (GuardedProtocol,), settings)


def _encoded(refusal: Refusal) -> bytes:
    phrases = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
    phrase = phrases.get(refusal.status, "Request Header Fields Too Large")
    body = refusal.body
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **refusal.headers,
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {refusal.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
