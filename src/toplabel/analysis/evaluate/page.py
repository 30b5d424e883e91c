"""Page: evaluations in, one HTML file out that needs no other file and no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.platform import available_cpus
from toplabel.analysis.evaluate import plots
from toplabel.runs.report import Shown
from toplabel.runs.report.thumbnails import Size, thumbnails
from toplabel.runs.report.visible import visible
from toplabel.runs.report.writing import palette, write_page

if TYPE_CHECKING:
    from toplabel.analysis.evaluate.evaluate import Evaluation
    from toplabel.analysis.evaluate.metrics import Measure
    from toplabel.analysis.evaluate.paired_test import Pairing

MISTAKES = 24
"""Pictures of mistakes, the most confident first."""

_CLASSES = 60
_PAIRS = 20
_THUMBNAIL = Size(edge=240, quality=75, max_bytes=24_000)
_ROWS = (
    ("top1", "Top-1, of what could be read"),
    ("top1_of_all", "Top-1, of all"),
    ("top5", "Top-5"),
    ("macro_recall", "Recall, mean of classes"),
    ("macro_f1", "F1, mean of classes"),
    ("ece", "Calibration error (15 bins)"),
    ("brier", "Brier score"),
    ("nll", "Negative log likelihood"),
)
_SHARES = ("top1", "top1_of_all", "top5", "macro_recall")


def write_page_of(
    path: str | Path, evaluations: Sequence[Evaluation], pairings: Sequence[Pairing]
) -> None:
    """Write the report; a file that stands there is replaced at once.

    Args:
        path: Where it goes.
        evaluations: Of one model or several, on the same images.
        pairings: Of each further model with the first.

    Raises:
        RunError: The file cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    require("matplotlib", extra="evaluate", purpose="the report of an evaluation")
    write_page(Path(path), _page(evaluations, pairings))


def _page(evaluations: Sequence[Evaluation], pairings: Sequence[Pairing]) -> Iterator[str]:
    style = palette() + (files("toplabel.analysis.evaluate") / "page.css").read_text(
        encoding="utf-8"
    )
    first = evaluations[0]
    title = f"{first.model} on {first.data}" if len(evaluations) == 1 else f"On {first.data}"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
        " style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
        f"<title>{_text(title)}</title>\n<style>\n{style}</style></head>\n<body>\n"
        f"<header><h1>{_text(title)}</h1><p class='quiet'>{_images(first)}</p>{_notes(evaluations)}"
        "</header>\n<main>\n"
    )
    yield _figures(evaluations)
    yield from (f"<p>{_text(str(one))}.</p>" for one in pairings)
    yield "<h2>Scores</h2><div class='plots'>"
    yield from (_plot("Reliability", plots.reliability(one), one) for one in evaluations)
    yield _plot("Accuracy over coverage", plots.coverage(evaluations), None)
    yield "</div>"
    for one in evaluations:
        yield from _details(one, named=len(evaluations) > 1)
    yield "</main></body></html>\n"


def _text(text: str) -> str:
    return html.escape(visible(text))


def _images(first: Evaluation) -> str:
    measures = first.measures
    failed = "".join(f", {count} {code}" for code, count in first.answers.codes.most_common())
    return _text(
        f"{measures.images:,} images of {len(measures.classes):,} classes;"
        f" {measures.failed:,} could not be labelled{failed}; {first.matching}"
    )


def _notes(evaluations: Sequence[Evaluation]) -> str:
    notes = list(dict.fromkeys(note for one in evaluations for note in one.notes))
    items = "".join(f"<li>{_text(note[:1].upper() + note[1:])}.</li>" for note in notes)
    return f"<ul class='notes'>{items}</ul>" if items else ""


def _figures(evaluations: Sequence[Evaluation]) -> str:
    heads = "".join(f"<th class='number'>{_text(one.model)}</th>" for one in evaluations)
    rows = []
    for name, words in _ROWS:
        cells = [_cell(getattr(one.measures, name), share=name in _SHARES) for one in evaluations]
        rows.append(f"<tr><th scope='row'>{words}</th>{''.join(cells)}</tr>")
    head = f"<thead><tr><th></th>{heads}</tr></thead>" if len(evaluations) > 1 else ""
    return f"<div class='scroll'><table>{head}<tbody>{''.join(rows)}</tbody></table></div>"


