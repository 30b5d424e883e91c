"""Labelling: chunks of entries in, their outcomes out, in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from toplabel._internal.ordered_map import chunked, ordered_map
from toplabel.inference.batch import Settings
from toplabel.inference.predictor import Predictor
from toplabel.runs.entry import Entry
from toplabel.runs.manifest import Shard
from toplabel.runs.outcome import Outcome, label_entries

Chunk = Sequence[Entry]
Seen = Callable[[Sequence[Outcome]], None]


class Labeller(Protocol):
    """What labels chunks: in this process, or in one that it looks after."""

    @property
    def chunk_size(self) -> int:
        """How many entries a chunk has best."""

    def label(self, chunks: Iterable[Chunk]) -> Iterator[list[Outcome]]:
        """The outcomes of each chunk, in order; chunks are taken a few ahead."""

    def close(self) -> None:
        """End it."""


class LocalLabeller:
    """Labels on the threads of this process; a crash of a library ends the run."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self._predictor = predictor
        self._many = predictor.many(
            top_k=settings.top_k, threshold=settings.threshold, all_scores=settings.all_scores
        )

    @property
    def chunk_size(self) -> int:
        """How many entries a chunk has best."""
        return self._many.chunk_size

    def label(self, chunks: Iterable[Chunk]) -> Iterator[list[Outcome]]:
        """The outcomes of each chunk, in order."""
        work = partial(label_entries, label=self._many.label, model=self._predictor.name)
        for outcomes in ordered_map(work, chunks, workers=self._many.workers):
            self._predictor.pass_warnings_on()
            yield outcomes

    def close(self) -> None:
        """Nothing of its own is open."""


def label_shards(
    labeller: Labeller, shards: Iterable[Shard], seen: Seen
) -> Iterator[tuple[Shard, list[Outcome]]]:
    """Each shard with its outcomes, in order; the next one is begun before the last has ended.

    Chunks never cross the border of a shard, so that the engine sees the same batches whether a
    run is resumed or not, and gives the same values.

    Args:
        labeller: What labels.
        shards: Taken as they are needed.
        seen: Called with the outcomes of each chunk.
    """
    begun: deque[Shard] = deque()

    def chunks() -> Iterator[Chunk]:
        for shard in shards:
            begun.append(shard)
            yield from chunked(shard.entries, labeller.chunk_size)

    outcomes: list[Outcome] = []
    for some in labeller.label(chunks()):
        outcomes += some
        seen(some)
        if len(outcomes) == len(begun[0].entries):
            yield begun.popleft(), outcomes
            outcomes = []
