"""Listening: an address in, a socket that accepts connections out; and how to stop without loss."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import suppress

from toplabel.errors import UsageError

BACKLOG = 2048

_OTHER_DESCRIPTORS = 256  # models, libraries, URLs that are fetched
_SO_ATTACH_FILTER = 26  # from Linux's socket.h
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of a packet filter: keep 0 bytes


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: The address cannot be had.
    """
    try:
        ((family, *_, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio sends without delay only where the protocol is named: else the second half of an
        # answer waits 40 ms for the client's acknowledgement of the first
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, OverflowError, ValueError) as error:
        raise _not_here(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _not_here(host, port, error) from error
    listener.setblocking(False)
    return listener


def allow_descriptors(connections: int) -> None:
    """Let this process have a file descriptor for each connection, as far as the system allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def stop_listening(listener: socket.socket) -> None:
    """Have the kernel complete no more connections; those that it has completed can be accepted.

    Closing the socket would reset them, although their clients count as connected. So before that,
    a packet filter drops what comes to the listening socket, the connections' own sockets
    excepted: a client that comes now tries again, and is refused when the socket is closed.
    """
    if sys.platform != "linux":
        return
    instruction = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _not_here(host: str, port: int, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or str(error)
    return UsageError(f"cannot listen at {host}:{port}: {reason}; choose another --port or --host")
