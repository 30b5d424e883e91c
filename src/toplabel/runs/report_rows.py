"""Showing: a run's inputs and outcomes, as the report page takes them."""

from __future__ import annotations

from collections.abc import Iterator

from toplabel.runs.readers import open_source
from toplabel.runs.report import Shown
from toplabel.runs.shard_result import Mark
from toplabel.runs.state import State


def shown_inputs(state: State) -> Iterator[Shown]:
    """Every input of a finished run, in the order of its records; a shard at a time is held."""
    for shard in state.manifest.read_shards(range(state.manifest.shards)):
        mark = Mark.read(state.mark(shard.number))
        assert mark is not None, "a finished run has all its marks"
        rows = zip(shard.entries, mark.indices.tolist(), mark.scores.tolist(), strict=True)
        for place, (entry, indices, scores) in enumerate(rows):
            best = zip(indices, scores, strict=True)
            yield Shown(
                name=entry.name,
                source=open_source(entry),
                top=tuple((index, score) for index, score in best if index >= 0),
                unsure=bool(mark.unsure[place]),
                error=mark.failures.get(place),
            )
