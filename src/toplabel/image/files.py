"""Files: a path, file object, URL or standard input in, bytes or an open regular file out."""

from __future__ import annotations

import os
import stat
import sys
from typing import Any, BinaryIO

from toplabel.errors import ImageError
from toplabel.image.failures import from_system

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe; use - to read standard input"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: str, *, max_bytes: int) -> BinaryIO:
    """A regular file, open for reading; never waits for a pipe or a device.

    Raises:
        ImageError: `not_found`, `not_a_file`, `permission_denied`, `too_large`.
    """
    try:
        _check(os.stat(path), path, max_bytes=max_bytes)  # before opening: it may rewind a tape
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except ImageError:
        raise
    except OSError as error:
        raise from_system(error) from error
    except ValueError as error:  # a NUL, or a surrogate that stands for no byte
        raise ImageError("not_found", f"no file can have this name ({error})") from error
    try:
        _check(os.fstat(descriptor), path, max_bytes=max_bytes)  # it may have been replaced
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(status: os.stat_result, path: str, *, max_bytes: int) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
                raise ImageError("permission_denied", "this user may not read the folder")
            raise ImageError("not_a_file", f"it is {name}; expected an image file")
    check_bytes(status.st_size, max_bytes=max_bytes)


def check_bytes(size_bytes: int, *, max_bytes: int) -> None:
    """Refuse what is larger than the limit.

    Raises:
        ImageError: `too_large`.
    """
    if size_bytes > max_bytes:
        raise ImageError(
            "too_large",
            f"it has more than {max_bytes:,} bytes (max_bytes); make it smaller or raise the limit",
        )


class UnknownSource(TypeError):
    """A source of a kind that is not accepted; the text lists those that are."""


def read_stream(stream: Any, *, max_bytes: int) -> bytes:
    """All bytes of a binary file object from where it stands; all of it where that is its end.

    Raises:
        ImageError: `too_large`, or what reading failed with.
        UnknownSource: It gives something else than bytes.
    """
    try:
        content = stream.read(max_bytes + 1)
        if not content and _rewind(stream):
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise from_system(error) from error
    except ValueError as error:
        raise ImageError("not_found", f"the file object cannot be read ({error})") from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise UnknownSource(
            f"got a file object that reads {type(content).__name__}; expected a binary one,"
            ' as open(path, "rb") gives'
        )
    check_bytes(len(content), max_bytes=max_bytes)
    return bytes(content)


def _rewind(stream: Any) -> bool:
    """Back to the start, where something was written and the position is still behind it."""
    try:
        if not stream.seekable() or stream.tell() == 0:
            return False
        stream.seek(0)
    except (AttributeError, OSError, ValueError):
        return False
    return True


def read_standard_input(*, max_bytes: int) -> bytes:
    """All of standard input.

    Raises:
        ImageError: `not_found` where there is none; `too_large`.
    """
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise ImageError("not_found", "this process has no standard input")
    return read_stream(stream, max_bytes=max_bytes)


def is_url(text: str) -> bool:
    """Whether this names something to fetch: http or https."""
    return text[:8].lower().startswith(("http://", "https://"))


def fetch(url: str, *, timeout_seconds: float, max_bytes: int) -> bytes:
    """The body that a URL answers with; redirects are followed.

    Args:
        url: http or https.
        timeout_seconds: From now to the last byte, redirects and all.
        max_bytes: Largest body.

    Raises:
        ImageError: `timeout`, `too_large`, or `fetch_failed` with the status or the reason.
    """
    # It costs 60 ms to import, and only URLs need it.
    from toplabel._internal.http import FetchOptions, HttpError, get

    options = FetchOptions(
        timeout_seconds=timeout_seconds,
        stall_seconds=timeout_seconds,
        max_bytes=max_bytes,
        accept="image/*",
    )
    try:
        return get(url, options)
    except HttpError as error:
        if error.problem == "too_large":
            check_bytes(max_bytes + 1, max_bytes=max_bytes)
        if error.problem == "timeout":
            message = f"the URL took longer than {timeout_seconds:g} seconds (timeout_seconds)"
            raise ImageError("timeout", message) from error
        message = str(error) if error.problem == "status" else f"cannot fetch the URL: {error}"
        raise ImageError("fetch_failed", message) from error
