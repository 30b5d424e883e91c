"""Remote: a URL that a request names in, the bytes behind it out, from allowed hosts only.

A server that fetches what strangers name can be sent into its owner's network. So the host must be
on the operator's list, letter by letter; its name is resolved once; every address must be public;
and the connection goes to the address that was checked, not to the name again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from toplabel._internal import http
from toplabel.serve.api_error import ApiError, busy

MAX_REDIRECTS = 3
THREADS = 4
MAX_FETCHING = 32
_NOT_PUBLIC = [ipaddress.ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24", "5f00::/16")]
"""Of IANA's special-purpose registries, what Python's `is_global` takes for public."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""A host and a port in, its addresses as text out."""


class Remote:
    """Fetches images from the hosts that the operator allows.

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
        self._options = http.FetchOptions(
            timeout_seconds=timeout_seconds,
            stall_seconds=timeout_seconds,
            max_bytes=max_bytes,
            max_redirects=MAX_REDIRECTS,
            accept="image/*",
            address_of=self._address_of,
        )
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve or _resolve
        self._accepts = accepts or is_public
        self._fetching = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="toplabel-fetch")

    async def fetch(self, url: str) -> bytes:
        """What is behind a URL.

        Raises:
            ApiError: 403 for what may not be fetched; 413, 422 for what cannot.
        """
        self._check(url)  # before a thread is taken
        if self._fetching >= MAX_FETCHING:
            raise busy("the server is fetching as many URLs as it may")
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
        try:
            return http.get(url, self._options)
        except http.HttpError as error:
            if error.problem == "timeout":
                raise self._late() from error
            if error.problem == "too_large":
                limit = f"{self._options.max_bytes:,}"
                text = f"the file behind the URL is larger than the limit of {limit} bytes"
                raise ApiError(413, "too_large", text) from error
            if error.problem == "status":  # not the server's own words for it
                raise _failed(f"its server answered {error.status}") from error
            raise _failed("its server does not answer as it should") from error

    def _check(self, url: str) -> tuple[str, int]:
        """The host and port of a URL whose host is allowed.

        Raises:
            ApiError: 403 or 422.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ApiError(422, "bad_url", "this is not a URL") from error
        if parts.scheme not in http.PORTS or not host or not url.isascii() or not url.isprintable():
            raise ApiError(422, "bad_url", "this is not an http or https URL in ASCII")
        default = http.PORTS[parts.scheme]
        written = host if port in (None, default) else f"{host}:{port}"
        if written not in self._hosts or "@" in parts.netloc:
            raise _not_allowed()
        return host, port or default

    def _address_of(self, url: str) -> str:
        """The address to connect to; all that the URL's host stands for must be public."""
        addresses = self._resolve(*self._check(url))
        if not addresses or not all(self._accepts(ipaddress.ip_address(a)) for a in addresses):
            raise _not_allowed()
        return addresses[0]

    def _late(self) -> ApiError:
        seconds = self._timeout_seconds
        return ApiError(422, "timeout", f"the URL took longer than {seconds:g} seconds")


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
    special = any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not special


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]).partition("%")[0] for *_, address in found]


def _not_allowed() -> ApiError:
    return ApiError(403, "url_not_allowed", "this server does not fetch from there")


def _failed(reason: str) -> ApiError:
    return ApiError(422, "fetch_failed", f"the URL cannot be fetched: {reason}")
