"""Evaluations in; the figures of their report, as SVG in the page's colours, out."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.statistics import wilson_interval
from toplabel._internal.text import visible
from toplabel.analysis.evaluate.metrics import BINS, bins_of
from toplabel.analysis.page.fragments import Html, fill, join

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluation import Evaluation

# What matplotlib draws in, and the page's colour for it, light or dark.
_INK, _QUIET, _ACCENT, _BAR = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _ACCENT: "--accent", _BAR: "--bar"}
_LINES = (("-", "none"), ("--", "6 3"), (":", "1.5 2.5"), ("-.", "8 3 2 3"))
"""Of the first model, the second and so on: what matplotlib and SVG call them."""

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


def reliability(evaluation: Evaluation, *, number: int = 0) -> Html:
    """How often predictions of each score are right, with 95 % intervals, and how many there are.

    Calibrated scores lie on the diagonal.

    Args:
        evaluation: Of the model.
        number: Tells the drawings of a page apart.
    """
    outputs = evaluation.outputs
    confidence, right = outputs.scores.max(axis=1), outputs.best == outputs.known
    bins = bins_of(confidence)
    count = np.bincount(bins, minlength=BINS)
    used = np.flatnonzero(count)
    means = np.bincount(bins, confidence, BINS)[used] / count[used]
    hits = np.bincount(bins, right, BINS)[used]
    shares = hits / count[used]
    ends = np.array([wilson_interval(hit, n) for hit, n in zip(hits, count[used], strict=True)])
    with _axes(4.2, 3.8, rows=(3, 1)) as (figure, (axes, below)):
        axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.vlines(means, *ends.T, color=_ACCENT, linewidth=1.2, alpha=0.6)
        axes.plot(
            means, shares, color=_ACCENT, marker="o", markersize=4, linestyle="none", clip_on=False
        )
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="accuracy")
        below.bar((used + 0.5) / BINS, count[used], width=0.9 / BINS, color=_BAR)
        for place in used:
            text = _short_count(int(count[place]))
            middle = (place + 0.5) / BINS, count[place]
            below.annotate(text, middle, (0, 1), textcoords="offset points", ha="center", size=7)
        below.set(xlabel="score", ylabel="images", yticks=[], ylim=(0, 1.25 * count.max()))
        title = "Reliability diagram: accuracy of predictions of each score"
        return _svg(figure, title, f"reliability{number}")


def coverage(evaluations: Sequence[Evaluation]) -> Html:
    """Accuracy of the predictions with the highest scores, over their share of all images."""
    with _axes(4.2, 3.4) as (figure, axes):
        lowest = 1.0
        for place, one in enumerate(evaluations):
            outputs = one.outputs
            order = np.argsort(-outputs.scores.max(axis=1), kind="stable")
            right = (outputs.best == outputs.known)[order]
            numbers = np.arange(1, len(right) + 1)
            accuracies = np.cumsum(right) / numbers
            lowest = min(lowest, float(accuracies.min()))
            axes.plot(
                numbers / len(outputs.truth),
                accuracies,
                color=(_ACCENT, _QUIET)[min(place, 1)],
                linestyle=_LINES[place % len(_LINES)][0],
                linewidth=1.5,
            )
        axes.set(xlim=(0, 1), xlabel="coverage: share of images", ylabel="accuracy")
        least = max(0.0, min(np.floor(20 * lowest) / 20, 0.9))
        axes.set_ylim(least, 1 + 0.01 * (1 - least))
        return _svg(figure, "Accuracy over coverage", "coverage")


def legend(names: Sequence[str]) -> Html:
    """Which line of `coverage` is whose."""
    return fill(
        "legend",
        items=join(
            fill(
                "legend_item",
                colour=("--accent", "--quiet")[min(place, 1)],
                dashes=_LINES[place % len(_LINES)][1],
                name=name,
            )
            for place, name in enumerate(names)
        ),
    )


def _short_count(count: int) -> str:
    return f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"


@contextmanager
def _axes(width: float, height: float, *, rows: Sequence[int] = ()) -> Iterator[tuple[Any, Any]]:
    """A figure with one pair of axes, or one above the other, as high as `rows` says.

    It is in our style, without a display or a global state.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        if not rows:
            yield figure, figure.add_subplot()
        else:
            yield figure, figure.subplots(len(rows), sharex=True, height_ratios=rows)


def _svg(figure: Any, title: str, name: str) -> Html:
    """The figure as an element of the page, with a title for those who do not see it.

    Of its ids stay those that it refers to, behind its name, which makes them unique on the page.
    """
    file = io.StringIO()
    with warnings.catch_warnings():  # of letters that its font lacks: the page's fonts draw them
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for drawn, variable in _VARIABLES.items():
        text = text.replace(drawn, f"var({variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.]+)[\")]", text))
    text = re.sub(
        r' id="([^"]*)"', lambda id: f' id="{name}-{id[1]}"' if id[1] in used else "", text
    )
    text = re.sub(r'((?:href="|url\()#)', rf"\g<1>{name}-", text)
    return Html(text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1))


def _plain(text: str) -> str:
    """Text that matplotlib and SVG take as it is: a dollar would start a formula."""
    return visible(text).replace("$", r"\$")
