"""Evaluations in; one HTML page out that needs no other file and no network."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.ordered_map import ordered_map
from toplabel._internal.platform import available_cpus
from toplabel._internal.text import visible
from toplabel.analysis.evaluate.metrics import BINS, bins_of
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.runs.report.report import palette, write_page

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluation import Evaluation
    from toplabel.analysis.evaluate.metrics import Estimate, PairedTest

_MAX_MISTAKES = 24
_MAX_CLASSES = 60
_MAX_CONFUSIONS = 20
_THUMBNAIL = (320, 240)  # at most (width, height)
_READ = ReadOptions(timeout_seconds=10.0)
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


class Html(str):
    """Text that is HTML already, so that it is not escaped."""

    __slots__ = ()


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
    notes = dict.fromkeys(note for one in evaluations for note in one.notes)
    sections = [_metrics_table(evaluations)]
    sections += [_fill("paragraph", text=f"{one}.") for one in tests]
    figures = [_figure("Reliability", reliability(one), one.model) for one in evaluations]
    figures.append(_figure("Accuracy over coverage", coverage(evaluations)))
    sections.append(_section("Scores", _fill("plots", figures=_join(figures))))
    for one in evaluations:
        sections += _model_sections(one, of="" if alone else f" of {one.model}")
    style = palette() + (files(__package__) / "page.css").read_text(encoding="utf-8")
    return _fill(
        "page",
        title=f"{first.model} on {first.data}" if alone else f"Evaluation on {first.data}",
        style=Html(style),
        summary=_summary(first),
        notes=_join(_fill("note", text=note[:1].upper() + note[1:]) for note in notes),
        sections=_join(sections),
    )


def _fill(name: str, /, **values: object) -> Html:
    """A fragment of the template with its $names replaced; all but `Html` is escaped."""
    texts = {
        key: value if isinstance(value, Html) else html.escape(visible(str(value)))
        for key, value in values.items()
    }
    return Html(_fragments()[name].substitute(texts))


@cache
def _fragments() -> dict[str, Template]:
    """The fragments of page.html, each below a line with its name."""
    text = (files(__package__) / "page.html").read_text(encoding="utf-8")
    _, *parts = re.split(r"^<!-- (\w+) -->\n", text, flags=re.MULTILINE)
    return {name: Template(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def _join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _summary(first: Evaluation) -> str:
    metrics = first.metrics
    codes = ", ".join(f"{count:,} {code}" for code, count in first.outputs.codes.most_common())
    failed = f"; {metrics.failed:,} could not be labelled ({codes})" if metrics.failed else ""
    return (
        f"{metrics.images:,} images of {len(metrics.classes):,} classes{failed}; {first.matching}"
    )


def _section(title: str, body: Html) -> Html:
    return _fill("section", title=title, body=body)


def _figure(caption: str, svg: Html, model: str = "") -> Html:
    return _fill("figure", caption=caption, model=model, svg=svg)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], *, texts: int = 1) -> Html:
    """A table whose first `texts` columns hold text, the others numbers."""

    def cells(name: str, row: Sequence[object], start: int) -> Html:
        kinds = ("text" if place < texts else "number" for place in range(start, len(head)))
        return _join(
            _fill(name, kind=kind, text=text) for kind, text in zip(kinds, row, strict=True)
        )

    body = (_fill("row", name=row[0], cells=cells("cell", row[1:], 1)) for row in rows)
    return _fill("table", head=cells("heading", head, 0), rows=_join(body))


def _metrics_table(evaluations: Sequence[Evaluation]) -> Html:
    models = [one.model for one in evaluations]
    head = ["", *(models if len(models) > 1 else ["with a 95 % interval"])]
    return _table(
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
    return _fill("estimate", value=value + unit, low=low, high=high)


def _model_sections(one: Evaluation, *, of: str) -> Iterator[Html]:
    """What a model gets wrong."""
    yield _section(f"Most confident mistakes{of}", _mistakes(one))
    figures = [_figure("Recall, worst first", recall(one))]
    matrix = confusion(one)
    if matrix is not None:
        figures.append(_figure("Confusion matrix: rows are actual classes", matrix))
    yield _section(f"Classes{of}", _fill("plots", figures=_join(figures)))
    pairs = one.metrics.confusions[:_MAX_CONFUSIONS]
    if pairs:
        rows = [
            (one.labels[actual], one.labels[best], f"{count:,}") for actual, best, count in pairs
        ]
        table = _table(("actual", "predicted", "images"), rows, texts=2)
        yield _section(f"Most frequent mistakes{of}", table)
    yield _classes(one, of)


def _mistakes(one: Evaluation) -> Html:
    outputs = one.outputs
    confidence = outputs.scores.max(axis=1)
    wrong = np.flatnonzero(outputs.best != outputs.known)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MAX_MISTAKES]
    if not len(worst):
        return _fill("paragraph", text="None.")
    places = np.flatnonzero(outputs.readable)[worst]
    sources = [outputs.dataset.sources[place] for place in places]
    images = ordered_map(_thumbnail, sources, workers=available_cpus())
    items = [
        _fill(
            "mistake",
            image=image,
            predicted=one.labels[int(outputs.best[row])],
            score=f"{100 * confidence[row]:.0f}",
            actual=one.labels[int(outputs.known[row])],
            name=Path(source).name,
        )
        for row, source, image in zip(worst, sources, images, strict=True)
    ]
    return _fill("mistakes", items=_join(items))


def _thumbnail(source: str) -> Html:
    """The image in the page, or a placeholder: a report never fails for one image."""
    from PIL import Image

    width, height = _THUMBNAIL
    try:
        pixels = read_image(source, options=_READ, resized_size=lambda *_: (height, width)).pixels
        image, file = Image.fromarray(pixels), io.BytesIO()
        image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS, reducing_gap=2.0)
        image.save(file, "WEBP", quality=75)
    except Exception:  # moved, changed, or an array of six channels
        return _fill("placeholder")
    return _fill("image", webp=base64.b64encode(file.getvalue()).decode())


def _classes(one: Evaluation, of: str) -> Html:
    classes = one.metrics.classes
    worst = sorted(classes, key=lambda c: (c.recall, c.label))[:_MAX_CLASSES]
    rows = [
        (c.label, f"{c.images:,}", f"{c.failed:,}")
        + tuple(f"{value:.3f}" for value in (c.recall, c.precision, c.f1))
        for c in worst
    ]
    rest = f" (the worst {_MAX_CLASSES} of {len(classes):,})" if len(classes) > len(worst) else ""
    table = _table(("class", "images", "failed", "recall", "precision", "F1"), rows)
    return _section(f"All classes{of}{rest}", table)


# What matplotlib draws in, and the page's colour for it, light or dark.
_INK, _QUIET, _ACCENT, _BAR = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _ACCENT: "--accent", _BAR: "--bar"}
_MAX_CELLS = 30
"""Classes in a confusion matrix that is drawn."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "toplabel",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _QUIET),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor"), "none"),
}


