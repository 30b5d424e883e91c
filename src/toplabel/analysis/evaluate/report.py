"""Evaluations in; one HTML page out that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.ordered_map import ordered_map
from toplabel._internal.platform import available_cpus
from toplabel._internal.statistics import wilson_interval
from toplabel._internal.text import number_of, percent
from toplabel.analysis.evaluate import plots
from toplabel.analysis.evaluate.corruptions import CORRUPTIONS, STRENGTHS
from toplabel.analysis.page.fragments import (
    Html,
    confusion_matrix,
    figure,
    fill,
    join,
    matrix,
    page,
    recall,
    section,
    table,
    thumbnail_of,
    thumbnails,
)
from toplabel.runs.report.report import write_page

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluation import Evaluation
    from toplabel.analysis.evaluate.metrics import ClassMetrics, Estimate, PairedTest
    from toplabel.analysis.evaluate.robustness import CorruptedMetrics, Robustness

_MAX_MISTAKES = 24
_MAX_CLASSES = 60
_MAX_CELLS = 30
"""Classes in a confusion matrix that is shown."""

_MAX_CONFUSIONS = 20
_METRICS = (
    ("top1", "Accuracy over readable images"),
    ("top1_of_all", "Accuracy over all images"),
    ("top5", "Top-5 accuracy"),
    ("macro_recall", "Balanced accuracy"),
    ("macro_f1", "Macro F1"),
    ("ece", "Calibration error (ECE, 15 bins)"),
    ("brier", "Brier score"),
    ("nll", "Negative log likelihood"),
)
_PERCENTAGES = ("top1", "top1_of_all", "top5", "macro_recall")


def write_evaluation_report(
    path: str | Path, evaluations: Sequence[Evaluation], tests: Sequence[PairedTest]
) -> None:
    """Write the report; an existing file is replaced.

    Args:
        path: Where it goes.
        evaluations: Of one model or several, on the same images.
        tests: Of each further model with the first.

    Raises:
        RunError: The file cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    require("matplotlib", extra="evaluate", purpose="the report of an evaluation")
    write_page(Path(path), [_page(evaluations, tests, path)])


def _page(evaluations: Sequence[Evaluation], tests: Sequence[PairedTest], path: str | Path) -> Html:
    first, alone = evaluations[0], len(evaluations) == 1
    sections = [_metrics_table(evaluations)]
    for other, test in zip(evaluations[1:], tests, strict=False):
        sections.append(fill("paragraph", text=f"{first.model} and {other.model}: {test}."))
    sections.append(section("Scores", fill("plots", figures=_figures(evaluations))))
    if first.robustness is not None:
        sections += _robustness(evaluations)
    for one in evaluations:
        sections += _model_sections(one, path, of="" if alone else f" of {one.model}")
    return page(
        f"{first.model} on {first.data}" if alone else f"Evaluation on {first.data}",
        summary=_summary(first),
        notes=[note for one in evaluations for note in one.notes],
        sections=sections,
    )


def _figures(evaluations: Sequence[Evaluation]) -> Html:
    """Reliability of each model, and the coverage of all."""
    models = [one.model for one in evaluations]
    several = len(models) > 1
    drawn = [
        figure(
            "Reliability",
            plots.reliability(one, number=number),
            note=one.model if several else "",
        )
        for number, one in enumerate(evaluations)
    ]
    legend = plots.legend(models) if several else None
    drawn.append(figure("Accuracy over coverage", plots.coverage(evaluations), legend=legend))
    return join(drawn)


def _summary(first: Evaluation) -> str:
    metrics = first.metrics
    codes = ", ".join(f"{count:,} {code}" for code, count in first.outputs.codes.most_common())
    failed = f"; {metrics.failed:,} could not be labelled ({codes})" if metrics.failed else ""
    classes = number_of(len(metrics.classes), "class", "classes")
    return f"{number_of(metrics.images, 'image')} of {classes}{failed}; {first.matching}"


def _metrics_table(evaluations: Sequence[Evaluation]) -> Html:
    models = [one.model for one in evaluations]
    head = ["metric", *(models if len(models) > 1 else ["with its 95 % interval"])]
    found = {name: [getattr(one.metrics, name) for one in evaluations] for name, _ in _METRICS}
    rows = [
        [text, *(_estimate(one, name) for one in found[name])]
        for name, text in _METRICS
        if any(found[name])  # of five classes or fewer there is no top-5 accuracy
    ]
    return table(head, rows)


