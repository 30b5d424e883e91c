"""Engines that many callers share: opened once, or called in turns."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toplabel.inference.engines import Engine


class OpenedEngines:
    """The engines that this process has opened, by their number of threads."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._lock = threading.Lock()
        self._opened: dict[int, Engine] = {}

    def get(self, threads: int, open_engine: Callable[[int], Engine]) -> Engine:
        """The engine that computes with so many threads; opened where it is not yet."""
        with self._lock:
            if threads not in self._opened:
                self._opened[threads] = open_engine(threads)
            return self._opened[threads]


class TakingTurns:
    """An engine that is called by one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.device = engine.device
        self._engine = engine
        self._turn = threading.Lock()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch, when it is this caller's turn."""
        with self._turn:
            return self._engine(batch)
