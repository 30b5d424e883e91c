"""Fetch: an http or https URL in, its bytes out, within a total time and size."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

from toplabel._version import __version__
from toplabel.errors import ImageError
from toplabel.image.files import check_bytes

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

_CHUNK_BYTES = 1 << 16


def fetch(url: str, *, timeout_seconds: float, max_bytes: int) -> bytes:
    """The body that a URL answers with; redirects are followed.

    Args:
        url: http or https.
        timeout_seconds: From now to the last byte, redirects and all.
        max_bytes: Largest body.

    Raises:
        ImageError: `timeout`, `too_large`, or `fetch_failed` with the status or the reason.
    """
    # These cost 60 ms to import, and only URLs need them.
    import http.client
    import urllib.error

    deadline = time.monotonic() + timeout_seconds
    try:
        with _opener(deadline).open(_request(url), timeout=timeout_seconds) as response:
            return _read_body(response, deadline, max_bytes=max_bytes)
    except ImageError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError("fetch_failed", f"the server answered {error.code} {error.reason}") from (
            error
        )
    except TimeoutError as error:
        raise _timed_out(timeout_seconds) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _timed_out(timeout_seconds) from error
        raise ImageError("fetch_failed", f"the URL cannot be fetched: {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise ImageError("fetch_failed", f"the URL cannot be fetched: {reason}") from error


def _timed_out(timeout_seconds: float) -> ImageError:
    return ImageError(
        "timeout", f"the URL took longer than {timeout_seconds:g} seconds (timeout_seconds)"
    )


def _request(url: str) -> Any:
    from urllib.parse import quote, urlsplit, urlunsplit
    from urllib.request import Request

    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    # As browsers do: spaces and letters beyond ASCII are encoded, what is encoded stays.
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~", errors="surrogateescape")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?", errors="surrogateescape")
    encoded = urlunsplit((parts.scheme, host, path, query, ""))
    return Request(encoded, headers={"User-Agent": f"toplabel/{__version__}", "Accept": "image/*"})


def _read_body(response: Any, deadline: float, *, max_bytes: int) -> bytes:
    stated = response.length
    if stated is not None:
        check_bytes(stated, max_bytes=max_bytes)
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        check_bytes(len(body), max_bytes=max_bytes)
        if time.monotonic() > deadline:
            raise TimeoutError
    if stated is not None and len(body) < stated:
        raise ImageError(
            "fetch_failed", f"the connection ended after {len(body):,} of {stated:,} bytes"
        )
    return bytes(body)


def _opener(deadline: float) -> OpenerDirector:
    """An opener for http and https only, whose every read ends by the deadline.

    A socket's own timeout starts anew with each byte, so a server that drips would hold it.
    """
    import http.client
    import urllib.request
    from functools import partial

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_Timed(self.fp, sock, deadline))

    def connect(kind: type[http.client.HTTPConnection], *args: Any, **kwargs: Any) -> Any:
        kwargs["timeout"] = _remaining(deadline)
        connection = kind(*args, **kwargs)
        connection.response_class = Response
        return connection

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(partial(connect, http.client.HTTPConnection), request)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(partial(connect, http.client.HTTPSConnection), request)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        Plain(),
        Secure(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


class _Timed(io.RawIOBase):
    """The receiving side of a socket; each read may take what is left until the deadline."""

    def __init__(self, inner: Any, sock: Any, deadline: float) -> None:
        self._inner, self._socket, self._deadline = inner, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(_remaining(self._deadline))
        count: int | None = self._inner.raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
