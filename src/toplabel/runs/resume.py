"""Looking back: which shards of a run are done, by their marks, their parts and their inputs."""

from __future__ import annotations

from collections.abc import Iterator

from toplabel.runs.manifest import Shard
from toplabel.runs.readers import stamp
from toplabel.runs.shard_result import Mark
from toplabel.runs.state import State


def look_back(state: State, *, check_inputs: bool) -> Iterator[tuple[int, Mark | None]]:
    """The number of each shard, and its mark where it is done; one at a time is held.

    Args:
        state: The run's memory.
        check_inputs: A shard with an input that has changed in size or time is not done.
    """
    for number in range(state.manifest.shards):
        mark = _read_mark(state, number)
        if mark is not None and check_inputs:
            (shard,) = state.manifest.read_shards([number])
            mark = mark if _is_current(shard, mark) else None
        yield number, mark


def _read_mark(state: State, number: int) -> Mark | None:
    """The mark of a shard whose part is whole; None where it is torn, gone or not yet written."""
    mark = Mark.read(state.mark(number))
    try:
        whole = mark and state.output.part(number).stat().st_size == mark.part_bytes
    except OSError:
        return None
    return mark if whole else None


def _is_current(shard: Shard, mark: Mark) -> bool:
    """Whether every input is still as large and as old as when it was read.

    Where that was not known then, or is not known now, nothing can have changed.
    """
    for entry, size, mtime in zip(
        shard.entries, mark.sizes.tolist(), mark.mtimes.tolist(), strict=True
    ):
        if entry.kind == "problem" or mtime < 0:
            continue
        if (stamp(entry) or (-1, -1)) != (size, mtime):
            return False
    return True
