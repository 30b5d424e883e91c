"""`toplabel calibrate`: calibrated scores, kept in a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    Command,
    as_flags,
    json_flag,
    loading_flags,
    model_flag,
    take_load_options,
)
from toplabel.cli.records import print_json, print_lines
from toplabel.cli.terminal import Progress, clear_line, is_terminal

if TYPE_CHECKING:
    from toplabel.analysis.calibrate import Calibrated

HELP = """Calibrate confidence scores, and set the threshold below which a model is unsure.

\b
toplabel calibrate val/ -m best.toplabel -o calibrated.toplabel
toplabel calibrate val/ -m best.pth --arch resnet18 ... -o best.toplabel --precision 0.95

DATA is as for toplabel evaluate, with images that the model was NOT trained on. Half of them fit a
temperature and choose the threshold; the other half measure how good these are. Both are saved in
the bundle: wherever it runs, scores are calibrated, and predictions below the threshold are marked
unsure.
"""


@click.command(cls=Command, help=HELP, short_help="Calibrate a model's confidence scores.")
@click.argument("data", metavar="DATA")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The bundle to write.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Precision to reach where the model is not unsure.  [default: no threshold]",
)
@json_flag
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes or progress.")
@model_flag
@loading_flags
def calibrate(
    data: str, *, output: Path, precision: float | None, as_json: bool, quiet: bool, **options: Any
) -> int:
    """Calibrate a model."""
    from toplabel._internal.optional import require
    from toplabel.analysis.data.dataset import read_dataset
    from toplabel.bundle.file import check_target

    require("sklearn", extra="evaluate", purpose="toplabel calibrate")
    options |= take_load_options(options)
    check_target(output)
    dataset = read_dataset(data)
    from toplabel import load
    from toplabel.analysis.calibrate import calibrate as calibrate_model

    progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
    with load(**options) as predictor:
        found = calibrate_model(predictor, dataset, precision=precision, progress=progress.update)
    clear_line()
    found.save(output)
    print_json(found.to_dict()) if as_json else print_lines(_lines(found, output))
    return 0


def _lines(found: Calibrated, output: Path) -> list[str]:
    calibration, before, after = found.calibration, found.before, found.after
    lines = [
        found.model,
        f"temperature {calibration.temperature:.3f}, fitted on {found.fitted_on:,} images",
        f"on {found.checked_on:,} other images, with an accuracy of {found.accuracy:.1%}:",
        f"  calibration error (15 bins)  {before.ece:.3f} -> {after.ece:.3f}",
        f"  negative log likelihood      {before.nll:.3f} -> {after.nll:.3f}",
    ]
    if calibration.threshold is not None:
        lines.append(
            f"unsure below {calibration.threshold:.4f}: {calibration.coverage:.1%} of predictions"
            f" are at or above it, with a precision of {calibration.precision:.1%}"
            f" ({100 * (calibration.low or 0):.1f} to {100 * (calibration.high or 0):.1f} %)"
        )
    return [*lines, *(f"note: {as_flags(note)}" for note in found.notes), f"saved to {output}"]
