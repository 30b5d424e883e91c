"""Spilled: more names than memory should hold, sorted in pieces on the disk and merged."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator
from typing import IO

_BUFFER_BYTES = 1 << 16


class Spilled:
    """Pieces of names, each sorted, in temporary files that vanish with this object."""

    def __init__(self) -> None:
        self._pieces: list[IO[bytes]] = []

    def add(self, names: list[str]) -> None:
        """Sort these names and put them aside.

        Raises:
            OSError: There is no room for temporary files.
        """
        names.sort()
        piece = tempfile.TemporaryFile(prefix="toplabel-")  # noqa: SIM115  (kept until it is read)
        piece.writelines(os.fsencode(name) + b"\0" for name in names)
        piece.seek(0)
        self._pieces.append(piece)

    def merged_with(self, names: list[str]) -> Iterator[str]:
        """All names in their order, with these sorted ones."""
        yield from heapq.merge(names, *map(_read, self._pieces))


def _read(piece: IO[bytes]) -> Iterator[str]:
    """Names that end in a zero byte, which no file name has."""
    with piece:
        rest = b""
        while block := piece.read(_BUFFER_BYTES):
            *whole, rest = (rest + block).split(b"\0")
            yield from map(os.fsdecode, whole)
