"""Keeping: finished shards in, their parts and then their marks on the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from toplabel._internal import platform
from toplabel.runs.formats import Format
from toplabel.runs.manifest import Shard
from toplabel.runs.outcome import Outcome
from toplabel.runs.shard_result import Mark
from toplabel.runs.state import State

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2
"""Finished shards that may wait for the disk."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A shard whose entries all have an outcome: the content of its part, and its mark."""

    shard: Shard
    part: bytes
    mark: Mark

    @classmethod
    def of(
        cls, shard: Shard, outcomes: list[Outcome], encoding: Format, *, all_scores: bool
    ) -> Finished:
        """The shard with these outcomes, encoded."""
        part = encoding.encode(outcomes, all_scores=all_scores)
        return cls(shard, part, Mark.of(outcomes, part_bytes=len(part)))


def keep(state: State, finished: Finished) -> None:
    """Write a shard's part, durably, and then the mark that says so.

    Raises:
        OSError: The disk is full, or may not be written to.
    """
    path = state.output.part(finished.shard.number)
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(finished.part)
    platform.replace_file(aside, path)
    finished.mark.write(state.mark(finished.shard.number))


def behind(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(work, items)` on a thread of its own, so that taking items goes on meanwhile.

    Raises:
        Exception: What `work` raised, at the latest at the end. All work that was begun is done.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="toplabel-keep") as executor:
        for item in items:
            pending.append(executor.submit(work, item))
            while pending and (len(pending) > _AHEAD or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
