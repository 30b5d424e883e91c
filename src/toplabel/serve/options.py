"""Options of the server: what it serves where, and what its clients may do."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from toplabel._internal.options import option
from toplabel.errors import UsageError

Batching = Literal["auto", "on", "off"]

TOKEN_VARIABLE = "TOPLABEL_TOKEN"
MAX_PIXELS = 50_000_000
"""Of an image, unless `ReadOptions` has another limit: strangers send them, several at a time."""

_MIB = 2**20
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)
_ORIGIN = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?/?", re.ASCII | re.IGNORECASE)
_QUEUE = 128
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What a server does, and what it takes from its clients.

    Raises:
        UsageError: A value is out of its range, or two contradict each other.
    """

    host: str = option("127.0.0.1", metavar="HOST", help="Address to listen on.")
    port: int = option(
        8000,
        minimum=0,
        maximum=65535,
        metavar="PORT",
        help="Port to listen on; 0 picks a free one.",
    )
    token_file: str | None = option(
        None,
        metavar="FILE",
        help="Require the bearer token in this file; without it the one in TOPLABEL_TOKEN, if set.",
    )
    allowed_hosts: Sequence[str] = option(
        (),
        flags=("--allowed-host",),
        metavar="NAME",
        help="Answer to this host name. By default a server on 127.0.0.1 answers to"
        " localhost and to addresses only, others to any name.",
    )
    cors_origins: Sequence[str] = option(
        (),
        flags=("--cors-origin",),
        metavar="ORIGIN",
        help="Let pages of this origin (https://example.com) use the server.",
    )
    url_hosts: Sequence[str] = option(
        (),
        flags=("--allow-url-host",),
        metavar="HOST",
        help="Fetch images that requests name by URL from this host.",
    )
    root_path: str = option(
        "",
        metavar="PATH",
        help="Path below which a proxy serves this (/labels), whether or not it takes it away.",
    )
    batching: Batching = option(
        "auto",
        choices=get_args(Batching),
        help="Run concurrent requests in one call of the engine; auto does so on GPUs."
        " Without it a CPU takes one image at a time, with it 8 (--batch-size).",
    )
    no_access_log: bool = option(False, help="Do not log requests.")
    max_body: int = option(
        32 * _MIB, minimum=1, metavar="BYTES", help="Largest request body.  [default: 32 MiB]"
    )
    max_images: int = option(
        32, minimum=1, metavar="N", help="Most images of one request.  [default: 32]"
    )
    queue: int | None = option(
        None, minimum=1, metavar="N", help=f"Most images that wait.  [default: {_QUEUE}]"
    )
    max_connections: int = option(
        1000, minimum=1, metavar="N", help="Most open connections.  [default: 1000]"
    )
    header_timeout: float = option(
        10.0, metavar="SECONDS", help="Time to send the headers.  [default: 10]"
    )
    body_timeout: float = option(
        30.0, metavar="SECONDS", help="Time to send the body.  [default: 30]"
    )
    request_timeout: float = option(
        60.0, metavar="SECONDS", help="Time until the response.  [default: 60]"
    )
    drain_timeout: float = option(
        30.0,
        metavar="SECONDS",
        help="Time to finish accepted requests when told to stop.  [default: 30]",
    )
    lame_duck: float = option(
        1.0,
        metavar="SECONDS",
        help="How long to keep accepting after SIGTERM while /health/ready is 503.  [default: 1]",
    )
    write_timeout: float = option(
        30.0, shell=False, help="How long a client may leave a response unread."
    )
    keep_alive: float = option(
        75.0,
        metavar="SECONDS",
        help="How long a connection without a request is kept; longer than a load balancer in front"
        " keeps it.  [default: 75]",
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            zero = one.name in ("port", "lame_duck")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not (0 < value < math.inf or (zero and value == 0)):
                least = "of at least 0" if zero else "above 0"
                raise UsageError(f"got {one.name}={value!r}; expected a number {least}")
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise UsageError(
                f"got root_path={self.root_path!r}; expected a path like /labels, of letters,"
                " digits and - . _ ~, without a slash at its end"
            )
        for origin in self.cors_origins:
            if origin != "null" and not _ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"got cors_origins={origin!r}; expected the origin of pages, as browsers send"
                    " it: https://example.com or http://localhost:5173; each is named by itself"
                )
        if self.queue is not None and self.queue < self.max_images:
            raise UsageError(
                f"got queue={self.queue} and max_images={self.max_images}; expected a queue with"
                " room for one request at least"
            )

    @property
    def capacity(self) -> int:
        """Most images that wait for a worker; more are refused with 503."""
        return self.queue or max(_QUEUE, self.max_images)

    @property
    def max_held(self) -> int:
        """Most bytes of bodies held at one time, of all requests together."""
        return max(128 * _MIB, 2 * self.max_body)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def read_token(self) -> str | None:
        """The token that requests must carry: from the file, else from the environment.

        Raises:
            UsageError: The file cannot be read, or the token is too weak for one.
        """
        if self.token_file is not None:
            try:
                token = Path(self.token_file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"cannot read the token in {self.token_file!r}: {error}"
                ) from error
        elif TOKEN_VARIABLE in os.environ:
            token = os.environ[TOKEN_VARIABLE].strip()
        else:
            return None
        plain = token.isascii() and token.isprintable() and " " not in token
        if len(token) < _SHORTEST_TOKEN or not plain:
            raise UsageError(
                f"the token must be at least {_SHORTEST_TOKEN} printable ASCII characters without"
                " spaces; make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        return token
