"""Evaluations in; one HTML page out that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.ordered_map import ordered_map
from toplabel._internal.platform import available_cpus
from toplabel.analysis.evaluate import plots
from toplabel.analysis.page.fragments import (
    Html,
    figure,
    fill,
    join,
    page,
    section,
    table,
    thumbnail,
    thumbnail_of,
)
from toplabel.runs.report.report import write_page

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluation import Evaluation
    from toplabel.analysis.evaluate.metrics import Estimate, PairedTest
    from toplabel.analysis.evaluate.robustness import Robustness

_MAX_MISTAKES = 24
_MAX_CLASSES = 60
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
    write_page(Path(path), [_page(evaluations, tests)])


def _page(evaluations: Sequence[Evaluation], tests: Sequence[PairedTest]) -> Html:
    first, alone = evaluations[0], len(evaluations) == 1
    sections = [_metrics_table(evaluations)]
    sections += [fill("paragraph", text=f"{one}.") for one in tests]
    figures = [figure("Reliability", plots.reliability(one), one.model) for one in evaluations]
    figures.append(figure("Accuracy over coverage", plots.coverage(evaluations)))
    sections.append(section("Scores", fill("plots", figures=join(figures))))
    if first.robustness is not None:
        sections += _robustness(evaluations)
    for one in evaluations:
        sections += _model_sections(one, of="" if alone else f" of {one.model}")
    return page(
        f"{first.model} on {first.data}" if alone else f"Evaluation on {first.data}",
        summary=_summary(first),
        notes=[note for one in evaluations for note in one.notes],
        sections=sections,
    )


def _summary(first: Evaluation) -> str:
    metrics = first.metrics
    codes = ", ".join(f"{count:,} {code}" for code, count in first.outputs.codes.most_common())
    failed = f"; {metrics.failed:,} could not be labelled ({codes})" if metrics.failed else ""
    return (
        f"{metrics.images:,} images of {len(metrics.classes):,} classes{failed}; {first.matching}"
    )


def _metrics_table(evaluations: Sequence[Evaluation]) -> Html:
    models = [one.model for one in evaluations]
    head = ["", *(models if len(models) > 1 else ["with a 95 % interval"])]
    return table(
        head,
        [
            [text, *(_estimate(getattr(one.metrics, name), name) for one in evaluations)]
            for name, text in _METRICS
        ],
    )


def _estimate(estimate: Estimate | None, name: str) -> Html | str:
    if estimate is None:
        return "five classes or fewer"
    scale, unit, digits = (100, " %", 1) if name in _PERCENTAGES else (1, "", 3)
    value, low, high = (
        f"{scale * number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return fill("estimate", value=value + unit, low=low, high=high)


def _model_sections(one: Evaluation, *, of: str) -> Iterator[Html]:
    """What a model gets wrong."""
    yield section(f"Most confident mistakes{of}", _mistakes(one))
    figures = [figure("Recall, worst first", plots.recall(one))]
    matrix = plots.confusion(one)
    if matrix is not None:
        figures.append(figure("Confusion matrix: rows are actual classes", matrix))
    yield section(f"Classes{of}", fill("plots", figures=join(figures)))
    pairs = one.metrics.confusions[:_MAX_CONFUSIONS]
    if pairs:
        rows = [
            (one.labels[actual], one.labels[best], f"{count:,}") for actual, best, count in pairs
        ]
        pairs_table = table(("actual", "predicted", "images"), rows, texts=2)
        yield section(f"Most frequent mistakes{of}", pairs_table)
    yield _classes(one, of)


def _mistakes(one: Evaluation) -> Html:
    outputs = one.outputs
    confidence = outputs.scores.max(axis=1)
    wrong = np.flatnonzero(outputs.best != outputs.known)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MAX_MISTAKES]
    if not len(worst):
        return fill("paragraph", text="None.")
    places = np.flatnonzero(outputs.readable)[worst]
    sources = [outputs.dataset.sources[place] for place in places]
    images = ordered_map(thumbnail, sources, workers=available_cpus())
    items = [
        fill(
            "mistake",
            image=image,
            predicted=one.labels[int(outputs.best[row])],
            score=f"{100 * confidence[row]:.0f}",
            actual=one.labels[int(outputs.known[row])],
            name=Path(source).name,
        )
        for row, source, image in zip(worst, sources, images, strict=True)
    ]
    return fill("mistakes", items=join(items))


def _classes(one: Evaluation, of: str) -> Html:
    classes = one.metrics.classes
    worst = sorted(classes, key=lambda c: (c.recall, c.label))[:_MAX_CLASSES]
    rows = [
        (c.label, f"{c.images:,}", f"{c.failed:,}")
        + tuple(f"{value:.3f}" for value in (c.recall, c.precision, c.f1))
        for c in worst
    ]
    rest = f" (the worst {_MAX_CLASSES} of {len(classes):,})" if len(classes) > len(worst) else ""
    head = ("class", "images", "failed", "recall", "precision", "F1")
    return section(f"All classes{of}{rest}", table(head, rows))


def _robustness(evaluations: Sequence[Evaluation]) -> Iterator[Html]:
    """What corruptions do to each model, and the labels that they cost."""
    found = [(one.model, one.robustness) for one in evaluations if one.robustness is not None]
    several = len(found) > 1
    drawn = figure("Accuracy at strengths 1 to 3, from top to bottom", plots.robustness(found))
    yield section("Corrupted images", fill("plots", figures=drawn))
    for model, one in found:
        of = f" of {model}" if several else ""
        yield section(f"Each corruption{of}", _corruption_table(one))
        yield section(f"Labels lost to corruption, most confident first{of}", _lost(one))


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
