"""Predictions in as they come; records, messages and the exit status out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from toplabel.cli.records import Records
from toplabel.cli.terminal import Progress, clear_line, is_terminal, say

if TYPE_CHECKING:
    from toplabel.cli.view import View
    from toplabel.inference.prediction import Prediction


class Report:
    """Prints each prediction as it comes.

    Args:
        view: The format of the records.
        quiet: Print no notes; failures are reported all the same.
        progress: Where to show progress.
    """

    def __init__(self, view: View, *, quiet: bool, progress: Progress) -> None:
        self._view = view
        self._quiet = quiet
        self._at_terminal = view.is_table and is_terminal(sys.stderr)
        self._progress = progress
        self._records = Records()
        self._done = 0
        self._failed = 0
        self._missing = 0

    @property
    def status(self) -> int:
        """The exit status so far: 0; 1 if some inputs have failed; 2 without any record."""
        if self._missing and not self._done:
            return 2
        return 1 if self._failed or self._missing else 0

    def add(self, prediction: Prediction) -> None:
        """Print one prediction: its record, and its warnings and error."""
        if not self._done and self._view.header:
            self._records.write(self._view.header)
        self._done += 1
        self._failed += prediction.error is not None
        self._records.write(self._view.encode(prediction))
        if not self._view.tells:
            self._explain(prediction)
        self._progress.update(self._done, self._failed)

    def introduce(self, text: str) -> None:
        """Print what a person at a terminal should know before the first record."""
        if self._at_terminal:
            self.note(text)

    def note(self, text: str) -> None:
        """Print one line for people, unless quiet."""
        if not self._quiet:
            self._say(text)

    def miss(self, text: str) -> None:
        """Print why an input names no image."""
        self._missing += 1
        self._say(text)

    def close(self) -> None:
        """Remove the progress line, and count the failures that only the records report."""
        clear_line()
        if self._failed and self._view.tells:
            say(f"{self._failed:,} of {self._done:,} inputs failed; see their records")

    def _explain(self, prediction: Prediction) -> None:
        for warning in prediction.warnings:
            self._say(f"{prediction.source}: warning: {warning}")
        if prediction.error is not None:
            message = prediction.error.message
            named = message.startswith("cannot read ")  # says what, too
            self._say(message if named else f"{prediction.source}: {message}")

    def _say(self, text: str) -> None:
        say(text)
