"""`toplabel evaluate`: how often a model is right, on images whose classes are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    debug_option,
    engine_options,
    reading_options,
    stating_options,
    take_read_options,
)
from toplabel.cli.sections import Sectioned
from toplabel.cli.several import take_statements_of_one
from toplabel.cli.terminal import Progress, clear_line, is_terminal, notes_of

if TYPE_CHECKING:
    from toplabel.analysis.evaluate import Evaluation, Measure, Pairing

HELP = """Say how often a model is right.

\b
toplabel evaluate photos-by-class/ -m best.toplabel
toplabel evaluate val.csv -m best.pth --arch resnet18 ... --report report.html
toplabel evaluate val/ -m a.toplabel -m b.toplabel     side by side: is b really better?

DATA is a folder with a folder for each class, a folder of files whose names begin with WordNet
synsets, or a .csv of paths and labels. Every image goes through the same code as a prediction,
large JPEGs always in full; what cannot be read is counted. Ranges: 95 %, bootstrap.
"""

_WORST = 5


@click.command(cls=Sectioned, help=HELP, short_help="Say how often a model is right.")
@click.argument("data", metavar="DATA")
@click.option(
    "-m", "--model", "models", multiple=True, metavar="MODEL", help="Which model; may be repeated."
)
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="An HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print no notes and no progress.")
@engine_options
@stating_options
@reading_options
@debug_option
def evaluate(
    data: str,
    *,
    models: tuple[str, ...],
    report: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Evaluate one model or several."""
    from toplabel._internal.optional import require
    from toplabel.analysis.data import read_labelled

    require("sklearn", extra="evaluate", purpose="toplabel evaluate")
    read = take_read_options(options)
    said = take_statements_of_one(options, max(1, len(models)))
    images = read_labelled(data)
    from toplabel import load
    from toplabel.analysis.evaluate import evaluate as evaluate_model
    from toplabel.analysis.evaluate import pair

    notify = notes_of(quiet=quiet)
    found = []
    for name in models or (None,):
        progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
        with load(name, notify=notify, read=read, **options, **said) as predictor:
            found.append(evaluate_model(predictor, images, progress=progress.update))
        clear_line()
    pairings = [pair(found[0].answers.right, other.answers.right) for other in found[1:]]
    if report is not None:
        from toplabel.analysis.evaluate.page import write_page_of

        write_page_of(report, found, pairings)
    _print_json(found, pairings) if as_json else _print_text(found, pairings)
    return 1 if any(one.measures.failed for one in found) else 0


def _print_json(found: list[Evaluation], pairings: list[Pairing]) -> None:
    from toplabel.cli.records import Records

    said = {
        "models": [one.to_dict() for one in found],
        "compared_with_first": [one.to_dict() for one in pairings],
    }
    Records().write((json.dumps(said) + "\n").encode())


def _print_text(found: list[Evaluation], pairings: list[Pairing]) -> None:
    from toplabel.cli.records import Records

    blocks = ["\n".join(_lines(one)) for one in found]
    blocks += [
        f"{found[0].model} and {b.model}: {p}" for b, p in zip(found[1:], pairings, strict=True)
    ]
    Records().write(("\n\n".join(blocks) + "\n").encode("utf-8", "surrogateescape"))


def _lines(one: Evaluation) -> list[str]:
    measures = one.measures
    codes = "".join(f", {count} {code}" for code, count in one.answers.codes.most_common())
    lines = [
        one.model,
        f"{measures.images:,} images of {len(measures.classes):,} classes, {measures.failed:,}"
        f" could not be labelled{codes}; {one.matching}",
        f"  top-1         {_percent(measures.top1)}",
    ]
    if measures.failed:
        lines.append(f"  top-1 of all  {_percent(measures.top1_of_all)}")
    if measures.top5 is not None:
        lines.append(f"  top-5         {_percent(measures.top5)}")
    lines += [
        f"  macro recall  {_percent(measures.macro_recall)}",
        f"  macro F1      {_figure(measures.macro_f1)}",
        f"  ECE           {_figure(measures.ece)}",
        f"  Brier         {_figure(measures.brier)}",
        f"  NLL           {_figure(measures.nll)}",
    ]
    for true, said, count in measures.confusions[:_WORST]:
        lines.append(f"  {count:>5,} x {one.labels[true]} called {one.labels[said]}")
    return lines + [f"note: {note}" for note in one.notes]


def _percent(measure: Measure) -> str:
    low, high = 100 * measure.low, 100 * measure.high
    return f"{100 * measure.value:5.1f} %  ({low:.1f} to {high:.1f})"


def _figure(measure: Measure) -> str:
    return f"{measure.value:7.3f}  ({measure.low:.3f} to {measure.high:.3f})"
