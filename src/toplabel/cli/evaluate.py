"""`toplabel evaluate`: how often a model is right on images whose classes are known."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel._internal.text import number_of, printable
from toplabel.cli.options import (
    MODEL,
    SOURCE,
    Command,
    as_flags,
    check_one_model,
    default_models,
    exact_loading_flags,
    json_flag,
    take_load_options,
)
from toplabel.cli.records import print_json, print_lines
from toplabel.cli.terminal import Progress, clear_line, is_terminal

if TYPE_CHECKING:
    from toplabel.analysis.data.dataset import Dataset
    from toplabel.analysis.evaluate.evaluation import Evaluation
    from toplabel.analysis.evaluate.metrics import Estimate, PairedTest

HELP = """Evaluate a model on images whose classes are known.

\b
toplabel evaluate photos-by-class/ -m best.toplabel
toplabel evaluate val.csv -m best.pth --arch resnet18 ... --report report.html
toplabel evaluate val/ -m a.toplabel -m b.toplabel     side by side: is b really better?
toplabel evaluate val/ -m best.toplabel --corruptions  and with noise, blur, darkness ...?

DATA is a folder with one sub-folder per class, a folder of files whose names start with WordNet
synsets, or a .csv or .tsv file of paths and labels. Images are labelled exactly as predictions
are, large JPEGs always decoded in full; those that cannot be read are counted. The ranges are 95 %
bootstrap intervals.
"""

_WORST = 5


@click.command(cls=Command, help=HELP, short_help="Evaluate a model on labelled images.")
@click.argument("data", metavar="DATA", type=SOURCE)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    type=MODEL,
    help="The model; repeat to compare several.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML report."
)
@click.option(
    "--corruptions",
    is_flag=True,
    help="Also label each image corrupted in nine ways at three strengths: noise, blur, pixelated,"
    " JPEG, dark, low contrast, rotated, upside down, cropped. Takes 27 times as long.",
)
@json_flag
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with --corruptions.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes or progress.")
@exact_loading_flags
def evaluate(
    data: str,
    *,
    models: tuple[str, ...],
    report: Path | None,
    corruptions: bool,
    as_json: bool,
    as_csv: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Evaluate one model or several."""
    from toplabel._internal.optional import require
    from toplabel.analysis.data.dataset import read_dataset

    if as_csv and not corruptions:
        raise click.UsageError("got --csv without --corruptions; use --json for other metrics")
    if as_csv and as_json:
        raise click.UsageError("got --json and --csv; expected one of them")
    require("sklearn", extra="evaluate", purpose="toplabel evaluate")
    options = take_load_options(options, exact="toplabel evaluate")
    models = models or default_models()
    check_one_model(options, max(1, len(models)))
    dataset = read_dataset(data)
    from toplabel.analysis.evaluate.metrics import paired_test

    found = [
        _evaluate(name, dataset, options, corruptions=corruptions, quiet=quiet)
        for name in models or (None,)
    ]
    found = _told_apart(found, models)
    tests = [paired_test(found[0].outputs.right, other.outputs.right) for other in found[1:]]
    if as_csv:
        from toplabel.cli.robustness import csv_lines

        print_lines(csv_lines(found))
    elif as_json:
        compared = [one.to_dict() for one in tests]
        print_json({"models": [one.to_dict() for one in found], "compared_with_first": compared})
    else:
        print_lines(["\n\n".join(_blocks(found, tests))])
    if report is not None:
        from toplabel.analysis.evaluate.report import write_evaluation_report

        write_evaluation_report(report, found, tests)
    return 1 if any(one.metrics.failed for one in found) else 0


def _evaluate(
    name: str | None, dataset: Dataset, options: dict[str, Any], *, corruptions: bool, quiet: bool
) -> Evaluation:
    """One model's evaluation, with progress on a terminal."""
    from toplabel import load
    from toplabel.analysis.evaluate.evaluation import evaluate as evaluate_model

    progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
    with load(name, **options) as predictor:
        found = evaluate_model(
            predictor, dataset, corruptions=corruptions, progress=progress.update
        )
    clear_line()
    return found


def _told_apart(found: list[Evaluation], models: tuple[str, ...]) -> list[Evaluation]:
    """The evaluations; of models with the same name, what was typed for each stands beside it."""
    known = Counter(one.model for one in found)
    if len(known) == len(found):
        return found
    return [
        replace(one, model=f"{one.model} ({name})") if known[one.model] > 1 else one
        for one, name in zip(found, models, strict=True)
    ]


def _blocks(found: list[Evaluation], tests: list[PairedTest]) -> list[str]:
    """What people read: of each model, then of the others beside the first."""
    blocks = ["\n".join(_lines(one)) for one in found]
    for other, test in zip(found[1:], tests, strict=True):
        blocks.append(f"{found[0].model} and {other.model}: {test}")
    if len(found) > 1 and found[0].robustness is not None:
        from toplabel.cli.robustness import comparison_lines

        blocks.append("\n".join(comparison_lines(found)))
    return blocks


def _lines(one: Evaluation) -> list[str]:
    metrics = one.metrics
    codes = ", ".join(f"{count:,} {code}" for code, count in one.outputs.codes.most_common())
    failed = f", {metrics.failed:,} could not be labelled ({codes})" if metrics.failed else ""
    lines = [
        one.model,
        f"{number_of(metrics.images, 'image')} of"
        f" {number_of(len(metrics.classes), 'class', 'classes')}{failed}; {one.matching}",
    ]
    if metrics.failed:
        lines += [
            f"  accuracy over readable images  {_percent(metrics.top1)}",
            f"  accuracy over all images       {_percent(metrics.top1_of_all)}",
        ]
    else:
        lines.append(f"  accuracy                       {_percent(metrics.top1)}")
    if metrics.top5 is not None:
        lines.append(f"  top-5 accuracy                 {_percent(metrics.top5)}")
    lines += [
        f"  balanced accuracy              {_percent(metrics.macro_recall)}",
        f"  macro F1                       {_number(metrics.macro_f1)}",
        f"  calibration error (ECE)        {_number(metrics.ece)}",
        f"  Brier score                    {_number(metrics.brier)}",
        f"  negative log likelihood        {_number(metrics.nll)}",
    ]
    for actual, predicted, count in metrics.confusions[:_WORST]:
        names = f"predicted {one.labels[predicted]}, actual {one.labels[actual]}"
        lines.append(f"  {count:>5,} x {printable(names)}")
    if one.robustness is not None:
        from toplabel.cli.robustness import table_lines

        lines += ["", *table_lines(one.robustness)]
    return lines + [f"note: {as_flags(note)}" for note in one.notes]


def _percent(estimate: Estimate) -> str:
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:5.1f} %  ({low:.1f} to {high:.1f})"


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:7.3f}  ({estimate.low:.3f} to {estimate.high:.3f})"
