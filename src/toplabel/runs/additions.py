"""Additions: which of the inputs listed now a run does not know yet, however many there are."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_LINES_AT_ONCE = 10_000
_KEYS_AT_ONCE = 4_000_000
_KEY_BYTES = 16
_IN_CONTAINERS = ("tar", "zip", "parquet")

Keys = NDArray[np.uint64]
"""(n, 2), uint64: 128 bits of hash of each line."""


@dataclass(frozen=True, slots=True)
class Additions:
    """What is new.

    Args:
        is_new: (listed,), bool: whether each listed input is new.
        moved: Name of an input that is known, but lies elsewhere in its container now; None
            where there is none.
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


_KEY_TYPE = np.dtype([("line", np.uint64, 2), ("name", np.uint64, 2)])


def _write_keys(lines: Iterable[bytes], file: BinaryIO) -> NDArray[np.void]:
    iterator = iter(lines)
    while some := list(islice(iterator, _LINES_AT_ONCE)):
        file.write(b"".join(map(_key, some)))
    file.flush()
    rows = file.tell() // _KEY_TYPE.itemsize
    if not rows:
        return np.empty(0, _KEY_TYPE)
    return np.memmap(file, _KEY_TYPE, "r", shape=(rows,))


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
        ours = known[_where(known, part, parts)]
        places = _where(listed, part, parts)
        is_new[places] = _compare(ours, listed[places])
    return is_new


def _where(keys: Keys, part: int, parts: int) -> NDArray[np.intp]:
    return np.flatnonzero(keys[:, 0] % np.uint64(parts) == part)


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
    place_in_group = np.arange(len(keys)) - starts[group]
    beyond = is_listed & (place_in_group - known_in_group[group] >= known_in_group[group])
    is_new = np.zeros(len(keys), np.bool_)
    is_new[order] = beyond
    return is_new[len(known) :]


def _name_at(listed: Path, place: int) -> str:
    with open(listed, "rb") as file:
        row = json.loads(next(_from(file, place)))
    return str(row if isinstance(row, str) else row[0])


def _from(file: BinaryIO, place: int) -> Iterator[bytes]:
    return islice(file, place, None)
