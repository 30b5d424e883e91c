"""The gate: who may ask. One place, before every route, method and spelling of a path.

A page that somebody visits elsewhere must not use a server on this machine: its requests carry an
Origin or Sec-Fetch-Site of another site, or, where its name was made to lead here (DNS rebinding),
that name as their Host.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING

from toplabel.serve.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Scope

    from toplabel.serve.options import ServeOptions

    RawHeaders = Sequence[tuple[bytes, bytes]]

_READING = ("GET", "HEAD")
_PREFLIGHT_SECONDS = b"600"
_SHOWN_HEADERS = (
    *(b"X-Request-Id", b"X-Explanation", b"X-Warnings", b"X-Unknown", b"X-Precision"),
    b"Retry-After",
)


class Gate:
    """Lets requests pass, or refuses them.

    Args:
        options: The hosts and origins that are allowed.
        token: The secret that requests must carry; None: none.
        open_paths: What may be read without it: health, and the pages with their files.
    """

    def __init__(
        self, options: ServeOptions, *, token: str | None, open_paths: frozenset[str]
    ) -> None:
        self._token = token
        self._open_paths = open_paths
        self._hosts = frozenset(host.lower() for host in options.allowed_hosts)
        self._any_host = not options.is_local and not self._hosts
        self._origins = frozenset(origin.lower().rstrip("/") for origin in options.cors_origins)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Let one request pass.

        Raises:
            ApiError: 401 or 403.
        """
        self._check_host(headers.get(b"host", b"").decode("latin-1"))
        if scope["path"] in self._open_paths and scope["method"] in _READING:
            return
        self._check_origin(headers)
        if self._token is not None and not self.is_preflight(scope, headers):
            given = headers.get(b"authorization", b"").decode("latin-1")
            check_token(given, token=self._token)

    def is_preflight(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a browser asks if a page of an allowed origin may ask; it sends no token."""
        asks = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        return asks and self._is_allowed(headers.get(b"origin", b""))

    def cors_headers(self, headers: Mapping[bytes, bytes], *, preflight: bool) -> RawHeaders:
        """What tells a browser that a page of this origin may read the answer."""
        if not self._origins:
            return ()
        varies = ((b"vary", b"Origin"),)
        origin = headers.get(b"origin", b"")
        if not self._is_allowed(origin):
            return varies
        allowed = ((b"access-control-allow-origin", origin), *varies)
        if not preflight:
            shown = b", ".join(_SHOWN_HEADERS)
            return (*allowed, (b"access-control-expose-headers", shown))
        return (
            *allowed,
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-allow-headers", b"Authorization, Content-Type, X-Request-Id"),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        )

    def _is_allowed(self, origin: bytes) -> bool:
        return origin.decode("latin-1").lower() in self._origins

    def _check_host(self, given: str) -> None:
        name = _name_of(given)
        if (
            self._any_host
            or not given  # HTTP/1.0, which no browser speaks
            or name in self._hosts
            or name == "localhost"
            or name.endswith(".localhost")
            or _is_address(name)  # no name that could lead elsewhere tomorrow
        ):
            return
        raise ApiError(
            403,
            "host_not_allowed",
            f"this server does not answer to the host name {name[:100]!r}; ask it by its address,"
            " or let it allow the name with --allowed-host",
        )

    def _check_origin(self, headers: Mapping[bytes, bytes]) -> None:
        origin = headers.get(b"origin")
        if origin is None:
            foreign = headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none")
        else:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            own = origin.decode("latin-1").lower().partition("://")[2] == host != ""
            foreign = not own and not self._is_allowed(origin)
        if foreign:
            raise ApiError(
                403,
                "origin_not_allowed",
                "this server does not answer to pages of other sites; allow one with --cors-origin",
            )


def check_token(authorization: str, *, token: str) -> None:
    """Let a request pass whose `Authorization: Bearer ...` is the token.

    Raises:
        ApiError: 401.
    """
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise ApiError(
            401,
            "unauthorized",
            "this server requires a token; send Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _name_of(host: str) -> str:
    """The name or address in a Host header, without the port: "[::1]:80" -> "::1"."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
