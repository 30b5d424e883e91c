"""Remote: a URL that a request names in, the bytes behind it out, from allowed hosts only.

A server that fetches what strangers name can be sent into its owner's network. So the host must be
on the operator's list, letter by letter; its name is resolved once; every address must be public;
and the connection goes to the address that was checked, not to the name again.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from toplabel._version import __version__
from toplabel.serve.api_error import Refusal, busy

MAX_REDIRECTS = 3
THREADS = 4
MAX_FETCHING = 32
_CHUNK_BYTES = 1 << 16
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""A host and a port in, its addresses as text out."""


class Remote:
    """Fetches pictures from the hosts that the operator allows.

    Args:
        hosts: "images.example.org", or with a port: "images.example.org:8443".
        max_bytes: Largest body.
        timeout_seconds: From now to the last byte, redirects and all.
        resolve: Looks a name up; once for each connection.
        accepts: Whether an address may be connected to.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        max_bytes: int,
        timeout_seconds: float = 10.0,
        resolve: Resolve | None = None,
        accepts: Callable[[Address], bool] | None = None,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve or _resolve
        self._accepts = accepts or is_public
        self._fetching = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="toplabel-fetch")

    async def fetch(self, url: str) -> bytes:
        """What is behind a URL.

        Raises:
            Refusal: 403 for what may not be fetched; 413, 422 for what cannot.
        """
        self._check(url)  # before a thread is taken
        if self._fetching >= MAX_FETCHING:
            raise busy("the server fetches as many URLs as it may")
        self._fetching += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, url)
        work.add_done_callback(self._count_down)
        try:  # looking a name up has no time limit of its own
            return await asyncio.wait_for(work, self._timeout_seconds + 1)
        except TimeoutError as error:
            raise self._late() from error

    def _count_down(self, work: asyncio.Future[bytes]) -> None:
        self._fetching -= 1
        if not work.cancelled():
            work.exception()  # nobody may be waiting for it any more

    def _fetch(self, url: str) -> bytes:
        deadline = time.monotonic() + self._timeout_seconds
        try:
            for _ in range(MAX_REDIRECTS + 1):
                status, location, body = self._get(url, deadline)
                if status not in _REDIRECTS or location is None:
                    break
                url = urljoin(url, location)
            else:
                raise _failed("it redirects too often")
        except (OSError, ValueError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise self._late() from error
            raise _failed("its server does not answer as it should") from error
        if status != 200:
            raise _failed(f"its server answered {status}")
        return body

    def _check(self, url: str) -> tuple[SplitResult, str, int]:
        """The parts of a URL whose host is allowed.

        Raises:
            Refusal: 403 or 422.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Refusal(422, "bad_url", "this is no URL") from error
        if parts.scheme not in _PORTS or not host or not url.isascii() or not url.isprintable():
            raise Refusal(422, "bad_url", "this is no http or https URL in ASCII")
        default = _PORTS[parts.scheme]
        written = host if port in (None, default) else f"{host}:{port}"
        if written not in self._hosts or "@" in parts.netloc:
            raise _not_allowed()
        return parts, host, port or default

    def _get(self, url: str, deadline: float) -> tuple[int, str | None, bytes]:
        parts, host, port = self._check(url)
        address = self._address(host, port)
        connection = _connect(parts.scheme, host, address, port, deadline)
        # A socket's own timeout starts anew with each byte: a server that drips would hold it.
        end = threading.Timer(_left(deadline), _shut, (connection.sock,))
        end.start()
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"User-Agent": f"toplabel/{__version__}", "Accept": "image/*"}
            connection.request("GET", target.replace(" ", "%20"), headers=headers)
            with closing(connection.getresponse()) as response:
                found = response.status == 200
                body = self._read(response) if found else b""
            _left(deadline)  # what was cut off may look complete
            return response.status, None if found else response.headers.get("Location"), body
        finally:
            end.cancel()
            connection.close()

    def _address(self, host: str, port: int) -> str:
        """The address to connect to; all that the name stands for must be public."""
        addresses = self._resolve(host, port)
        if not addresses or not all(self._accepts(ipaddress.ip_address(a)) for a in addresses):
            raise _not_allowed()
        return addresses[0]

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        stated = response.length
        if (stated or 0) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large()
        if stated is not None and len(body) < stated:
            raise ConnectionError("the connection ended early")
        return bytes(body)

    def _late(self) -> Refusal:
        seconds = self._timeout_seconds
        return Refusal(422, "timeout", f"the URL took longer than {seconds:g} seconds")

    def _too_large(self) -> Refusal:
        text = f"what is behind the URL has more than {self._max_bytes:,} bytes, the limit"
        return Refusal(413, "too_large", text)


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, also where IPv6 carries an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        if carried is not None:
            return is_public(carried)
    return address.is_global and not address.is_multicast


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]).partition("%")[0] for *_, address in found]


def _connect(
    scheme: str, host: str, address: str, port: int, deadline: float
) -> http.client.HTTPConnection:
    """A connection to the checked address that speaks for the host."""
    sock: socket.socket = socket.create_connection((address, port), timeout=_left(deadline))
    try:
        if scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    connection = http.client.HTTPConnection(host, port, timeout=_left(deadline))
    connection.default_port = _PORTS[scheme]
    connection.sock = sock
    return connection


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _not_allowed() -> Refusal:
    return Refusal(403, "url_not_allowed", "this server does not fetch from there")


def _failed(reason: str) -> Refusal:
    return Refusal(422, "fetch_failed", f"the URL cannot be fetched: {reason}")
