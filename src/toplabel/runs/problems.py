"""Problems of listings: what could not be listed in an earlier call and can be now.

A folder without permission, an archive that is not there yet, a store that is away: the problem is
a record of the run. In its place comes the first of what it holds; the others are new inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toplabel.inference.prediction import Failure
from toplabel.runs.entry import Entry
from toplabel.runs.passing import may_pass

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Solved:
    """Problems that are gone, or others now.

    Args:
        lines: By the row of a known problem, the line that comes in its place.
        taken: The rows of these lines in the new listing.
        renamed: How many of them have another name than the problem had.
    """

    lines: Mapping[int, bytes]
    taken: frozenset[int]
    renamed: int


def find_solved(known: Iterable[bytes], listed: Path, is_new: NDArray[np.bool_]) -> Solved:
    """What stands in a new listing in the place of known problems that may pass.

    Args:
        known: The lines of the manifest.
        listed: The new listing.
        is_new: (listed,), bool: which of its inputs are new.
    """
    pending = {name: (row, problem.code) for row, name, problem in _problems(known)}
    lines: dict[int, bytes] = {}
    taken: set[int] = set()
    renamed = 0
    if pending:
        with open(listed, "rb") as file:
            for row, line in enumerate(file):
                if not pending:
                    break
                entry = Entry.from_line(line)
                name = _problem_of(entry, pending, is_new=bool(is_new[row]))
                if name is None:
                    continue
                place, code = pending.pop(name)
                if entry.problem is None or entry.problem.code != code:  # else it is as it was
                    lines[place] = line
                    taken.add(row)
                    renamed += name != entry.name
    return Solved(lines, frozenset(taken), renamed)


def _problems(lines: Iterable[bytes]) -> Iterator[tuple[int, str, Failure]]:
    """Row, name and cause of each problem that may pass."""
    for row, line in enumerate(lines):
        if line.startswith(b"[") and b'"problem"' in line:
            entry = Entry.from_line(line)
            if entry.problem is not None and may_pass(entry.problem):
                yield row, entry.name, entry.problem


def _problem_of(entry: Entry, pending: Mapping[str, object], *, is_new: bool) -> str | None:
    """The name of the problem in whose place this entry comes."""
    if entry.name in pending:
        return entry.name
    if not is_new or entry.kind == "problem":
        return None
    if entry.container in pending:
        return entry.container
    within = (name for name in pending if entry.name.startswith(_folder(name)))
    return next(within, None)


def _folder(name: str) -> str:
    """What all names in a folder, below a prefix or of a pattern begin with."""
    start = _MAGIC.split(name, maxsplit=1)[0]
    return start if start != name else f"{name.rstrip('/')}/"
