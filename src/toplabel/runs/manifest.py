"""The manifest: the inputs of a run on disk, in the order of their records, cut into shards.

Inputs that come later make another generation, so that what has a number keeps it. Which of a new
listing are new is found by hashes, in bounded memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from toplabel._internal import platform
from toplabel.errors import RunError
from toplabel.runs.entry import Entry

SMALLEST_SHARD, LARGEST_SHARD = 256, 10_240
_SHARDS = 1000
_LINES_AT_ONCE = 1000

_KEYS_AT_ONCE = 4_000_000
_KEY_BYTES = 16
_KEY_TYPE = np.dtype([("line", np.uint64, 2), ("name", np.uint64, 2)])
_IN_CONTAINERS = ("tar", "zip", "parquet")

Keys = NDArray[np.uint64]
"""(n, 2), uint64: 128 bits of hash of each line."""


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
        edition: How often lines of it have been replaced.
    """

    rows: int
    shard_size: int
    first_shard: int
    edition: int = 0

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
        RunError: None of them can be read at all; has the error of the first.
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

        It is durable, but belongs to the run only once it stands in the run's state.

        Raises:
            OSError: It cannot be written.
        """
        new = Generation(
            rows=rows, shard_size=shard_size or choose_shard_size(rows), first_shard=self.shards
        )
        number = len(self.generations)
        self._write_offsets(number, new, _shard_offsets(listing, new.shard_size))
        platform.replace_file(listing, self._lines(number, new))
        return Manifest(self._folder, (*self.generations, new))

    def replace(self, lines: Mapping[int, bytes]) -> Manifest:
        """The manifest with other lines in these rows, in files beside the old ones.

        They are durable, but count only once the generations stand in the run's state.

        Raises:
            OSError: They cannot be written.
        """
        generations, first = [], 0
        for number, old in enumerate(self.generations):
            mine = {row - first: line for row, line in lines.items() if 0 <= row - first < old.rows}
            first += old.rows
            new = replace(old, edition=old.edition + 1) if mine else old
            generations.append(new)
            if mine:
                aside = self._lines(number, new).with_suffix(".tmp")
                with open(self._lines(number, old), "rb") as source, open(aside, "wb") as file:
                    file.writelines(mine.get(row, line) for row, line in enumerate(source))
                self._write_offsets(number, new, _shard_offsets(aside, new.shard_size))
                platform.replace_file(aside, self._lines(number, new))
        return Manifest(self._folder, generations)

    def remove_old(self) -> None:
        """Remove the files that hold lines from before they were replaced."""
        for number, generation in enumerate(self.generations):
            for edition in range(generation.edition):
                old = replace(generation, edition=edition)
                self._lines(number, old).unlink(missing_ok=True)
                self._offsets(number, old).unlink(missing_ok=True)

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
            offsets = np.load(self._offsets(index, generation), mmap_mode="r")
            with open(self._lines(index, generation), "rb") as file:
                while number is not None and number < end:
                    at = number - generation.first_shard
                    span = int(offsets[at]), int(offsets[at + 1])
                    yield Shard(number, _read_entries(file, span))
                    number = next(pending, None)

    def lines(self) -> Iterator[bytes]:
        """The line of each input, in order."""
        for index, generation in enumerate(self.generations):
            with open(self._lines(index, generation), "rb") as file:
                yield from file

    def _write_offsets(
        self, number: int, generation: Generation, offsets: NDArray[np.int64]
    ) -> None:
        content = io.BytesIO()
        np.save(content, offsets)  # into a file it says of a full disk only how much was written
        self._offsets(number, generation).write_bytes(content.getbuffer())
        platform.fsync_file(self._offsets(number, generation))

    def _lines(self, number: int, generation: Generation) -> Path:
        return self._folder / f"{_stem(number, generation)}.jsonl"

    def _offsets(self, number: int, generation: Generation) -> Path:
        return self._folder / f"{_stem(number, generation)}.npy"


def _stem(number: int, generation: Generation) -> str:
    return f"{number:03d}" + (f"-{generation.edition}" if generation.edition else "")


def _shard_offsets(listing: Path, shard_size: int) -> NDArray[np.int64]:
    """Where each shard begins in the file, in bytes, and where the last one ends."""
    offsets, position = [], 0
    with open(listing, "rb") as file:
        for row, line in enumerate(file):
            if row % shard_size == 0:
                offsets.append(position)
            position += len(line)
    return np.array([*offsets, position], np.int64)


def _read_entries(file: BinaryIO, span: tuple[int, int]) -> tuple[Entry, ...]:
    file.seek(span[0], os.SEEK_SET)
    lines = file.read(span[1] - span[0]).splitlines()
    try:
        return tuple(map(Entry.from_line, lines))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file.name} is damaged: {error}; start over with restart=True") from error


@dataclass(frozen=True, slots=True)
class Additions:
    """How a new listing differs from the manifest.

    Args:
        is_new: (listed,), bool: whether each listed input is new.
        moved: Name of a known input that now lies elsewhere in its container; None where there is
            none.
        missing: How many known inputs are no longer listed.
    """

    is_new: NDArray[np.bool_]
    moved: str | None
    missing: int


def find_additions(known: Iterable[bytes], listed: Path, folder: Path) -> Additions:
    """Compare the lines of a manifest with those of a new listing.

    Lines may repeat: of a line that is known twice and listed three times, one is new. Keys are
    kept in temporary files in `folder`, and compared four million at a time.
    """
    with tempfile.TemporaryFile(dir=folder) as ours, tempfile.TemporaryFile(dir=folder) as theirs:
        known_keys = _write_keys(known, ours)
        with open(listed, "rb") as file:
            listed_keys = _write_keys(file, theirs)
        is_new = _find_new(known_keys["line"], listed_keys["line"])
        new_by_name = _find_new(known_keys["name"], listed_keys["name"])
    moved = np.flatnonzero(is_new & ~new_by_name)
    return Additions(
        is_new,
        _name_at(listed, int(moved[0])) if len(moved) else None,
        missing=len(known_keys) - int((~new_by_name).sum()),
    )


def copy_new(listed: Path, is_new: NDArray[np.bool_], target: Path) -> None:
    """Write the new lines of a listing to another file."""
    with open(listed, "rb") as source, open(target, "wb") as file:
        file.writelines(line for line, new in zip(source, is_new, strict=True) if new)


def _write_keys(lines: Iterable[bytes], file: BinaryIO) -> NDArray[np.void]:
    iterator = iter(lines)
    while some := list(islice(iterator, _LINES_AT_ONCE)):
        file.write(b"".join(map(_key, some)))
    file.flush()
    rows = file.tell() // _KEY_TYPE.itemsize
    return np.memmap(file, _KEY_TYPE, "r", shape=(rows,)) if rows else np.empty(0, _KEY_TYPE)


def _key(line: bytes) -> bytes:
    """The hash of the input and where it is, then that of its name."""
    if not line.startswith(b"["):
        return _digest(line) * 2
    name, kind, *_ = json.loads(line)
    by_name = _digest(json.dumps(name).encode() + b"\n")
    return (_digest(line) if kind in _IN_CONTAINERS else by_name) + by_name


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_KEY_BYTES).digest()


def _find_new(known: Keys, listed: Keys) -> NDArray[np.bool_]:
    """Which listed keys are new: (listed,), bool."""
    is_new = np.ones(len(listed), np.bool_)
    parts = 1 + (len(known) + len(listed)) // _KEYS_AT_ONCE
    for part in range(parts):
        ours, theirs = (
            np.flatnonzero(keys[:, 0] % np.uint64(parts) == part) for keys in (known, listed)
        )
        is_new[theirs] = _compare(known[ours], listed[theirs])
    return is_new


def _compare(known: Keys, listed: Keys) -> NDArray[np.bool_]:
    """The same for keys that fit into memory: sorted, equal ones side by side, known ones first."""
    keys = np.concatenate([known, listed])
    is_listed = np.arange(len(keys)) >= len(known)
    order = np.lexsort((is_listed, keys[:, 1], keys[:, 0]))  # stable: listed ones stay in order
    keys, is_listed = keys[order], is_listed[order]
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)][: len(keys)])
    group = np.zeros(len(keys), np.intp)
    group[starts[1:]] = 1
    group = group.cumsum()
    known_in_group = np.bincount(group, weights=~is_listed, minlength=len(starts)).astype(np.intp)
    rank_in_group = np.arange(len(keys)) - starts[group]
    beyond = is_listed & (rank_in_group - known_in_group[group] >= known_in_group[group])
    is_new = np.zeros(len(keys), np.bool_)
    is_new[order] = beyond
    return is_new[len(known) :]


def _name_at(listed: Path, row: int) -> str:
    with open(listed, "rb") as file:
        return Entry.from_line(next(islice(file, row, None))).name
