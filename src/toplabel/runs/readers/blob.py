"""Blob: a file on this machine or behind a URL, of which any part can be read by any thread."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from typing import Protocol

from toplabel.errors import ImageError
from toplabel.image.failures import from_system
from toplabel.image.files import open_file
from toplabel.runs.readers.kinds import is_remote

_OPEN_AT_ONCE = 16
_NO_LIMIT = 1 << 62


class Blob(Protocol):
    """Something that has a size and can be read in parts."""

    size: int
    mtime_ns: int

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`, `size` of them or what there is.

        Raises:
            ImageError: They cannot be read.
        """


class LocalBlob:
    """A file, open for as long as somebody has it."""

    def __init__(self, path: str) -> None:
        with open_file(path, max_bytes=_NO_LIMIT) as file:
            self._descriptor = os.dup(file.fileno())
        status = os.fstat(self._descriptor)
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):  # it was opened
            os.close(self._descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`; from several threads at once."""
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise from_system(error) from error


def open_blob(name: str) -> Blob:
    """The file or URL as it is now.

    Raises:
        ImageError: There is none, or it may not be read.
    """
    if is_remote(name):
        from toplabel.runs.readers.remote import RemoteBlob  # imports fsspec

        return RemoteBlob(name)
    return LocalBlob(name)


def known_blob(name: str, size: int, mtime_ns: int) -> Blob:
    """The same that was listed; kept open for the next member.

    Raises:
        ImageError: `corrupt`, where it has changed since: its members may lie elsewhere now.
    """
    blob = _kept(name, size, mtime_ns)
    if (blob.size, blob.mtime_ns) != (size, mtime_ns):
        _kept.cache_clear()
        raise ImageError(
            "corrupt",
            f"{name!r} has changed since its content was listed; begin the run anew with --restart",
        )
    return blob


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _kept(name: str, size: int, mtime_ns: int) -> Blob:
    return open_blob(name)


class BlobFile(io.RawIOBase):
    """A blob as a file object, for libraries that want one."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blob.size}
        self._at = max(0, start[whence] + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; the number of bytes, 0 at the end."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        content = self._blob.read_at(self._at, len(view))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)
