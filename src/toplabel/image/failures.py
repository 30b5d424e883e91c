"""Failures: any exception of a library or the system in, one of our `ImageError`s out."""

from __future__ import annotations

import errno

from toplabel._internal.text import first_line
from toplabel.errors import ErrorCode, ImageError

_SYSTEM: dict[int, tuple[ErrorCode, str]] = {
    errno.ENOENT: ("not_found", "no such file"),
    errno.ENOTDIR: ("not_found", "a part of the path is not a folder"),
    errno.ELOOP: ("not_found", "too many levels of symbolic links"),
    errno.ENAMETOOLONG: ("not_found", "the file name is too long for this file system"),
    errno.EACCES: ("permission_denied", "this user may not read the file"),
    errno.EPERM: ("permission_denied", "this user may not read the file"),
    errno.EISDIR: ("not_a_file", "it is a folder"),
    errno.ENXIO: ("not_a_file", "it is a socket or a device"),
    errno.ENODEV: ("not_a_file", "it is a device"),
    errno.ENOMEM: ("out_of_memory", "out of memory"),
    errno.ETIMEDOUT: ("timeout", "the file system did not respond in time"),
    errno.EMFILE: ("internal", "this process has too many open files"),
    errno.ENFILE: ("internal", "this machine has too many open files"),
    errno.EIO: ("corrupt", "input/output error on the disk"),
    errno.ESTALE: ("fetch_failed", "the file server has lost the file"),
}
_CLASSES: tuple[tuple[type[OSError], ErrorCode, str], ...] = (
    (FileNotFoundError, "not_found", "no such file"),
    (PermissionError, "permission_denied", "this user may not read the file"),
    (IsADirectoryError, "not_a_file", "it is a folder"),
    (TimeoutError, "timeout", "reading it took too long"),
    (ConnectionError, "fetch_failed", "the connection broke"),
)
"""For those that Python code raises without a number."""
_NO_CODE = ("unsupported", "not supported", "cannot handle", "unknown pixel mode")
_CUT_SHORT = (
    *("truncated", "premature end", "unexpected end", "end of file", "not enough data"),
    *("reached eof", "requires a buffer of at least"),
)


def from_system(error: OSError) -> ImageError:
    """What the system said about opening or reading a file."""
    if known := _known(error):
        return known
    said = error.strerror or str(error)
    if is_damage(error):
        return ImageError("corrupt", said)
    return ImageError("internal" if error.errno else "fetch_failed", said or type(error).__name__)


def _known(error: OSError) -> ImageError | None:
    """What the system says, or code in its place; a library's own OSError is no such thing."""
    if known := _SYSTEM.get(error.errno or 0):
        return ImageError(*known)
    for kind, code, reason in _CLASSES:
        if isinstance(error, kind):
            return ImageError(code, error.strerror or str(error) or reason)
    return None


def is_damage(error: Exception) -> bool:
    """Whether a library says that compressed bytes are damaged; none is imported to find out."""
    return type(error).__module__ in ("zipfile", "tarfile", "gzip", "zlib", "lzma", "_lzma")


def from_decoder(error: Exception, *, format_name: str) -> ImageError:
    """What a decoder's exception, of whatever class, says about the image.

    Args:
        error: The exception.
        format_name: What the file is, for people ("PNG").
    """
    if isinstance(error, ImageError):
        return error
    if isinstance(error, MemoryError):
        return ImageError("out_of_memory", "not enough memory to decode it")
    if isinstance(error, OSError) and (known := _known(error)) is not None:
        return known
    if type(error).__name__.startswith("DecompressionBomb"):
        reason = f"a part of the {format_name} image is too large: {first_line(error)}"
        return ImageError("too_large", reason)
    if isinstance(error, EOFError) or any(words in str(error).lower() for words in _CUT_SHORT):
        return cut_short(format_name)
    text = str(error).lower()
    if isinstance(error, NotImplementedError) or any(words in text for words in _NO_CODE):
        return ImageError(
            "unsupported_format",
            f"this kind of {format_name} cannot be decoded ({first_line(error)}); convert it to PNG"
            " or JPEG",
        )
    return ImageError(
        "corrupt", f"the {format_name} data is damaged ({first_line(error)}); get the file again"
    )


def cut_short(format_name: str) -> ImageError:
    """The file ends before its image does."""
    return ImageError(
        "truncated",
        f"the {format_name} data is truncated; get the file again, or pass allow_truncated=True"
        " to read what there is",
    )
