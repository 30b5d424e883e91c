"""Plots: an evaluation in, SVG pictures out that take the page's colours. Drawn by matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.analysis.evaluate.metrics import BINS, bins_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toplabel.analysis.evaluate.evaluate import Evaluation

# What matplotlib is told to draw in, and what the page has for it in light and dark.
_INK, _QUIET, _ACCENT, _BAR = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _ACCENT: "--accent", _BAR: "--bar"}
MOST_CELLS = 30
"""Classes in a drawn confusion matrix; more are no picture."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "toplabel",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def reliability(evaluation: Evaluation) -> str:
    """How often answers of each score are right, beside the diagonal where scores would mean it."""
    answers = evaluation.answers
    confidence, right = answers.scores.max(axis=1), answers.best == answers.known
    bins = bins_of(confidence)
    count = np.bincount(bins, minlength=BINS)
    used = np.flatnonzero(count)
    means = np.bincount(bins, confidence, BINS)[used] / count[used]
    shares = np.bincount(bins, right, BINS)[used] / count[used]
    with _drawing(4.2, 3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.bar(
            (used + 0.5) / BINS, count[used] / count.max() * 0.25, width=0.9 / BINS, color=_BAR
        )
        axes.plot(means, shares, color=_ACCENT, marker="o", markersize=4, linewidth=1.5)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share that is right")
        return _svg(figure, "Reliability: how often answers of each score are right")


def coverage(evaluations: Sequence[Evaluation]) -> str:
    """Accuracy of the answers with the highest scores, by how many of all images these are."""
    with _drawing(4.2, 3.4) as (figure, axes):
        for place, one in enumerate(evaluations):
            answers = one.answers
            order = np.argsort(-answers.scores.max(axis=1), kind="stable")
            right = (answers.best == answers.known)[order]
            numbers = np.arange(1, len(right) + 1)
            axes.plot(
                numbers / len(answers.truth),
                np.cumsum(right) / numbers,
                color=(_ACCENT, _QUIET)[min(place, 1)],
                linestyle=("-", "--", ":", "-.")[place % 4],
                linewidth=1.5,
            )
        axes.set(xlim=(0, 1), xlabel="share of images answered", ylabel="share that is right")
        axes.set_ylim(top=1.01)
        return _svg(figure, "Accuracy over coverage")


def per_class(evaluation: Evaluation) -> str:
    """Recall of each class, the worst first, as far as there is room for names."""
    classes = sorted(evaluation.measures.classes, key=lambda one: (one.recall, one.label))[:40]
    with _drawing(6.4, 0.5 + 0.24 * len(classes)) as (figure, axes):
        names = [one.label if len(one.label) <= 32 else f"{one.label[:31]}…" for one in classes]
        axes.barh(range(len(classes)), [one.recall for one in classes], color=_ACCENT, height=0.55)
        axes.set_yticks(range(len(classes)), [_plain(name) for name in names])
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="recall")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure, "Recall of each class")


def confusion(evaluation: Evaluation) -> str | None:
    """The confusion matrix, each row a true class; None where it has too many cells to see."""
    from sklearn.metrics import confusion_matrix

    answers = evaluation.answers
    shown = np.unique(np.concatenate([answers.truth, answers.best]))
    if not 2 <= len(shown) <= MOST_CELLS:
        return None
    counts = confusion_matrix(answers.known, answers.best, labels=shown)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_plain(evaluation.labels[int(index)][:24]) for index in shown]
    side = 1.6 + 0.3 * len(shown)
    with _drawing(side + 0.8, side) as (figure, axes):
        for row, column in np.argwhere(counts):
            share = float(shares[row, column])
            axes.add_patch(_cell(row, column, share, diagonal=row == column))
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8)
        ends = (-0.5, len(shown) - 0.5)
        axes.set(xlim=ends, ylim=ends[::-1], xlabel="predicted", ylabel="true", aspect="equal")
        axes.set_xticks(range(len(shown)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(shown)), names)
        axes.tick_params(length=0)
        return _svg(figure, "Confusion matrix")


def _cell(row: int, column: int, share: float, *, diagonal: bool) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.5, row - 0.5),
        1,
        1,
        facecolor=_ACCENT if diagonal else _BAR,
        alpha=0.12 + 0.6 * share,
        linewidth=0,
    )


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure with one pair of axes, in our style, without a display or a global state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Any, title: str) -> str:
    """The figure as an element of a page, with a title for those who do not see it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for drawn, variable in _VARIABLES.items():
        text = text.replace(drawn, f"var({variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: a dollar would begin a formula."""
    return text.replace("$", r"\$")
