"""JSON lines: the records of the command line, with the pictures' sizes, a line each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from toplabel.inference.records import to_json
from toplabel.runs.outcome import Outcome


def encode(outcomes: Sequence[Outcome], *, all_scores: bool) -> bytes:
    """A line of JSON for each outcome; see `Format.encode`."""
    return b"".join([_line(outcome, all_scores=all_scores) for outcome in outcomes])


def join(parts: Sequence[Path], target: Path) -> None:
    """One file after another; see `Format.join`."""
    with open(target, "wb") as file:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file)


def _line(outcome: Outcome, *, all_scores: bool) -> bytes:
    prediction = outcome.prediction
    more: dict[str, object] = {"width": prediction.width, "height": prediction.height}
    if all_scores:
        scores = prediction.scores
        more["scores"] = None if scores is None else as_floats(scores.tolist())
    return to_json(prediction, more)


def as_floats(scores: Sequence[float]) -> list[float]:
    """Scores in float16's precision, in as few digits as give the same float16 again."""
    return [float(f"{score:.5g}") for score in scores]
