"""Opened engines: those of one model, exact and reduced, by the number of their threads."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from toplabel.inference.cascade import ReducedUse, ReducedWay, open_reduced

if TYPE_CHECKING:
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

logger = logging.getLogger(__name__)


class OpenedEngines:
    """Opens engines when they are first asked for, and keeps them; after a fork, anew."""

    def __init__(self) -> None:
        self._audited = 0  # inputs so far that came without a place of their own
        self._use: ReducedUse | None = None
        self.forget()

    def forget(self) -> None:
        """Free their memory; the next call opens them again."""
        self._lock, self._opening_on_gpu = threading.Lock(), threading.Lock()
        self._exact: dict[tuple[int, bool], Engine] = {}
        self._on_gpu: dict[bool, Engine | None] = {}
        self._reduced: dict[tuple[int, bool], Engine | str] = {}
        self._process = os.getpid()  # last: who sees it sees the others

    def exact(self, classifier: Classifier, threads: int, *, features: bool = False) -> Engine:
        """The engine that computes with so many threads."""
        self._check_process()
        engines = self._exact
        with self._lock:
            for key in ((threads, features), (0, features)):
                if key in engines:
                    return engines[key]
            engine = classifier.open_engine(threads, features=features)
            # On a device threads mean nothing: a second engine would hold its memory twice.
            engines[threads if engine.device == "cpu" else 0, features] = engine
            return engine

    def on_gpu(self, classifier: Classifier, *, features: bool = False) -> Engine | None:
        """The engine for many images, for any number of threads at once; None without a GPU."""
        if not classifier.gpu:
            return None
        self._check_process()
        with self._opening_on_gpu:
            if features not in self._on_gpu:
                from toplabel.inference.gpu import open_on_gpu  # imports torch

                self._on_gpu[features] = open_on_gpu(classifier, features=features)
            return self._on_gpu[features]

    def reduced(
        self, classifier: Classifier, threads: int, *, features: bool, widens: bool
    ) -> ReducedWay | None:
        """The model's reduced program, where it can be used; else it is told once why not.

        Args:
            classifier: The model.
            threads: Threads that one call of its engine computes with.
            features: It is asked for features, too.
            widens: What the audit finds widens the margin for all that ask so.
        """
        self._check_process()
        engines = self._reduced
        with self._lock:
            key, is_first = (threads, features), not engines
            if key not in engines:
                engines[key] = open_reduced(classifier, threads, features=features)
            engine, bundle = engines[key], classifier.bundle
            if isinstance(engine, str):
                if is_first:
                    logger.warning("%s; every answer is computed exactly", engine)
                return None
            assert bundle is not None
            assert bundle.reduced is not None
            if self._use is None or self._use.program != bundle.reduced:
                self._use = ReducedUse(bundle.reduced)
            use = self._use if widens else ReducedUse(bundle.reduced, widens=False)
            return ReducedWay(engine, use)

    def take_places(self, count: int) -> int:
        """The place of the first of so many inputs among all that came without one."""
        self._check_process()
        with self._lock:
            first, self._audited = self._audited, self._audited + count
            return first

    def take_warning(self) -> str | None:
        """What the audit has found since the last call, where a label changed."""
        return None if self._use is None else self._use.take_warning()

    def _check_process(self) -> None:
        if self._process != os.getpid():  # after a fork, an engine's threads are gone
            self.forget()
