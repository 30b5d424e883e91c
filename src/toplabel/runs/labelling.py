"""Labelling: batches of entries in, their outcomes out, in order and in bounded memory."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from toplabel._internal.ordered_map import batched, ordered_map
from toplabel.errors import ImageError
from toplabel.inference.prediction import Prediction
from toplabel.runs.entry import Entry
from toplabel.runs.readers.inputs import open_source, stamp

if TYPE_CHECKING:
    from toplabel.inference.batch import Numbered, PredictOptions
    from toplabel.inference.predictor import Predictor
    from toplabel.runs.manifest import Shard

Batch = Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The prediction for one entry, and the state of its file just before it was read.

    `size` in bytes and `mtime_ns`, the time of its last change; both -1 where they are unknown.
    """

    prediction: Prediction
    size: int = -1
    mtime_ns: int = -1

    @classmethod
    def failed(cls, entry: Entry, error: ImageError, *, model: str) -> Outcome:
        """The outcome of an entry that could not be labelled."""
        return cls(Prediction.failed(entry.name, model, error), *(stamp(entry) or (-1, -1)))


OnOutcomes = Callable[[Sequence[Outcome]], None]


def label_entries(
    entries: Batch, label: Callable[[Sequence[Numbered]], list[Prediction]], *, model: str
) -> list[Outcome]:
    """One outcome for each entry, in order, whatever happens to it."""
    stamps = [stamp(entry) or (-1, -1) for entry in entries]
    readable = [(_place(e), open_source(e)) for e in entries if e.problem is None]
    predictions = iter(label(readable) if readable else ())
    return [
        Outcome(next(predictions), *found)
        if entry.problem is None
        else Outcome.failed(
            entry, ImageError(entry.problem.code, entry.problem.message), model=model
        )
        for entry, found in zip(entries, stamps, strict=True)
    ]


def _place(entry: Entry) -> int:
    """A number for the audit, the same in whatever batch or process the entry is labelled."""
    return zlib.crc32(entry.name.encode("utf-8", "surrogatepass"))


class Labeller(Protocol):
    """Labels batches: in this process, or in one that it looks after."""

    @property
    def batch_size(self) -> int:
        """The best number of entries in a batch."""

    @property
    def noticed(self) -> Sequence[str]:
        """What the outputs of the first images looked like, by now."""

    def label(self, batches: Iterable[Batch]) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order; batches are taken a few ahead."""


class LocalLabeller:
    """Labels on the threads of this process; a crash of a library ends the run.

    Args:
        predictor: The model.
        settings: Of every prediction.
        many: There are enough images for a GPU.
    """

    def __init__(
        self, predictor: Predictor, settings: PredictOptions, *, many: bool = False
    ) -> None:
        self._predictor = predictor
        self._labeller = predictor.batch_labeller(
            top_k=settings.top_k,
            threshold=settings.threshold,
            exact=settings.exact,
            fast=settings.fast,
            all_scores=settings.all_scores,
            keep_features=settings.keep_features,
            many=many,
        )

    @property
    def batch_size(self) -> int:
        """The best number of entries in a batch."""
        return self._labeller.batch_size

    @property
    def noticed(self) -> Sequence[str]:
        """What the outputs of the first images looked like, by now."""
        return self._predictor.noticed

    def label(self, batches: Iterable[Batch]) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order."""
        work = partial(label_entries, label=self._labeller.label, model=self._predictor.name)
        for outcomes in ordered_map(work, batches, workers=self._labeller.workers):
            self._predictor.report_warnings()
            yield outcomes


def label_shards(
    labeller: Labeller,
    shards: Iterable[Shard],
    on_outcomes: OnOutcomes,
    *,
    noticed: Sequence[str] = (),
) -> Iterator[tuple[Shard, list[Outcome]]]:
    """Each shard with its outcomes, in order; the next one is begun before the last has ended.

    Batches never cross the border of a shard, so that the engine sees the same batches whether a
    run was interrupted or not, and gives the same values. What the outputs of the first images
    look like is noticed somewhere in the middle of a shard, sooner or later as threads happen to
    run: all of its records say it, and so do those of each later one.

    Args:
        labeller: Labels the batches.
        shards: Taken as they are needed.
        on_outcomes: Called with the outcomes of each batch.
        noticed: What was noticed before, when this run was interrupted.
    """
    begun: deque[Shard] = deque()

    def batches() -> Iterator[Batch]:
        for shard in shards:
            begun.append(shard)
            yield from batched(shard.entries, labeller.batch_size)

    outcomes: list[Outcome] = []
    for some in labeller.label(batches()):
        outcomes += some
        on_outcomes(some)
        if len(outcomes) == len(begun[0].entries):
            texts = tuple(dict.fromkeys((*noticed, *labeller.noticed)))
            yield begun.popleft(), [_with_warnings(one, texts) for one in outcomes]
            outcomes = []


def _with_warnings(outcome: Outcome, texts: tuple[str, ...]) -> Outcome:
    """The same with these as its last warnings, each once."""
    if not texts:
        return outcome
    others = (text for text in outcome.prediction.warnings if text not in texts)
    prediction = replace(outcome.prediction, warnings=(*others, *texts))
    return replace(outcome, prediction=prediction)
