"""Drift: how many of the images of the last hour are unknown, of models that can tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toplabel.bundle.unknown import Drift, UnknownDetector
    from toplabel.serve.metrics import Metrics

logger = logging.getLogger(__name__)

MINUTES = 60


class LastHour:
    """Counts a model's images minute by minute, and forgets them after an hour.

    Args:
        name: The model's.
        detector: What tells its unknown images.
        clock: Seconds that only grow.
    """

    def __init__(
        self, name: str, detector: UnknownDetector, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._detector = detector
        self._clock = clock
        self._minutes: dict[int, tuple[int, int]] = {}  # minute -> images, unknown ones
        self._told = False

    @property
    def drift(self) -> Drift:
        """How many are unknown, and whether that is more than can be expected."""
        self._forget()
        counts = [*self._minutes.values()]
        return self._detector.drift(sum(u for _, u in counts), sum(n for n, _ in counts))

    def add(self, unknown: bool) -> None:
        """Count one image. What becomes more than can be expected is warned of, once."""
        self._forget()
        minute = self._minute()
        images, before = self._minutes.get(minute, (0, 0))
        self._minutes[minute] = images + 1, before + unknown
        if not unknown:
            return
        drift = self.drift
        if drift.is_significant and not self._told:
            logger.warning("%s: in the last hour %s", self._name, drift)
        self._told = drift.is_significant

    def watch(self, metrics: Metrics) -> None:
        """Show it among the metrics."""
        for gauge, value in (
            (metrics.unknown_share, lambda: self.drift.share),
            (metrics.unknown_expected, lambda: self._detector.expected[1]),
            (metrics.drift, lambda: float(self.drift.is_significant)),
        ):
            gauge.labels(self._name).set_function(value)

    def _minute(self) -> int:
        return int(self._clock() // 60)

    def _forget(self) -> None:
        first = self._minute() - MINUTES
        for minute in [minute for minute in self._minutes if minute <= first]:
            del self._minutes[minute]
