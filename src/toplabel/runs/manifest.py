"""The manifest: the inputs of a run on disk, in the order of their records, cut into shards.

Inputs that come later make another generation: what was numbered once keeps its number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from toplabel._internal import platform
from toplabel.errors import RunError
from toplabel.runs.entry import Entry

_LINES_AT_ONCE = 1000
SMALLEST_SHARD, LARGEST_SHARD = 256, 10_240
_SHARDS = 1000


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive inputs whose records make one part."""

    number: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """How many inputs were listed, and the blake2b digest of their lines."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Inputs that were added together.

    Args:
        rows: How many.
        shard_size: Inputs of each shard; the last one may have fewer.
        first_shard: The number of its first shard among those of all generations.
    """

    rows: int
    shard_size: int
    first_shard: int

    @property
    def shards(self) -> int:
        """How many shards it is cut into."""
        return -(-self.rows // self.shard_size)


def choose_shard_size(rows: int) -> int:
    """Inputs of a shard: about a thousandth of them, a multiple of 256 up to 10,240."""
    wanted = -(-rows // (_SHARDS * SMALLEST_SHARD)) * SMALLEST_SHARD
    return min(max(wanted, SMALLEST_SHARD), LARGEST_SHARD)


def write_listing(entries: Iterable[Entry], path: Path) -> Listing:
    """Write entries to a file, a line each, without holding them.

    Raises:
        RunError: None of them can be read at all; says what is wrong with the first.
        OSError: The file cannot be written.
    """
    digest, rows, first, readable = hashlib.blake2b(digest_size=20), 0, None, False
    iterator = iter(entries)
    with open(path, "wb") as file:
        while some := list(islice(iterator, _LINES_AT_ONCE)):
            first = first or some[0]
            readable = readable or any(entry.problem is None for entry in some)
            lines = "".join([f"{entry.to_line()}\n" for entry in some]).encode("ascii")
            digest.update(lines)
            file.write(lines)
            rows += len(some)
    if first is not None and first.problem is not None and not readable:
        raise RunError(first.problem.message)
    return Listing(rows, digest.hexdigest())


class Manifest:
    """The generations of a run's inputs in one folder: 000.jsonl and where its shards begin."""

    def __init__(self, folder: Path, generations: Sequence[Generation]) -> None:
        self._folder = folder
        self.generations = tuple(generations)

    @property
    def rows(self) -> int:
        """How many inputs there are in all."""
        return sum(generation.rows for generation in self.generations)

    @property
    def shards(self) -> int:
        """How many shards there are in all."""
        return sum(generation.shards for generation in self.generations)

    def add(self, listing: Path, rows: int, *, shard_size: int | None) -> Manifest:
        """The manifest with one generation more: the file `listing`, which is moved into it.

        It is durable, but belongs to the run only when the run's state says so.

        Raises:
            OSError: It cannot be written.
        """
        new = Generation(
            rows=rows,
            shard_size=shard_size or choose_shard_size(rows),
            first_shard=self.shards,
        )
        number = len(self.generations)
        np.save(self._offsets(number), _cut(listing, new.shard_size))
        platform.fsync_file(self._offsets(number))
        platform.replace_file(listing, self._lines(number))
        return Manifest(self._folder, (*self.generations, new))

    def read_shards(self, numbers: Iterable[int]) -> Iterator[Shard]:
        """The shards of these numbers, which ascend; one at a time is held.

        Raises:
            RunError: The manifest is damaged.
        """
        pending = iter(numbers)
        number = next(pending, None)
        for index, generation in enumerate(self.generations):
            end = generation.first_shard + generation.shards
            if number is None or number >= end:
                continue
            offsets = np.load(self._offsets(index), mmap_mode="r")
            with open(self._lines(index), "rb") as file:
                while number is not None and number < end:
                    place = number - generation.first_shard
                    span = int(offsets[place]), int(offsets[place + 1])
                    yield Shard(number, _read_entries(file, span))
                    number = next(pending, None)

    def lines(self) -> Iterator[bytes]:
        """The line of each input, in order."""
        for index in range(len(self.generations)):
            with open(self._lines(index), "rb") as file:
                yield from file

    def _lines(self, number: int) -> Path:
        return self._folder / f"{number:03d}.jsonl"

    def _offsets(self, number: int) -> Path:
        return self._folder / f"{number:03d}.npy"


def _cut(listing: Path, shard_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where each shard begins in the file, in bytes, and where the last one ends."""
    offsets, position = [], 0
    with open(listing, "rb") as file:
        for place, line in enumerate(file):
            if place % shard_size == 0:
                offsets.append(position)
            position += len(line)
    return np.array([*offsets, position], np.int64)


def _read_entries(file: BinaryIO, span: tuple[int, int]) -> tuple[Entry, ...]:
    file.seek(span[0], os.SEEK_SET)
    lines = file.read(span[1] - span[0]).splitlines()
    try:
        return tuple(map(Entry.from_line, lines))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file.name} is damaged: {error}; begin anew with --restart") from error