def reliability(evaluation: Evaluation) -> Html:
    """How often predictions of each score are right, beside the diagonal of calibrated scores."""
    outputs = evaluation.outputs
    confidence, right = outputs.scores.max(axis=1), outputs.best == outputs.known
    bins = bins_of(confidence)
    count = np.bincount(bins, minlength=BINS)
    used = np.flatnonzero(count)
    means = np.bincount(bins, confidence, BINS)[used] / count[used]
    shares = np.bincount(bins, right, BINS)[used] / count[used]
    with _axes(4.2, 3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.bar(
            (used + 0.5) / BINS, count[used] / count.max() * 0.25, width=0.9 / BINS, color=_BAR
        )
        axes.plot(means, shares, color=_ACCENT, marker="o", markersize=4, linewidth=1.5)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="accuracy")
        return _svg(figure, "Reliability diagram: accuracy of predictions of each score")


def coverage(evaluations: Sequence[Evaluation]) -> Html:
    """Accuracy of the predictions with the highest scores, over their share of all images."""
    with _axes(4.2, 3.4) as (figure, axes):
        for place, one in enumerate(evaluations):
            outputs = one.outputs
            order = np.argsort(-outputs.scores.max(axis=1), kind="stable")
            right = (outputs.best == outputs.known)[order]
            numbers = np.arange(1, len(right) + 1)
            axes.plot(
                numbers / len(outputs.truth),
                np.cumsum(right) / numbers,
                color=(_ACCENT, _QUIET)[min(place, 1)],
                linestyle=("-", "--", ":", "-.")[place % 4],
                linewidth=1.5,
            )
        axes.set(xlim=(0, 1), xlabel="coverage: share of images", ylabel="accuracy")
        axes.set_ylim(top=1.01)
        return _svg(figure, "Accuracy over coverage")


def recall(evaluation: Evaluation) -> Html:
    """Recall of each class, the worst first, as far as there is room for names."""
    classes = sorted(evaluation.metrics.classes, key=lambda one: (one.recall, one.label))[:40]
    with _axes(6.4, 0.5 + 0.24 * len(classes)) as (figure, axes):
        names = [one.label if len(one.label) <= 32 else f"{one.label[:31]}…" for one in classes]
        axes.barh(range(len(classes)), [one.recall for one in classes], color=_ACCENT, height=0.55)
        axes.set_yticks(range(len(classes)), [_plain(name) for name in names])
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="recall")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure, "Recall of each class")


def confusion(evaluation: Evaluation) -> Html | None:
    """The confusion matrix, each row an actual class; None where it would be too large to read."""
    from matplotlib.patches import Rectangle
    from sklearn.metrics import confusion_matrix

    outputs = evaluation.outputs
    shown = np.unique(np.concatenate([outputs.truth, outputs.best]))
    if not 2 <= len(shown) <= _MAX_CELLS:
        return None
    counts = confusion_matrix(outputs.known, outputs.best, labels=shown)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_plain(evaluation.labels[int(index)][:24]) for index in shown]
    side = 1.6 + 0.3 * len(shown)
    with _axes(side + 0.8, side) as (figure, axes):
        for row, column in np.argwhere(counts):
            corner, color = (column - 0.5, row - 0.5), _ACCENT if row == column else _BAR
            alpha = 0.12 + 0.6 * float(shares[row, column])
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=color, alpha=alpha, linewidth=0))
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8)
        ends = (-0.5, len(shown) - 0.5)
        axes.set(xlim=ends, ylim=ends[::-1], xlabel="predicted", ylabel="actual", aspect="equal")
        axes.set_xticks(range(len(shown)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(shown)), names)
        axes.tick_params(length=0)
        return _svg(figure, "Confusion matrix")


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure with one pair of axes, in our style, without a display or a global state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Any, title: str) -> Html:
    """The figure as an element of the page, with a title for those who do not see it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for drawn, variable in _VARIABLES.items():
        text = text.replace(drawn, f"var({variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return Html(text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1))


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: a dollar would start a formula."""
    return text.replace("$", r"\$")
