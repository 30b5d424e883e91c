"""Mark: what is remembered of a finished shard. That it exists says that its part is whole."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from toplabel.prediction import Failure
from toplabel.runs.outcome import Outcome

KEPT = 3
"""How many of an input's best classes a mark remembers."""


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
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                failures = json.loads(bytes(arrays["failures"]))
                return cls(
                    part_bytes=int(arrays["part_bytes"]),
                    indices=arrays["indices"],
                    scores=arrays["scores"],
                    unsure=arrays["unsure"],
                    sizes=arrays["sizes"],
                    mtimes=arrays["mtimes"],
                    failures={place: Failure(code, text) for place, code, text in failures},
                )
        except (ValueError, KeyError, EOFError, OSError, TypeError, zipfile.BadZipFile):
            return None

    def to_bytes(self) -> bytes:
        """The mark as the content of an .npz file."""
        failures = [[i, f.code, f.message] for i, f in self.failures.items()]
        content = io.BytesIO()
        np.savez_compressed(
            content,
            part_bytes=np.int64(self.part_bytes),
            indices=self.indices,
            scores=self.scores,
            unsure=self.unsure,
            sizes=self.sizes,
            mtimes=self.mtimes,
            failures=np.frombuffer(json.dumps(failures).encode(), np.uint8),
        )
        return content.getvalue()

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
