"""Batching: an engine that puts what several threads ask for at once into one call.

There is no waiting for company: while one call runs, the next one's images gather.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.inference.engines import Engine, EngineName


class _Call:
    """What one thread asks for."""

    def __init__(self, batch: NDArray[np.float32]) -> None:
        self.batch = batch
        self.logits: NDArray[np.float32] | None = None
        self.error: Exception | None = None
        self.done = threading.Event()


class BatchingEngine:
    """Shares one engine among threads, a batch of theirs at a time.

    A batch that fails is run again call by call, so that only the guilty fail.

    Args:
        engine: Called by one thread at a time.
        max_batch: Most images of one call.
    """

    def __init__(self, engine: Engine, *, max_batch: int) -> None:
        self.name: EngineName = engine.name
        self.device = engine.device
        self._engine = engine
        self._max_batch = max_batch
        self._lock = threading.Lock()  # of the list of calls
        self._turn = threading.Lock()  # of the engine
        self._waiting: list[_Call] = []

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of shape (N, C, H, W), float32."""
        call = _Call(batch)
        with self._lock:
            self._waiting.append(call)
        with self._turn:  # whoever has it works for all that wait
            if not call.done.is_set():
                self._run(self._take(call))
        if call.error is not None:
            raise call.error
        assert call.logits is not None
        return call.logits

    def _take(self, own: _Call) -> list[_Call]:
        """The caller's own call and as many of the others as fit, oldest first."""
        with self._lock:
            self._waiting.remove(own)
            calls, count = [own], len(own.batch)
            for other in list(self._waiting):
                if count + len(other.batch) > self._max_batch:
                    break
                calls.append(other)
                count += len(other.batch)
                self._waiting.remove(other)
            return calls

    def _run(self, calls: list[_Call]) -> None:
        batches = [call.batch for call in calls]
        try:
            logits = self._engine(batches[0] if len(calls) == 1 else np.concatenate(batches))
        except Exception as error:
            if len(calls) > 1:
                for call in calls:
                    self._run([call])
                return
            calls[0].error = error
            calls[0].done.set()
            return
        start = 0
        for call in calls:
            call.logits = logits[start : start + len(call.batch)]
            start += len(call.batch)
            call.done.set()
