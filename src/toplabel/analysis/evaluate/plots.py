"""Evaluations in; the figures of their report, as SVG in the page's colours, out."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.text import visible
from toplabel.analysis.evaluate.corruptions import CORRUPTIONS
from toplabel.analysis.evaluate.metrics import BINS, bins_of
from toplabel.analysis.page.fragments import Html

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluation import Evaluation
    from toplabel.analysis.evaluate.robustness import Robustness

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


def robustness(found: Sequence[tuple[str, Robustness]]) -> Html:
    """Accuracy of each model with each corruption, three strengths each; clean is a line."""
    with _axes(5.2, 4.6) as (figure, axes):
        for place, (_, one) in enumerate(found):
            style: dict[str, Any] = {
                "color": (_ACCENT, _QUIET)[min(place, 1)],
                "linestyle": ("-", "--", ":", "-.")[place % 4],
            }
            axes.axvline(one.clean.accuracy.value, linewidth=1, alpha=0.6, **style)
            for number, corruption in enumerate(CORRUPTIONS):
                rows = one.of(corruption.name)
                down = [number + 0.25 * (row.strength - 2) for row in rows]
                values = [row.accuracy.value for row in rows]
                axes.plot(values, down, marker="o", markersize=4, linewidth=1.5, **style)
        names = [one.name.replace("_", " ") for one in CORRUPTIONS]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.02), xlabel="accuracy; the line is without corruption")
        axes.tick_params(axis="y", length=0)
        return _svg(figure, "Accuracy with each corruption at strengths 1 to 3; clean as a line")


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
    with warnings.catch_warnings():  # of letters that its font lacks: the page's fonts draw them
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for drawn, variable in _VARIABLES.items():
        text = text.replace(drawn, f"var({variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return Html(text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1))


def _plain(text: str) -> str:
    """Text that matplotlib and SVG take as it is: a dollar would start a formula."""
    return visible(text).replace("$", r"\$")
