"""Limits: what a server takes from its clients, and how long it waits for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from toplabel.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes from its clients.

    Args:
        body_bytes: Largest body of a request, as sent; for base64, the text.
        buffered_bytes: Largest sum of the bodies held at one time, of all requests together.
        images: Most images of one request.
        queued: Most images that wait for a worker; more are refused with 503.
        connections: Most open connections; more are refused with 503.
        head_seconds: For a request's line and headers, from the first byte to the last.
        body_seconds: For a request's body, from the first byte to the last.
        request_seconds: From the request's headers to its answer.
        write_seconds: How long a client may leave an answer unread.
        idle_seconds: How long a connection without a request is kept.
        drain_seconds: How long a server that was told to stop finishes what it has accepted.

    Raises:
        UsageError: One of them is no number above 0, or two contradict each other.
    """

    body_bytes: int = 32 * 2**20
    buffered_bytes: int = 256 * 2**20
    images: int = 32
    queued: int = 128
    connections: int = 1000
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    request_seconds: float = 60.0
    write_seconds: float = 30.0
    idle_seconds: float = 15.0
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise UsageError(f"got {field.name} {value!r}; expected a number above 0")
        if self.buffered_bytes < self.body_bytes:
            raise UsageError(
                f"got buffered_bytes {self.buffered_bytes:,}, less than body_bytes"
                f" {self.body_bytes:,}; expected room for one body at least"
            )
        if self.queued < self.images:
            raise UsageError(
                f"got queued {self.queued}, less than images {self.images}; expected room for one"
                " request at least"
            )
