"""Finished shards: committed to disk, found again when a run resumes, counted, merged, reported.

That a shard's result exists means that its part is complete.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from toplabel._internal import platform
from toplabel._internal.notices import warn
from toplabel.inference.prediction import Failure, Prediction
from toplabel.labels.labels import Labels
from toplabel.runs.formats import Columns, Format
from toplabel.runs.labelling import Outcome
from toplabel.runs.manifest import Shard
from toplabel.runs.passing import may_pass
from toplabel.runs.readers.inputs import open_source, stamp
from toplabel.runs.state import State
from toplabel.runs.summary import LabelCount

if TYPE_CHECKING:
    from toplabel.runs.report.selection import ReportRow

KEPT = 5
"""How many of an input's best classes a result has."""

_KEPT_BEFORE = 3
"""How many those had that do not say it."""

_COLUMNS = {
    "indices": ("<i4", KEPT),
    "scores": ("<f4", KEPT),
    "unsure": ("?", 1),
    "sizes": ("<i8", 1),
    "mtimes": ("<i8", 1),
}
"""The arrays in a result's file: their types, and values of each row."""

_COUNTS = ("reduced", "audited", "changed")
"""Of reduced answers, kept where there are any."""

_AHEAD = 2
"""Finished shards that may wait for the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """The outcomes of one shard of n entries, in order, without their names.

    Args:
        part_bytes: The size of the part, by which a torn one is known.
        indices: (n, KEPT), int32: the best classes, best first; of a multi-label model, those that
            apply; -1 where there are none.
        scores: (n, KEPT), float32, in [0, 1]. Where no class applies, the first is the highest.
        unsure: (n,), bool.
        sizes: (n,), int64: bytes of each input when it was read; -1 where that is unknown.
        mtimes: (n,), int64: the same for the time of its last change, in ns.
        failures: Why inputs failed, by their number in the shard.
        applying: All classes that apply to an image of a multi-label model, by its number in the
            shard, where they are more than `KEPT`.
        multi_label: It is one.
        unknown: The numbers of images that are unknown; None where the model cannot tell.
        reduced: How many answers are a reduced program's.
        audited: How many of these were computed both ways.
        changed: How many of these had another label.
    """

    part_bytes: int
    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    unsure: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    failures: dict[int, Failure]
    applying: dict[int, list[int]] = field(default_factory=dict)
    multi_label: bool = False
    unknown: frozenset[int] | None = None
    reduced: int = 0
    audited: int = 0
    changed: int = 0

    def __len__(self) -> int:
        return len(self.unsure)

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], *, part_bytes: int) -> Self:
        """The result of a shard with these outcomes."""
        predictions = [outcome.prediction for outcome in outcomes]
        indices = np.full((len(outcomes), KEPT), -1, np.int32)
        scores = np.zeros((len(outcomes), KEPT), np.float32)
        for row, prediction in enumerate(predictions):
            best = [(c.index, c.score) for c in (prediction.top or ())[:KEPT]]
            if not best and prediction.score is not None:
                best = [(-1, prediction.score)]  # multi-label, and none applies
            for rank, (index, score) in enumerate(best):
                indices[row, rank], scores[row, rank] = index, score
        return cls(
            part_bytes=part_bytes,
            indices=indices,
            scores=scores,
            unsure=np.array([p.unsure is True for p in predictions], np.bool_),
            sizes=np.array([outcome.size for outcome in outcomes], np.int64),
            mtimes=np.array([outcome.mtime_ns for outcome in outcomes], np.int64),
            failures={i: p.error for i, p in enumerate(predictions) if p.error is not None},
            applying={
                row: [one.index for one in prediction.top]
                for row, prediction in enumerate(predictions)
                if prediction.multi_label and prediction.top and len(prediction.top) > KEPT
            },
            multi_label=any(prediction.multi_label for prediction in predictions),
            unknown=_unknown_rows(predictions),
            reduced=sum(p.precision is not None for p in predictions),
            audited=sum(p.audit is not None for p in predictions),
            changed=sum(p.audit == "changed" for p in predictions),
        )

    def classes(self) -> list[list[int]]:
        """For each entry the classes that it is of: one; of a multi-label model any number."""
        kept = self.indices if self.multi_label else self.indices[:, :1]
        return [
            self.applying.get(row) or [index for index in indices if index >= 0]
            for row, indices in enumerate(kept.tolist())
        ]

    def replaced(self, rows: Mapping[int, Outcome], *, part_bytes: int) -> ShardResult:
        """The same with other outcomes in these rows, which had failed."""
        new = ShardResult.of(list(rows.values()), part_bytes=part_bytes)
        at = list(rows)
        arrays: dict[str, Any] = {name: getattr(self, name).copy() for name in _COLUMNS}
        for name, values in arrays.items():
            values[at] = getattr(new, name)
        kept = {row: failure for row, failure in self.failures.items() if row not in rows}
        failures = kept | {at[place]: failure for place, failure in new.failures.items()}
        applying = {row: classes for row, classes in self.applying.items() if row not in rows}
        applying |= {at[place]: classes for place, classes in new.applying.items()}
        unknown = self.unknown
        if unknown is not None or new.unknown is not None:
            others = (unknown or frozenset()).difference(rows)
            unknown = others | {at[place] for place in new.unknown or ()}
        return ShardResult(
            part_bytes=part_bytes,
            failures=failures,
            applying=applying,
            multi_label=self.multi_label or new.multi_label,
            unknown=unknown,
            reduced=self.reduced + new.reduced,
            audited=self.audited + new.audited,
            changed=self.changed + new.changed,
            **arrays,
        )

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The result in a file; None where there is none, or a damaged one."""
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError:
            return None

    @classmethod
    def from_bytes(cls, content: bytes) -> Self | None:
        """The result that `to_bytes` wrote; None where it is damaged."""
        header, _, packed = content.partition(b"\n")
        try:
            known = json.loads(header)
            rows, raw = known["rows"], zlib.decompress(packed)  # which ends in a checksum
            kept = known.get("kept", _KEPT_BEFORE)
            arrays: dict[str, Any] = {}
            at = 0
            for name, (dtype, most) in _COLUMNS.items():
                width = kept if most == KEPT else most
                size = rows * width * np.dtype(dtype).itemsize
                values = np.frombuffer(raw[at : at + size], dtype)
                arrays[name] = values.reshape(rows, width) if width > 1 else values
                at += size
            if kept < KEPT:
                more = ((0, 0), (0, KEPT - kept))
                arrays["indices"] = np.pad(arrays["indices"], more, constant_values=-1)
                arrays["scores"] = np.pad(arrays["scores"], more)
            failures = {row: Failure(code, text) for row, code, text in known["failures"]}
            return cls(
                part_bytes=known["part_bytes"],
                failures=failures,
                applying=dict(known.get("applying", [])),
                multi_label=known.get("multi_label", False),
                unknown=frozenset(known["unknown"]) if "unknown" in known else None,
                **{name: known.get(name, 0) for name in _COUNTS},
                **arrays,
            )
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
            return None

    def to_bytes(self) -> bytes:
        """A line of JSON, then the arrays one after the other, compressed."""
        header: dict[str, Any] = {
            "part_bytes": self.part_bytes,
            "rows": len(self),
            "kept": KEPT,
            "failures": [[i, f.code, f.message] for i, f in self.failures.items()],
        }
        if self.multi_label:
            header |= {"multi_label": True, "applying": list(self.applying.items())}
        if self.unknown is not None:
            header["unknown"] = sorted(self.unknown)
        header |= {name: value for name in _COUNTS if (value := getattr(self, name))}
        raw = b"".join(
            np.ascontiguousarray(getattr(self, name), dtype).tobytes()
            for name, (dtype, _) in _COLUMNS.items()
        )
        return json.dumps(header).encode() + b"\n" + zlib.compress(raw, 1)

    def write(self, path: Path) -> None:
        """Write it at once. Not fsynced: one that is lost costs its shard again, no more.

        Raises:
            OSError: It cannot be written.
        """
        aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
        try:
            aside.write_bytes(self.to_bytes())
            os.replace(aside, path)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


