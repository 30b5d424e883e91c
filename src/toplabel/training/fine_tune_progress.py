"""How far a network's training is: kept in a file, so that a start after a kill goes on there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from toplabel._internal.platform import written_aside
from toplabel._internal.text import first_line, number_of

_EVERY_SECONDS = 30.0
_SHARE = 20
"""Of the time, saving may take one part in so many."""

logger = logging.getLogger(__name__)


class ProgressFile:
    """A file that is always whole: that of the last save, or the one before.

    Args:
        path: Named after all that the training depends on, so that no other one goes on with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = monotonic()
        self._took = 0.0
        self._failed = False

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None where nothing was, or the file is damaged."""
        try:
            found = torch.load(self._path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file makes of it
            logger.info(
                "training begins anew: %s cannot be read: %s", self._path, first_line(error)
            )
            return None
        return found if isinstance(found, dict) else None

    def save_now_and_then(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save what `state` gives, unless that was done a short while ago."""
        if monotonic() - self._saved >= max(_EVERY_SECONDS, _SHARE * self._took):
            self.save(state())

    def save(self, state: Mapping[str, Any]) -> None:
        """Save the state; where that cannot be done, go on without."""
        before = monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(self._path) as aside, aside.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter on a full disk
            if not self._failed:
                logger.warning(
                    "cannot save training progress in %s (%s); if interrupted, it will start over",
                    self._path.parent,
                    first_line(error),
                )
            self._failed = True
        self._saved = monotonic()
        self._took = self._saved - before

    def remove(self) -> None:
        """Take the file away, once there is a result."""
        with suppress(OSError):
            self._path.unlink()


def duration(seconds: float) -> str:
    """For people: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 100:
        return number_of(max(1, round(seconds)), "second")
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
