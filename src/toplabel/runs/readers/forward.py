"""Forward: a stream that only goes forward, read at places that mostly do, by several threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

_STEP_BYTES = 1 << 20
_KEPT_BYTES = 64 << 20


class Stream(Protocol):
    """What decompresses: gzip, bz2 and lzma files, and buffered ones."""

    def read1(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class Forward:
    """Reads at any place; keeps what it has passed lately, begins anew where that is not enough.

    Args:
        begin: Opens the stream at its start.
    """

    def __init__(self, begin: Callable[[], Stream]) -> None:
        self._begin = begin
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
        while self._end - self._start > _KEPT_BYTES and self._start + len(self._pieces[0]) <= (
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
