"""Mark: what is remembered of a finished shard. That it exists says that its part is whole."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from toplabel.inference.prediction import Failure
from toplabel.runs.outcome import Outcome

KEPT = 3
"""How many of an input's best classes a mark remembers."""

_COLUMNS = {
    "indices": ("<i4", KEPT),
    "scores": ("<f4", KEPT),
    "unsure": ("?", 1),
    "sizes": ("<i8", 1),
    "mtimes": ("<i8", 1),
}
"""The arrays in a mark's file: their types, and values of each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The outcomes of one shard of n entries, in order, without their names.

    Args:
        part_bytes: The size of the part, by which a torn one is known.
        indices: (n, 3), int32: the best classes, best first; -1 where there are none.
        scores: (n, 3), float32, in [0, 1].
        unsure: (n,), bool.
        sizes: (n,), int64: bytes of each input when it was read; -1 where that is not known.
        mtimes: (n,), int64: the same for the time of its last change, in ns.
        failures: Why the failed ones failed, by their place.
    """

    part_bytes: int
    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    unsure: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    failures: dict[int, Failure]

    def __len__(self) -> int:
        return len(self.unsure)

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], *, part_bytes: int) -> Self:
        """The mark of a shard with these outcomes."""
        predictions = [outcome.prediction for outcome in outcomes]
        indices = np.full((len(outcomes), KEPT), -1, np.int32)
        scores = np.zeros((len(outcomes), KEPT), np.float32)
        for place, prediction in enumerate(predictions):
            best = [(c.index, c.score) for c in (prediction.top or ())[:KEPT]]
            if not best and prediction.index is not None and prediction.score is not None:
                best = [(prediction.index, prediction.score)]  # multi-label, none reaches it
            for rank, (index, score) in enumerate(best):
                indices[place, rank], scores[place, rank] = index, score
        return cls(
            part_bytes=part_bytes,
            indices=indices,
            scores=scores,
            unsure=np.array([p.unsure is True for p in predictions], np.bool_),
            sizes=np.array([outcome.size for outcome in outcomes], np.int64),
            mtimes=np.array([outcome.mtime_ns for outcome in outcomes], np.int64),
            failures={i: p.error for i, p in enumerate(predictions) if p.error is not None},
        )

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The mark in a file; None where there is none, or a damaged one."""
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError:
            return None

    @classmethod
    def from_bytes(cls, content: bytes) -> Self | None:
        """The mark that `to_bytes` wrote; None where it is damaged."""
        heading, _, packed = content.partition(b"\n")
        try:
            known = json.loads(heading)
            rows, raw = known["rows"], zlib.decompress(packed)  # which ends in a checksum
            arrays, at = {}, 0
            for name, (dtype, width) in _COLUMNS.items():
                size = rows * width * np.dtype(dtype).itemsize
                values = np.frombuffer(raw[at : at + size], dtype)
                arrays[name] = values.reshape(rows, width) if width > 1 else values
                at += size
            failures = {place: Failure(code, text) for place, code, text in known["failures"]}
            return cls(part_bytes=known["part_bytes"], failures=failures, **arrays)
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
            return None

    def to_bytes(self) -> bytes:
        """A line of JSON, then the arrays one after the other, compressed."""
        heading = {
            "part_bytes": self.part_bytes,
            "rows": len(self),
            "failures": [[i, f.code, f.message] for i, f in self.failures.items()],
        }
        raw = b"".join(
            np.ascontiguousarray(getattr(self, name), dtype).tobytes()
            for name, (dtype, _) in _COLUMNS.items()
        )
        return json.dumps(heading).encode() + b"\n" + zlib.compress(raw, 1)

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