def _unknown_rows(predictions: Sequence[Prediction]) -> frozenset[int] | None:
    """Which of them are unknown; None where the model cannot tell."""
    if all(prediction.unknown is None for prediction in predictions):
        return None
    return frozenset(row for row, prediction in enumerate(predictions) if prediction.unknown)


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A shard whose entries all have an outcome: the content of its part, and its result."""

    shard: Shard
    part: bytes
    result: ShardResult

    @classmethod
    def of(
        cls, shard: Shard, outcomes: list[Outcome], encoding: Format, columns: Columns
    ) -> FinishedShard:
        """The shard with these outcomes, encoded."""
        part = encoding.encode(outcomes, columns)
        return cls(shard, part, ShardResult.of(outcomes, part_bytes=len(part)))


def commit(state: State, finished: FinishedShard) -> None:
    """Write a shard's part, durably, and then its result.

    Raises:
        OSError: The disk is full, or may not be written to.
    """
    path = state.output.part(finished.shard.number)
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(finished.part)
    platform.replace_file(aside, path)
    finished.result.write(state.result(finished.shard.number))


def in_background(
    commit: Callable[[FinishedShard], FinishedShard], shards: Iterable[FinishedShard]
) -> Iterator[FinishedShard]:
    """`map(commit, shards)` on a thread of its own, so that labelling goes on meanwhile.

    Raises:
        Exception: From `commit`, at the latest at the end. What was begun is committed.
    """
    pending: deque[Future[FinishedShard]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="toplabel-commit") as executor:
        for shard in shards:
            pending.append(executor.submit(commit, shard))
            while pending and (len(pending) > _AHEAD or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def read_results(
    state: State, *, check_inputs: bool = False
) -> Iterator[tuple[int, ShardResult | None]]:
    """The number of each shard, and its result where it is done; one at a time is held.

    Args:
        state: Of the run to resume.
        check_inputs: A shard with an input that has changed in size or time is not done.
    """
    for number in range(state.manifest.shards):
        result = ShardResult.read(state.result(number))
        try:
            if result and state.output.part(number).stat().st_size != result.part_bytes:
                result = None  # torn
        except OSError:
            result = None
        if result is not None and check_inputs:
            (shard,) = state.manifest.read_shards([number])
            result = result if _is_current(shard, result) else None
        yield number, result


def _is_current(shard: Shard, result: ShardResult) -> bool:
    """Whether every input has the size and time that it had when it was read.

    Where these were unknown then, nothing can have changed.
    """
    rows = zip(shard.entries, result.sizes.tolist(), result.mtimes.tolist(), strict=True)
    return all(
        mtime < 0 or (stamp(entry) or (-1, -1)) == (size, mtime) for entry, size, mtime in rows
    )


class Tally:
    """Counts results.

    Args:
        labels: The model's.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._counts = np.zeros(len(labels), np.int64)
        self._errors: Counter[str] = Counter()
        self.rows = 0
        self.unsure = 0
        self.passing = 0  # failures whose cause may pass
        self.unknown = 0
        self.reduced = 0
        self.audited = 0
        self.changed = 0
        self.unlabelled = 0  # images to which no class of a multi-label model applies

    @property
    def failed(self) -> int:
        """How many inputs have an error."""
        return self._errors.total()

    @property
    def errors(self) -> dict[str, int]:
        """Inputs by error code, the most frequent first."""
        return dict(self._errors.most_common())

    @property
    def labels(self) -> tuple[LabelCount, ...]:
        """Inputs by label, the most frequent first."""
        order = np.argsort(-self._counts, kind="stable")
        return tuple(
            LabelCount(self._labels[int(i)], int(i), int(self._counts[i]))
            for i in order[: np.count_nonzero(self._counts)]
        )

    def add(self, result: ShardResult) -> None:
        """Count one shard's outcomes."""
        self._count(result, 1)

    def remove(self, result: ShardResult) -> None:
        """Count them no longer: some have changed."""
        self._count(result, -1)

    def _count(self, result: ShardResult, sign: int) -> None:
        classes = result.classes()
        every = np.array([*chain.from_iterable(classes)], np.int64)
        self._counts += sign * np.bincount(every, minlength=len(self._counts))
        self.unlabelled += sign * (sum(not one for one in classes) - len(result.failures))
        for failure in result.failures.values():
            self._errors[failure.code] += sign
            self.passing += sign * may_pass(failure)
        self._errors = +self._errors  # without those that have none left
        self.rows += sign * len(result)
        self.unsure += sign * int(result.unsure.sum())
        self.unknown += sign * len(result.unknown or ())
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + sign * getattr(result, name))


