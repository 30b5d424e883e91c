"""External sort: more names than memory should hold, sorted in runs on the disk and merged."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator
from typing import IO

from toplabel.errors import UsageError

_BUFFER_BYTES = 1 << 16


class ExternalSort:
    """Sorted runs of names, in temporary files that vanish with this object."""

    def __init__(self) -> None:
        self._runs: list[IO[bytes]] = []

    def add(self, names: list[str]) -> None:
        """Sort these names and write them to disk.

        Raises:
            UsageError: There is no room for temporary files.
        """
        names.sort()
        try:
            run = tempfile.TemporaryFile(prefix="toplabel-")  # noqa: SIM115  (kept until it is read)
            self._runs.append(run)
            run.writelines(os.fsencode(name) + b"\0" for name in names)
            run.seek(0)
        except OSError as error:
            raise UsageError(
                f"cannot sort the names of a large folder in {tempfile.gettempdir()!r}:"
                f" {error.strerror}; make room there, or set TMPDIR to another folder"
            ) from error

    def merged_with(self, names: list[str]) -> Iterator[str]:
        """All names in order, with these sorted ones."""
        yield from heapq.merge(names, *map(_read, self._runs))


def _read(run: IO[bytes]) -> Iterator[str]:
    """Names that end in a zero byte, which no file name has."""
    with run:
        rest = b""
        while block := run.read(_BUFFER_BYTES):
            *whole, rest = (rest + block).split(b"\0")
            yield from map(os.fsdecode, whole)
