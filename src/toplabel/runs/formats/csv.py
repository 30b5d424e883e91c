"""CSV: safe for spreadsheets, with a heading, the columns of the command line and the sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from toplabel.inference.records import csv_header, to_csv
from toplabel.runs.formats.jsonl import as_floats
from toplabel.runs.outcome import Outcome


def encode(outcomes: Sequence[Outcome], *, all_scores: bool) -> bytes:
    """A heading, and a row for each outcome; see `Format.encode`."""
    more = ("width", "height", *(("scores",) if all_scores else ()))
    rows = [_row(outcome, all_scores=all_scores) for outcome in outcomes]
    return b"".join([csv_header(more), *rows])


def join(parts: Sequence[Path], target: Path) -> None:
    """The heading once, then all rows; see `Format.join`."""
    with open(target, "wb") as file:
        for place, part in enumerate(parts):
            with open(part, "rb") as source:
                heading = source.readline()
                if place == 0:
                    file.write(heading)
                shutil.copyfileobj(source, file)


def _row(outcome: Outcome, *, all_scores: bool) -> bytes:
    prediction = outcome.prediction
    more: list[object] = [prediction.width, prediction.height]
    if all_scores:
        scores = prediction.scores
        more.append("" if scores is None else json.dumps(as_floats(scores.tolist())))
    return to_csv(prediction, more)
