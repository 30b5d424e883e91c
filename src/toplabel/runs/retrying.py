"""Retrying: finished shards in; what failed for a cause that may pass labelled again, in place.

A file that comes later, a store that was away or refused: the same command tries these again, and
at its end a run does so by itself for what lies behind a network, a few times with longer and
longer waits. What is damaged stays damaged, and is not read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from toplabel.image.files import is_url
from toplabel.inference.prediction import Failure
from toplabel.runs.entry import Entry
from toplabel.runs.formats import Columns, Format
from toplabel.runs.labelling import Labeller, label_shards
from toplabel.runs.manifest import Shard
from toplabel.runs.passing import PASSING, SOON, may_pass
from toplabel.runs.readers.kinds import is_remote
from toplabel.runs.shard_result import FinishedShard, ShardResult
from toplabel.runs.state import State

WAITS = (1.0, 4.0, 16.0)
"""Seconds before each time that a run tries again by itself."""


def passing_rows(result: ShardResult) -> list[int]:
    """The numbers, within a shard, of what failed for a cause that may pass."""
    return [row for row, failure in result.failures.items() if may_pass(failure)]


def worth_trying(state: State, numbers: Iterable[int], *, far_only: bool) -> dict[int, list[int]]:
    """The rows of each of these shards that may be read now; shards without any are left out.

    Args:
        state: Of the run.
        numbers: Of finished shards.
        far_only: Leave out what lies on this machine, where waiting does not help.
    """
    found = {}
    for shard in state.manifest.read_shards(sorted(numbers)):
        result = ShardResult.read(state.result(shard.number))
        if result is None:
            continue
        codes = SOON if far_only else PASSING
        failed = [row for row in passing_rows(result) if result.failures[row].code in codes]
        failed = [row for row in failed if not _is_known(shard.entries[row], result.failures[row])]
        if rows := [row for row in failed if _may_work(shard.entries[row], far_only)]:
            found[shard.number] = rows
    return found


def _is_known(entry: Entry, failure: Failure) -> bool:
    """Whether a listing has found again what it found before."""
    return entry.problem is not None and entry.problem.code == failure.code


def _may_work(entry: Entry, far_only: bool) -> bool:
    place = entry.container or entry.name
    if entry.kind == "problem":
        return not far_only
    if entry.kind == "remote" or is_remote(place) or is_url(place):
        return True
    return not far_only and os.access(place, os.R_OK)  # a file that is not there yet is not read


def label_again(
    state: State,
    rows: Mapping[int, list[int]],
    labeller: Labeller,
    encoding: Format,
    columns: Columns,
) -> Iterator[tuple[ShardResult, FinishedShard]]:
    """The old result of each shard of which something has changed, and the shard as it is now.

    Args:
        state: Of the run.
        rows: Of each shard what to label again.
        labeller: Labels it.
        encoding: Of the parts.
        columns: What records have beyond the columns of every run.
    """
    for shard in state.manifest.read_shards(rows):
        result = ShardResult.read(state.result(shard.number))
        if result is None:
            continue
        failed = Shard(shard.number, tuple(shard.entries[row] for row in rows[shard.number]))
        ((_, outcomes),) = label_shards(labeller, [failed], _ignore, noticed=state.noticed)
        changed = {
            row: outcome
            for row, outcome in zip(rows[shard.number], outcomes, strict=True)
            if outcome.prediction.error is None
            or outcome.prediction.error.code != result.failures[row].code
        }
        if changed:
            part = encoding.replace(state.output.part(shard.number), changed, columns)
            now = result.replaced(changed, part_bytes=len(part))
            yield result, FinishedShard(shard, part, now)


def _ignore(_: Sequence[object]) -> None:
    """These were counted when they failed."""
