"""`toplabel calibrate`: calibrated scores and another class prior, kept in a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from toplabel._internal.text import number_of
from toplabel.bundle.calibration import in_words
from toplabel.cli.options import (
    SOURCE,
    Command,
    as_flags,
    exact_loading_flags,
    json_flag,
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
toplabel calibrate -m best.toplabel -o balanced.toplabel --prior balanced    no images needed

DATA is as for toplabel evaluate, with images that the model was NOT trained on. Half of them fit a
temperature and choose the threshold; the other half measure how good these are. Both are saved in
the bundle: wherever it runs, scores are calibrated, and predictions below the threshold are marked
unsure.

--prior says how often each class comes where the model is used, if that is not as in training: each
score is multiplied by its prior over that of training, and labels follow. SHARES are "balanced",
a number for each class ("cat=0.9,dog=0.1"; whole numbers count), or a folder with one sub-folder
per class whose images are counted.
"""


@click.command(cls=Command, help=HELP, short_help="Calibrate a model's confidence scores.")
@click.argument("data", metavar="[DATA]", required=False, type=SOURCE)
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
@click.option(
    "--prior",
    metavar="SHARES",
    help="How often each class comes where the model is used; as-trained undoes it.",
)
@click.option(
    "--trained-prior",
    metavar="SHARES",
    help="How often it saw each class in training, where the model does not say it.",
)
@json_flag
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes or progress.")
@model_flag
@exact_loading_flags
def calibrate(
    data: str | None,
    *,
    output: Path,
    precision: float | None,
    prior: str | None,
    trained_prior: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Calibrate a model."""
    from toplabel._internal.optional import require
    from toplabel.analysis.data.dataset import read_dataset
    from toplabel.bundle.file import check_target

    sets_prior = prior is not None or trained_prior is not None
    if data is not None and sets_prior and _names_model(data):
        data, options["model"] = None, data  # toplabel calibrate best.toplabel --prior balanced
    if data is None and not sets_prior:
        raise click.UsageError("Missing argument 'DATA' (or pass --prior).")
    if data is not None:
        require("sklearn", extra="evaluate", purpose="toplabel calibrate")
    options |= take_load_options(options, exact="toplabel calibrate")
    check_target(output)
    dataset = None if data is None else read_dataset(data)
    from toplabel import load
    from toplabel.analysis.calibrate import calibrate as calibrate_model

    progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
    with load(**options) as predictor:
        found = calibrate_model(
            predictor,
            dataset,
            precision=precision,
            prior=prior,
            trained_prior=trained_prior,
            progress=progress.update,
        )
    clear_line()
    found.save(output)
    print_json(found.to_dict()) if as_json else print_lines(_lines(found, output))
    return 0


def _names_model(path: str) -> bool:
    """Whether it is a packed model rather than images, and no other is named by -m."""
    from toplabel.bundle.bundle import is_bundle

    source = click.get_current_context().get_parameter_source("model")
    return source is not ParameterSource.COMMANDLINE and is_bundle(path)


def _lines(found: Calibrated, output: Path) -> list[str]:
    calibration = found.calibration
    lines = [found.model, *_of_images(found)]
    if calibration.trained_prior is not None:
        seen, wanted = calibration.trained_prior, calibration.prior
        used = "as trained" if wanted is None else in_words(wanted)
        lines.append(f"class prior {used}; in training {in_words(seen)}")
    if calibration.threshold is not None:
        lines.append(
            f"unsure below {calibration.threshold:.4f}: {calibration.coverage:.1%} of predictions"
            f" are at or above it, with a precision of {calibration.precision:.1%}"
            f" ({100 * (calibration.low or 0):.1f} to {100 * (calibration.high or 0):.1f} %)"
        )
    return [*lines, *(f"note: {as_flags(note)}" for note in found.notes), f"saved to {output}"]


def _of_images(found: Calibrated) -> list[str]:
    """What was fitted and measured on images, where there were any."""
    before, after = found.before, found.after
    if before is None or after is None:
        return []
    return [
        f"temperature {found.calibration.temperature:.3f}, fitted on"
        f" {number_of(found.fitted_on, 'image')}",
        f"on {number_of(found.checked_on, 'other image')}, with an accuracy of"
        f" {found.accuracy:.1%}:",
        f"  calibration error (15 bins)  {before.ece:.3f} -> {after.ece:.3f}",
        f"  negative log likelihood      {before.nll:.3f} -> {after.nll:.3f}",
    ]
