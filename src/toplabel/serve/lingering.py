"""Lingering: a connection closed so that the client still gets its answer; and fewer, larger sends.

Closing a socket that holds unread bytes resets it, and the reset may overtake the answer. So the
server first says that it sends no more, and drops what comes, for a short time and some bytes.

uvicorn writes an answer's headers and body apart. Each send lets another thread have Python's lock,
which costs as much as a millisecond to get back, so what is written at once is sent at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LINGER_SECONDS = 2.0
LINGER_BYTES = 16 * 2**20


class LingeringTransport:
    """A transport whose `close` waits for the client's end where the client is still sending.

    Args:
        transport: The connection.
        loop: Its event loop.
        is_sending: Whether the client may be in the middle of sending something.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_sending: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._is_sending = is_sending
        self._dropped_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unsent: list[bytes] = []
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        """Everything but closing is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, together with what else is written before the event loop goes on."""
        if data:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(data)

    def _flush(self) -> None:
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """End the connection, in a while where the client is still sending."""
        if self._timer is None:  # also for a client that does not take the rest of its answer
            self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)
        if self.lingers or self._transport.is_closing():
            return
        self._flush()
        if not self._is_sending():
            self._transport.close()
            return
        self.lingers = True
        self._transport.resume_reading()
        with suppress(OSError):  # the client has gone already
            self._transport.write_eof()

    def drop(self, size_bytes: int) -> None:
        """Count what came after the end; too much of it ends the connection at once."""
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > LINGER_BYTES:
            self._transport.abort()

    def forget(self) -> None:
        """The connection is gone: stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
