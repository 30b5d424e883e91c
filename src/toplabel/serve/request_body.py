"""Bodies: a request in, its body out, within the limits of one request and of all together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from toplabel.serve.api_error import Refusal, busy, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

    from toplabel.serve.limits import Limits


class Bodies:
    """Reads bodies, and counts the bytes of those that are held at a time.

    Belongs to one event loop.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, which counts as held until the end of the `async with`.

        Raises:
            Refusal: 400, 413, 415, or 503 where all requests together hold too much.
        """
        check_headers(request.headers.get("content-length"), limits=self._limits)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(
                415,
                "unsupported_encoding",
                "the body is compressed (Content-Encoding); send it as it is",
                close=True,
            )
        held = 0
        try:
            chunks: list[bytes] = []
            async for chunk in request.stream():
                held += len(chunk)
                self.held_bytes += len(chunk)
                self._check(held)
                chunks.append(chunk)
            body = b"".join(chunks)
            chunks.clear()
            yield body
        finally:
            self.held_bytes -= held

    def _check(self, held: int) -> None:
        if held > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)
        if self.held_bytes > self._limits.buffered_bytes:
            raise busy("the server holds as many bytes of requests as it may")


def check_headers(content_length: str | None, *, limits: Limits) -> None:
    """Refuse a body by the length that its header states, before any of it is read.

    Raises:
        Refusal: 413.
    """
    if content_length is not None and int(content_length) > limits.body_bytes:
        raise too_large(limits.body_bytes)
