"""Robustness of one model or several in; its table for people, and its CSV, out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toplabel.analysis.evaluate.corruptions import CORRUPTIONS, STRENGTHS
from toplabel.inference.records import csv_text

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluation import Evaluation
    from toplabel.analysis.evaluate.robustness import CorruptedMetrics, Robustness

_COLUMNS = (
    *("model", "corruption", "strength", "setting", "images", "failed", "accuracy"),
    *("accuracy_low", "accuracy_high", "balanced_accuracy", "labels_kept", "mean_score", "unknown"),
)
_NAME = 14
_WIDTH = 5
_WORST = 5


def csv_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """A header, and a row for each model, corruption and strength; strength 0 is clean."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for evaluation in evaluations:
        found = evaluation.robustness
        if found is not None:
            for one in (found.clean, *found.corrupted):
                rows.writerow([csv_text(evaluation.model), *_cells(one, found.images)])
    return file.getvalue().splitlines()


def _cells(one: CorruptedMetrics, images: int) -> list[Any]:
    accuracy = one.accuracy
    shares = (accuracy.value, accuracy.low, accuracy.high, one.balanced_accuracy, one.labels_kept)
    numbers = [
        "" if value is None else round(value, 6) for value in (*shares, one.mean_score, one.unknown)
    ]
    return [one.corruption, one.strength, one.setting, images, one.failed, *numbers]


def table_lines(found: Robustness) -> Iterator[str]:
    """The figures of each corruption at each strength, and the images that it costs most."""
    columns: list[tuple[str, Callable[[CorruptedMetrics], str]]] = [
        ("accuracy %", lambda one: _percent(one.accuracy.value)),
        ("balanced %", lambda one: _percent(one.balanced_accuracy)),
        ("labels kept %", lambda one: _percent(one.labels_kept)),
        ("mean score", lambda one: "-" if one.mean_score is None else f"{one.mean_score:.2f}"),
    ]
    if found.clean.unknown is not None:
        columns.append(("unknown %", lambda one: _percent(one.unknown)))
    group = _WIDTH * len(STRENGTHS)
    yield " " * _NAME + "".join(f"{title:>{group}}" for title, _ in columns)
    strengths = "".join(f"{strength:>{_WIDTH}}" for strength in STRENGTHS)
    yield f"{'strength':<{_NAME}}" + strengths * len(columns)
    yield f"{'clean':<{_NAME}}" + "".join(f"{cell(found.clean):>{group}}" for _, cell in columns)
    for corruption in CORRUPTIONS:
        name = corruption.name.replace("_", " ")
        rows = found.of(corruption.name)
        cells = (f"{cell(one):>{_WIDTH}}" for _, cell in columns for one in rows)
        yield f"{name:<{_NAME}}" + "".join(cells)
    lowest = min(found.corrupted, key=lambda one: one.accuracy.value)
    yield (
        f"accuracy over all corruptions {100 * found.accuracy:.1f} %, lowest with"
        f" {lowest.corruption.replace('_', ' ')} at strength {lowest.strength} ({lowest.setting})"
    )
    for one in found.worst[:_WORST]:
        yield (
            f"  {one.source}: {one.label}, but {one.predicted} ({one.score:.2f}) with"
            f" {one.corruption.replace('_', ' ')} at strength {one.strength}"
        )


def comparison_lines(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Accuracy of several models side by side: each corruption's mean over the strengths."""
    found = [(one.model, one.robustness) for one in evaluations if one.robustness is not None]
    yield "accuracy with corruptions, mean of the three strengths, %"
    for number, (model, _) in enumerate(found, start=1):
        yield f"  {number}: {model}"
    yield " " * _NAME + "".join(f"{number:>8}" for number in range(1, len(found) + 1))
    values = {"clean": [one.clean.accuracy.value for _, one in found]}
    for corruption in CORRUPTIONS:
        values[corruption.name] = [
            sum(row.accuracy.value for row in one.of(corruption.name)) / len(STRENGTHS)
            for _, one in found
        ]
    values["all"] = [one.accuracy for _, one in found]
    for name, shares in values.items():
        cells = "".join(f"{100 * share:8.1f}" for share in shares)
        yield f"{name.replace('_', ' '):<{_NAME}}" + cells


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"