def _cell(measure: Measure | None, *, share: bool) -> str:
    if measure is None:
        return "<td class='number quiet'>no more than five classes</td>"
    scale, unit, digits = (100, " %", 1) if share else (1, "", 3)
    low, high = (f"{scale * end:.{digits}f}" for end in (measure.low, measure.high))
    return (
        f"<td class='number'>{scale * measure.value:.{digits}f}{unit}"
        f" <span class='range'>{low} to {high}</span></td>"
    )


def _plot(caption: str, svg: str, one: Evaluation | None) -> str:
    name = f" <span class='quiet'>{_text(one.model)}</span>" if one is not None else ""
    return f"<figure><figcaption>{caption}{name}</figcaption>{svg}</figure>"


def _details(one: Evaluation, *, named: bool) -> Iterator[str]:
    """What each model does wrong."""
    of = f" of {_text(one.model)}" if named else ""
    yield f"<h2>Most confident mistakes{of}</h2>"
    yield from _mistakes(one)
    yield f"<h2>Classes{of}</h2><div class='plots'>"
    yield _plot("Recall, the worst first", plots.per_class(one), None)
    matrix = plots.confusion(one)
    if matrix is not None:
        yield _plot("Confusion: rows are true classes", matrix, None)
    yield "</div>"
    yield _pairs(one)
    yield _classes(one)


def _mistakes(one: Evaluation) -> Iterator[str]:
    answers = one.answers
    scores = answers.scores.max(axis=1)
    places = np.flatnonzero(answers.read)
    wrong = np.flatnonzero(answers.best != answers.known)
    worst = wrong[np.argsort(-scores[wrong], kind="stable")][:MISTAKES]
    if not len(worst):
        yield "<p>None.</p>"
        return
    sources = [answers.images.sources[places[i]] for i in worst]
    shown = [Shown(source, source, ((0, 1.0),), False, None) for source in sources]
    pictures = [p for g in thumbnails(shown, size=_THUMBNAIL, threads=available_cpus()) for p in g]
    yield "<ul class='mistakes'>"
    for i, source, picture in zip(worst, sources, pictures, strict=True):
        image = "<div class='none'></div>"
        if picture:
            data = base64.b64encode(picture).decode()
            image = f"<img alt='' src='data:image/webp;base64,{data}'>"
        said, true = one.labels[int(answers.best[i])], one.labels[int(answers.known[i])]
        yield (
            f"<li>{image}<p>called <b>{_text(said)}</b>, {100 * scores[i]:.0f} %</p>"
            f"<p>is <b>{_text(true)}</b></p><p>{_text(Path(source).name)}</p></li>"
        )
    yield "</ul>"


def _pairs(one: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{_text(one.labels[true])}</td><td>{_text(one.labels[said])}</td>"
        f"<td class='number'>{count:,}</td></tr>"
        for true, said, count in one.measures.confusions[:_PAIRS]
    )
    if not rows:
        return ""
    head = (
        "<thead><tr><th>true class</th><th>called</th><th class='number'>images</th></tr></thead>"
    )
    return f"<h2>Most frequent mistakes</h2><div class='scroll'><table>{head}{rows}</table></div>"


def _classes(one: Evaluation) -> str:
    classes = one.measures.classes
    rows = "".join(
        f"<tr><td>{_text(c.label)}</td><td class='number'>{c.images:,}</td>"
        f"<td class='number'>{c.failed:,}</td><td class='number'>{c.recall:.3f}</td>"
        f"<td class='number'>{c.precision:.3f}</td><td class='number'>{c.f1:.3f}</td></tr>"
        for c in sorted(classes, key=lambda c: (c.recall, c.label))[:_CLASSES]
    )
    names = ("images", "failed", "recall", "precision", "F1")
    head = "".join(f"<th class='number'>{name}</th>" for name in names)
    rest = f" (the worst {_CLASSES} of {len(classes):,})" if len(classes) > _CLASSES else ""
    return (
        f"<h2>All classes{rest}</h2><div class='scroll'><table><thead><tr><th>class</th>{head}"
        f"</tr></thead>{rows}</table></div>"
    )
