"""Outcome: what became of one entry. Chunks of entries in, chunks of outcomes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from toplabel.errors import ImageError
from toplabel.inference.batch import Numbered
from toplabel.inference.prediction import Prediction
from toplabel.runs.entry import Entry
from toplabel.runs.readers import open_source, stamp

LabelChunk = Callable[[Sequence[Numbered]], list[Prediction]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The prediction for one entry, and what its file was like just before it was read.

    `size` in bytes and `mtime_ns`, the time of its last change; both -1 where they are not known.
    """

    prediction: Prediction
    size: int = -1
    mtime_ns: int = -1


def label_entries(entries: Sequence[Entry], label: LabelChunk, *, model: str) -> list[Outcome]:
    """One outcome for each entry, in order, whatever happens to it."""
    stamps = [_stamp(entry) for entry in entries]
    readable = [(i, open_source(e)) for i, e in enumerate(entries) if e.problem is None]
    predictions = _in_order(entries, iter(label(readable) if readable else ()), model)
    return [Outcome(p, *s) for p, s in zip(predictions, stamps, strict=True)]


def failed(entry: Entry, error: ImageError, *, model: str) -> Outcome:
    """The outcome of an entry that could not be labelled."""
    return Outcome(Prediction.failed(entry.name, model, error), *_stamp(entry))


def _in_order(
    entries: Sequence[Entry], labelled: Iterator[Prediction], model: str
) -> Iterator[Prediction]:
    for entry in entries:
        if entry.problem is None:
            yield next(labelled)
        else:
            error = ImageError(entry.problem.code, entry.problem.message)
            yield Prediction.failed(entry.name, model, error)


def _stamp(entry: Entry) -> tuple[int, int]:
    if entry.kind in ("remote", "problem"):  # asking would cost a request for each
        return -1, -1
    return stamp(entry) or (-1, -1)