def _estimate(estimate: Estimate | None, name: str) -> Html | str:
    if estimate is None:
        return ""
    scale, unit, digits = (100, " %", 1) if name in _PERCENTAGES else (1, "", 3)
    value, low, high = (
        f"{scale * number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return fill("estimate", value=value + unit, low=low, high=high)


def _model_sections(one: Evaluation, path: str | Path, *, of: str) -> Iterator[Html]:
    """What a model gets wrong."""
    yield section(f"Most confident mistakes{of}", _mistakes(one, path))
    yield _classes(one, of)
    metrics, shown = one.metrics, _shown_classes(one)
    if 2 <= len(shown) <= _MAX_CELLS:
        from sklearn.metrics import confusion_matrix as count_confusions

        outputs = one.outputs
        counts = count_confusions(outputs.known, outputs.best, labels=shown).tolist()
        names = [one.labels[index] for index in shown]
        yield section(f"What is taken for what{of}", confusion_matrix(names, counts))
    elif metrics.confusions:
        rows = [
            (one.labels[actual], one.labels[best], f"{count:,}")
            for actual, best, count in metrics.confusions[:_MAX_CONFUSIONS]
        ]
        pairs_table = table(("actual", "predicted", "images"), rows, texts=2)
        yield section(f"Most frequent mistakes{of}", pairs_table)


def _shown_classes(one: Evaluation) -> list[int]:
    """The classes that occur, or are predicted."""
    found: list[int] = np.union1d(one.outputs.truth, one.outputs.best).tolist()
    return found


def _mistakes(one: Evaluation, path: str | Path) -> Html:
    outputs = one.outputs
    confidence = outputs.scores.max(axis=1)
    wrong = np.flatnonzero(outputs.best != outputs.known)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MAX_MISTAKES]
    if not len(worst):
        return fill("paragraph", text="None.")
    places = np.flatnonzero(outputs.readable)[worst]
    sources = [outputs.dataset.sources[place] for place in places]
    items = [
        fill(
            "mistake",
            image=image,
            predicted=one.labels[int(outputs.best[row])],
            score=f"{100 * confidence[row]:.0f}",
            actual=one.labels[int(outputs.known[row])],
            name=Path(source).name,
        )
        for row, source, image in zip(worst, sources, thumbnails(sources, path), strict=True)
    ]
    return fill("mistakes", items=join(items))


def _classes(one: Evaluation, of: str) -> Html:
    classes = one.metrics.classes
    worst = sorted(classes, key=lambda c: (c.recall, c.label))[:_MAX_CLASSES]
    any_failed = any(c.failed for c in classes)
    rows = [
        (
            c.label,
            f"{c.images:,}",
            *([f"{c.failed:,}"] if any_failed else []),
            _recall(c),
            percent(c.precision),
            f"{c.f1:.3f}",
            "" if c.mistaken is None else f"{c.mistaken[0]}, {c.mistaken[1]:,} ×",
        )
        for c in worst
    ]
    rest = f" (the worst {_MAX_CLASSES} of {len(classes):,})" if len(classes) > len(worst) else ""
    failed = ["failed"] if any_failed else []
    numbers = ("number",) * (1 + len(failed))
    body = table(
        ("class, worst first", "images", *failed, "recall", "precision", "F1", "mostly taken for"),
        rows,
        kinds=("text", *numbers, "wide", "number", "number", "text"),
    )
    return section(f"Classes{of}{rest}", body)


def _recall(one: ClassMetrics) -> Html | str:
    """With Wilson's interval; nothing where none of its images is readable."""
    readable = one.images - one.failed
    if not readable:
        return ""
    return recall(one.recall, *wilson_interval(one.recall * readable, readable))


def _robustness(evaluations: Sequence[Evaluation]) -> Iterator[Html]:
    """What corruptions do to each model, and the labels that they cost."""
    found = [(one.model, one.robustness) for one in evaluations if one.robustness is not None]
    for model, one in found:
        of = f" of {model}" if len(found) > 1 else ""
        every = fill("details", title="All figures", body=_corruption_table(one))
        yield section(f"Corrupted images{of}", join([_corruption_matrix(one), every]))
        yield section(f"Labels lost to corruption, most confident first{of}", _lost(one))


def _corruption_matrix(found: Robustness) -> Html:
    """Accuracy with each corruption at each strength, shaded by what is left of it."""
    clean = found.clean.accuracy
    rows = [
        (
            one.name.replace("_", " "),
            [
                ("right", row.accuracy.value / max(clean.value, 1e-12), _accuracy_cell(row))
                for row in found.of(one.name)
            ],
        )
        for one in CORRUPTIONS
    ]
    note = (
        "Accuracy in % at three strengths, with 95 % intervals. Without corruption it is"
        f" {percent(clean.value)}; over all corruptions {percent(found.accuracy)}."
    )
    return matrix([f"strength {strength}" for strength in STRENGTHS], rows, note=note)


def _accuracy_cell(row: CorruptedMetrics) -> Html:
    shares = (row.accuracy.value, row.accuracy.low, row.accuracy.high)
    value, low, high = (f"{100 * share:.0f}" for share in shares)
    return fill("estimate", value=value, low=low, high=high)


def _corruption_table(found: Robustness) -> Html:
    head = ["corruption", "strength", "accuracy", "balanced accuracy", "labels kept", "mean score"]
    detects = found.corrupted[0].unknown is not None
    rows = [
        [
            f"{one.corruption.replace('_', ' ')}, {one.setting}" if one.setting else "none",
            one.strength,
            _estimate(one.accuracy, "top1"),
            f"{100 * one.balanced_accuracy:.1f} %",
            f"{100 * one.labels_kept:.1f} %",
            "" if one.mean_score is None else f"{one.mean_score:.3f}",
            *([f"{100 * one.unknown:.1f} %" if one.unknown is not None else ""] if detects else []),
        ]
        for one in (found.clean, *found.corrupted)
    ]
    return table([*head, *(["unknown"] if detects else [])], rows)


def _lost(found: Robustness) -> Html:
    if not found.worst:
        return fill("paragraph", text="None.")
    images = ordered_map(found.show, found.worst, workers=available_cpus())
    items = [
        fill(
            "mistake",
            image=fill("placeholder") if pixels is None else thumbnail_of(pixels),
            predicted=one.predicted,
            score=f"{100 * one.score:.0f}",
            actual=one.label,
            name=f"{one.corruption.replace('_', ' ')} {one.strength}: {Path(one.source).name}",
        )
        for one, pixels in zip(found.worst, images, strict=True)
    ]
    return fill("mistakes", items=join(items))
