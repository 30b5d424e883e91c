"""A connection: uvicorn's HTTP/1.1 protocol, with an end to every wait for a client.

uvicorn waits for headers, and for a client that does not read, without end. So between asyncio
and uvicorn's protocol stands one of our own, by asyncio's public interfaces on both sides: to
asyncio it is the protocol, to uvicorn's protocol the transport. It parses nothing. Bodies have
their deadline in `middleware.py`, from which it also hears when a request begins and ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from toplabel.serve.api_error import ApiError, busy, headers_too_large

if TYPE_CHECKING:
    from toplabel.serve.options import ServeOptions

MAX_HEAD_BYTES = 16 * 2**10
"""Of a request's line and headers; uvicorn is told the same."""

_LINGER_SECONDS = 2.0
_REST_SECONDS = 1.0
_LINGER_BYTES = 16 * 2**20


class Connections:
    """Makes the protocol of each connection, and counts those that are open.

    Args:
        http: uvicorn's protocol class.
        options: What clients may do.
        count_refusal: Called with the code of each refusal that the application never sees.
    """

    def __init__(
        self,
        http: Callable[..., asyncio.Protocol],
        options: ServeOptions,
        count_refusal: Callable[[str], None],
    ) -> None:
        self.http = http
        self.options = options
        self.count_refusal = count_refusal
        self.open: set[Connection] = set()
        self._make: Callable[[], asyncio.Protocol] | None = None

    @property
    def in_head(self) -> bool:
        """Whether any client has sent a part of a request's headers; the head's timer ends that."""
        return any(one.in_head for one in self.open)

    def __call__(self, *, app_state: dict[str, Any], **settings: Any) -> asyncio.Protocol:
        """A connection's protocol, for uvicorn; the application finds it in its scope's state."""
        self._make = partial(self, app_state=app_state, **settings)
        connection = Connection(self)
        state = {**app_state, "connection": connection}
        connection.http = self.http(app_state=state, **settings)
        return connection

    async def take(self, sock: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere, as uvicorn has the others served."""
        if self._make is None:  # nobody has connected before
            sock.close()
            return
        sock.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(self._make, sock)


class Connection(asyncio.Protocol):
    """One connection. Ends it with 408 where the headers do not come in time."""

    http: asyncio.Protocol

    def __init__(self, every: Connections) -> None:
        self._every = every
        self._loop = asyncio.get_running_loop()
        self._transport = asyncio.Transport()
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._dropped_bytes = 0
        self._unsent: list[bytes] = []
        self._answering = False  # the application has a request
        self._parsing = False  # what is written now is uvicorn's own
        self._ended = False
        self.half_closed = self._loop.create_future()
        """Done when the client sends no more; whether it still reads, nobody knows."""
        self.receiving = False
        """Whether the client may be in the middle of a request."""

    @property
    def in_head(self) -> bool:
        """Whether a part of a request's headers is here, and not yet all."""
        return self._head_bytes > 0 and not self._ended  # none are counted while it is answered

    def __getattr__(self, name: str) -> Any:
        """For uvicorn: everything else is the transport's own."""
        return getattr(self._transport, name)

    # From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or refuse it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._every.open.add(self)
        self.http.connection_made(self)  # type: ignore[arg-type]
        if len(self._every.open) > self._every.options.max_connections:
            self.receiving = True
            self._refuse(busy("the server has too many connections"))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._ended = True
        self._every.open.discard(self)
        for timer in (self._head_timer, self._write_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        self.http.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand data on, and watch the time where a request begins with it."""
        if self._ended:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > _LINGER_BYTES:
                self._transport.abort()
            return
        if not self._answering:
            self.receiving = True
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        self._parsing = True
        try:
            self.http.data_received(data)
        finally:
            self._parsing = False
        if self._ended:  # refused in the middle of a body: the application has no client any more
            self.http.connection_lost(None)

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked is still answered."""
        asked = self._answering or self._head_bytes > 0
        if asked and not self._ended and not self.half_closed.done():
            self.half_closed.set_result(None)
            self._end_timer = self._loop.call_later(_REST_SECONDS, self._end_unfinished)
        self.http.eof_received()
        self._flush()  # before asyncio closes where nothing is asked
        return self.half_closed.done()

    def pause_writing(self) -> None:
        """The client does not take its response: give it some time, not all."""
        self.http.pause_writing()
        if self._write_timer is None:
            seconds = self._every.options.write_timeout
            self._write_timer = self._loop.call_later(seconds, self._transport.abort)

    def resume_writing(self) -> None:
        """The client has taken what there was."""
        self.http.resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # From uvicorn

    def write(self, data: bytes) -> None:
        """Send, together with what else is written before the event loop goes on.

        uvicorn writes headers and body apart. Each send lets another thread have Python's lock,
        which costs as much as a millisecond to get back.
        """
        if self._parsing and data and not self._ended:
            self._refuse(self._no_http())
        elif data and not self._ended:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(data)

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return self._ended or self._transport.is_closing()

    def close(self) -> None:
        """End the connection, in a while where the client is still sending.

        Closing a socket that holds unread bytes resets it, and the reset may overtake the response.
        So say that no more is sent, and drop what comes, for a short time and some bytes.
        """
        if self._ended:
            return
        self._ended = True
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._end_timer = self._loop.call_later(_LINGER_SECONDS, self._transport.abort)
        self._flush()
        if self.receiving:
            self._transport.resume_reading()
            with suppress(OSError):  # the client has gone already
                self._transport.write_eof()
        else:
            self._transport.close()

    # From the middleware

    def begin_request(self, *, has_body: bool) -> None:
        """The headers are complete, and the application has the request."""
        self._answering = True
        self.receiving = has_body
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._ended:  # the rest of it came with the one before, and is no HTTP: nobody waits
            self.http.connection_lost(None)

    def end_request(self) -> None:
        """The application has answered."""
        self._answering = False
        if self.half_closed.done():  # and no request follows that has come already
            self._loop.call_soon(self._end_answered)

    def _end_answered(self) -> None:
        if not self._answering:
            self.close()

    def _end_unfinished(self) -> None:
        """End where the rest of a request will never come; all that was sent is read by now."""
        if self.receiving and not self._ended:
            self._transport.close()

    def _await_head(self) -> None:
        seconds = self._every.options.header_timeout
        text = f"the request's headers took longer than {seconds:g} seconds"
        late = ApiError(408, "timeout", text)
        self._head_timer = self._loop.call_later(seconds, self._be_late, late)

    def _be_late(self, error: ApiError) -> None:
        # one turn later: a request that came in this one is begun before that
        self._loop.call_soon(self._refuse_late, error, self._head_timer)

    def _refuse_late(self, error: ApiError, timer: asyncio.TimerHandle | None) -> None:
        if self._head_timer is timer and not self._ended:
            self._refuse(error)

    def _no_http(self) -> ApiError:
        """What uvicorn refuses by itself."""
        if self._head_bytes > MAX_HEAD_BYTES:
            return headers_too_large()
        return ApiError(400, "bad_request", "this is not a valid HTTP/1.1 request")

    def _refuse(self, error: ApiError) -> None:
        """Answer without the application, and end the connection."""
        self._every.count_refusal(error.code)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(error.body)),
            **error.headers,
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._unsent.append("\r\n".join([*lines, "", ""]).encode() + error.body)
        self.close()

    def _flush(self) -> None:
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._transport.write(data)
