"""HTTP: a URL in, its body out, within one deadline, one size and a number of redirects."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from toplabel._version import __version__

PORTS = {"http": 80, "https": 443}
_BLOCK_BYTES = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HttpError(Exception):
    """A URL that could not be fetched.

    Args:
        problem: What went wrong; "status" for an answer other than 2xx.
        message: For people.
        status: Of that answer.
    """

    def __init__(
        self,
        problem: Literal["timeout", "too_large", "status", "failed"],
        message: str,
        *,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How a URL is fetched.

    Args:
        timeout_seconds: From now to the last byte, redirects and all; None for no limit.
        stall_seconds: Longest wait for a connection or the next bytes.
        max_bytes: Largest body; None for no limit.
        max_redirects: How many are followed, to http and https only.
        accept: The header of that name.
        address_of: Called with each URL before a connection is opened for it, those of redirects
            too. Gives the address to connect to, so that a host which was checked cannot change
            its address afterwards; or raises, and then no packet is sent. Where it is given, no
            proxy is used.
    """

    timeout_seconds: float | None = None
    stall_seconds: float = 30.0
    max_bytes: int | None = None
    max_redirects: int = 10
    accept: str = "*/*"
    address_of: Callable[[str], str] | None = None


def get(url: str, options: FetchOptions) -> bytes:
    """The body that a URL answers with.

    Raises:
        HttpError: It cannot be fetched within the limits.
    """
    with open_url(url, options) as body:
        return b"".join(body)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of an answer: iterate for its blocks, once. `length` in bytes, where stated."""

    length: int | None
    _blocks: Iterator[bytes]

    def __iter__(self) -> Iterator[bytes]:
        with _failures():
            yield from self._blocks


@contextmanager
def open_url(url: str, options: FetchOptions) -> Iterator[Body]:
    """The answer of a URL, its body not read yet.

    Raises:
        HttpError: It cannot be fetched within the limits; also while the body is read.
    """
    left = _countdown(options)
    with _failures():
        connection, response = _follow(_encoded(url), options, left)
    try:
        if not 200 <= response.status < 300:
            message = f"the server answered {response.status} {response.reason}"
            raise HttpError("status", message, status=response.status)
        _check_size(response.length, options)
        yield Body(response.length, _blocks(response, options, left))
    finally:
        response.close()
        connection.close()


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what the network and the standard library raise into an `HttpError`."""
    try:
        yield
    except TimeoutError as error:
        raise HttpError("timeout", "it took too long") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise HttpError("failed", reason) from error


def _countdown(options: FetchOptions) -> Callable[[], float]:
    """What gives the seconds that the next step may take, or raises `TimeoutError`."""
    total = float("inf") if options.timeout_seconds is None else options.timeout_seconds
    deadline = time.monotonic() + total

    def left() -> float:
        seconds = min(deadline - time.monotonic(), options.stall_seconds)
        if seconds <= 0:
            raise TimeoutError
        return seconds

    return left


def _encoded(url: str) -> str:
    """As browsers do: spaces and letters beyond ASCII are encoded, what is encoded stays."""
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~", errors="surrogateescape")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?", errors="surrogateescape")
    return parts._replace(netloc=host, path=path, query=query, fragment="").geturl()


def _follow(
    url: str, options: FetchOptions, left: Callable[[], float]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """The first answer that is not a redirect."""
    for _ in range(options.max_redirects + 1):
        connection, response = _request(url, options, left)
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or location is None:
            return connection, response
        response.close()
        connection.close()
        url = _encoded(urljoin(url, location))
    raise HttpError("failed", "it redirects too often")


def _request(
    url: str, options: FetchOptions, left: Callable[[], float]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    address = options.address_of and options.address_of(url)
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc:
        raise HttpError("failed", "only http and https URLs without a user name are supported")
    proxy = None if options.address_of else _proxy(parts)
    headers = {"User-Agent": f"toplabel/{__version__}", "Accept": options.accept}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection: http.client.HTTPConnection
    if proxy is not None and parts.scheme == "https":
        port = proxy.port or PORTS[proxy.scheme]
        connection = http.client.HTTPSConnection(proxy.hostname or "", port, timeout=left())
        connection.set_tunnel(parts.hostname, parts.port or PORTS["https"], _credentials(proxy))
    else:
        connection = _Connection(parts, partial(_open_socket, proxy or parts, address, left))
        if proxy is not None:
            headers |= _credentials(proxy)
            target = url
    connection.response_class = _response_class(left)
    try:
        connection.request("GET", target, headers=headers)
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise


class _Connection(http.client.HTTPConnection):
    """A connection that speaks for the URL's host over the socket that `open_socket` gives."""

    def __init__(self, parts: SplitResult, open_socket: Callable[[], socket.socket]) -> None:
        # the port by name: without one, `http.client` takes 80, or the end of an IPv6 address
        super().__init__(parts.hostname or "", parts.port or PORTS[parts.scheme])
        self.default_port = PORTS[parts.scheme]
        self._open_socket = open_socket

    def connect(self) -> None:
        self.sock = self._open_socket()


def _open_socket(peer: SplitResult, address: str | None, left: Callable[[], float]) -> Any:
    """A socket to the address, or to the first of the peer's that answers; with TLS for https."""
    port = peer.port or PORTS[peer.scheme]
    host, flags = peer.hostname, 0
    if address is not None:  # what was checked is not looked up again
        host, flags = address, socket.AI_NUMERICHOST
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    addresses = [str(place[0]) for *_, place in found]
    for place in addresses:
        try:
            sock = socket.create_connection((place, port), timeout=left())
            break
        except OSError:
            if place == addresses[-1]:
                raise
    try:
        if peer.scheme == "https":
            sock.settimeout(left())
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=peer.hostname)
        sock.settimeout(left())
    except BaseException:
        sock.close()
        raise
    return sock


def _proxy(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for a URL."""
    named = getproxies().get(parts.scheme)
    if not named or proxy_bypass(parts.netloc):
        return None
    proxy = urlsplit(named if "//" in named else f"http://{named}")
    return proxy if proxy.scheme in PORTS and proxy.hostname else None


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username or not proxy.password:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password)}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(user).decode()}"}


def _check_size(size_bytes: int | None, options: FetchOptions) -> None:
    if options.max_bytes is not None and (size_bytes or 0) > options.max_bytes:
        raise HttpError("too_large", f"it has more than {options.max_bytes:,} bytes")


def _blocks(
    response: http.client.HTTPResponse, options: FetchOptions, left: Callable[[], float]
) -> Iterator[bytes]:
    stated, received = response.length, 0
    while block := response.read1(_BLOCK_BYTES):
        received += len(block)
        _check_size(received, options)
        left()
        yield block
    if stated is not None and received < stated:
        message = f"the connection ended after {received:,} of {stated:,} bytes"
        raise HttpError("failed", message)


def _response_class(left: Callable[[], float]) -> type[http.client.HTTPResponse]:
    """Answers whose every read ends by the deadline."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_Timed(self.fp, sock, left))

    return Response


class _Timed(io.RawIOBase):
    """The receiving side of a socket; each read may take what is left until the deadline.

    A socket's own timeout starts anew with each byte, so a server that drips would hold it.
    """

    def __init__(self, inner: Any, sock: Any, left: Callable[[], float]) -> None:
        self._inner, self._socket, self._left = inner, sock, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._left())
        count: int | None = self._inner.raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