def _top(best: Iterable[tuple[int, float]], *, failed: bool) -> tuple[tuple[int, float], ...]:
    """What a report shows of an image; where no class applies, the class -1 and the best score."""
    given = tuple(best)
    return tuple(one for one in given if one[0] >= 0) or (() if failed else given[:1])


def merge_parts(state: State, encoding: Format) -> None:
    """Write the single file from all parts, at once and durably, unless it is there already.

    Raises:
        OSError: There is no room, or it may not be written.
    """
    output, before, now = state.output, state.merged, _facts(state)
    if before is not None and before == now:
        return
    if before is not None and now is not None and {**before, "parts": 0} != {**now, "parts": 0}:
        warn(f"{str(output.path)!r} was changed since this run wrote it; it is written again")
    state.remember_merged(None)
    parts = [output.part(number) for number in range(state.manifest.shards)]
    aside = output.state / f"joined.{output.format}.tmp"
    try:
        encoding.merge(parts, aside)
        platform.replace_file(aside, output.path)
    finally:
        aside.unlink(missing_ok=True)
    state.remember_merged(_facts(state))


def _facts(state: State) -> dict[str, Any] | None:
    """What is stored of the file when it is written; None where there is none."""
    try:
        status = state.output.path.stat()
    except OSError:
        return None
    parts = state.manifest.shards
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "parts": parts}


def report_rows(state: State) -> Iterator[ReportRow]:
    """Every input of a finished run, in the order of its records; a shard at a time is held."""
    from toplabel.runs.report.selection import ReportRow  # only a run with a report needs it

    for shard in state.manifest.read_shards(range(state.manifest.shards)):
        result = ShardResult.read(state.result(shard.number))
        assert result is not None, "a finished run has all its results"
        rows = zip(shard.entries, result.indices.tolist(), result.scores.tolist(), strict=True)
        for row, (entry, indices, scores) in enumerate(rows):
            best = zip(indices, scores, strict=True)
            yield ReportRow(
                name=entry.name,
                source=open_source(entry),
                top=_top(best, failed=row in result.failures),
                unsure=bool(result.unsure[row]),
                error=result.failures.get(row),
                unknown=row in (result.unknown or ()),
            )
