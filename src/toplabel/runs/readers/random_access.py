"""Random access: any part of a local, remote or compressed file, for any thread."""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from toplabel._internal import platform
from toplabel.errors import ImageError
from toplabel.image.failures import from_system
from toplabel.image.files import open_file
from toplabel.runs.readers.kinds import is_remote

_OPEN_AT_ONCE = 16
_STEP_BYTES = 1 << 20
_PASSED_BYTES = 64 << 20
_NO_LIMIT = 1 << 62


class RandomAccessFile(Protocol):
    """Has a size and can be read in parts."""

    size: int
    mtime_ns: int

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`, `size` of them or what there is.

        Raises:
            ImageError: They cannot be read.
        """


class LocalFile:
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
            return platform.read_at(self._descriptor, size, offset)
        except OSError as error:
            raise from_system(error) from error


def open_random_access(name: str, *, patient: bool = True) -> RandomAccessFile:
    """The file or URL as it is now.

    Args:
        name: A path, or a URL that fsspec opens.
        patient: Wait for a store that is away, for some seconds.

    Raises:
        ImageError: There is none, or it may not be read.
    """
    if is_remote(name):
        from toplabel.runs.readers.remote import RemoteFile  # imports fsspec

        return RemoteFile(name, patient=patient)
    return LocalFile(name)


def open_listed(name: str, size: int, mtime_ns: int) -> RandomAccessFile:
    """The same file that was listed; kept open for the next member.

    Raises:
        ImageError: `corrupt`, where it has changed since: its members may be elsewhere now.
    """
    file = _kept(name, size, mtime_ns)
    if (file.size, file.mtime_ns) != (size, mtime_ns):
        _kept.cache_clear()
        raise ImageError(
            "corrupt",
            f"{name!r} has changed since its contents were listed; start over with restart=True",
        )
    return file


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _kept(name: str, size: int, mtime_ns: int) -> RandomAccessFile:
    return open_random_access(name, patient=False)


class FileObject(io.RawIOBase):
    """A random-access file as a file object, for libraries that want one."""

    def __init__(self, file: RandomAccessFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}
        self._at = max(0, start[whence] + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; the number of bytes, 0 at the end."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        content = self._file.read_at(self._at, len(view))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


class Stream(Protocol):
    """A file that is decompressed: gzip, bz2 and lzma files, and buffered ones."""

    def read1(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class ForwardReader:
    """Reads a stream that only goes forward at any offset, by several threads.

    It keeps what it has passed lately, and starts over where that is not enough.

    Args:
        begin: Opens the stream at its start.
        keep_bytes: How much of what it has passed it keeps.
    """

    def __init__(self, begin: Callable[[], Stream], *, keep_bytes: int = _PASSED_BYTES) -> None:
        self._begin = begin
        self._keep_bytes = keep_bytes
        self._turn = threading.Lock()
        self._restart()

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`; fewer where the stream ends."""
        with self._turn:
            if offset < self._start:
                self._restart()
            while self._end < offset + size and self._read_on(keep_from=offset):
                pass
            return self._copy(offset, size)

    def _restart(self) -> None:
        self._file = self._begin()
        self._pieces: deque[bytes] = deque()
        self._start = self._end = 0

    def _read_on(self, *, keep_from: int) -> bool:
        piece = self._file.read1(_STEP_BYTES)  # what there is before a damage, too
        self._pieces.append(piece)
        self._end += len(piece)
        while self._end - self._start > self._keep_bytes and self._start + len(self._pieces[0]) <= (
            keep_from
        ):
            self._start += len(self._pieces.popleft())
        return bool(piece)

    def _copy(self, offset: int, size: int) -> bytes:
        found, at = [], self._start
        for piece in self._pieces:
            if at < offset + size and at + len(piece) > offset:
                found.append(piece[max(0, offset - at) : offset + size - at])
            at += len(piece)
        return b"".join(found)
