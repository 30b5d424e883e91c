"""`toplabel doctor`: what is wrong with a checkpoint, and its preprocessing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    SOURCE,
    Command,
    as_flags,
    debug_flag,
    json_flag,
    model_file_flags,
    take,
)
from toplabel.cli.records import print_json, print_lines
from toplabel.errors import UsageError
from toplabel.models.options import ModelOptions

if TYPE_CHECKING:
    from toplabel.analysis.doctor.diagnose import Diagnosis

HELP = """Find what is wrong with a checkpoint, and how its images were preprocessed.

\b
toplabel doctor best.pth --arch resnet18 --images some/       16 ordinary photos or more
toplabel doctor best.pth --arch resnet18 --labelled few/      10 to 100 whose classes are known
toplabel doctor best.pth --labelled few/ -o preprocess.json   for --preprocess
toplabel doctor best.pth --labelled few/ -o best.toplabel     straight into a bundle

Without labels, the values that reach the batch normalisations are compared with the statistics that
these keep from training. That gives the range of the values and sometimes the channel order, or
"cannot tell" where the evidence is weak. Exit status: 0 determined, 1 cannot tell, 2 nothing done.
"""

_SIGNS = {"fine": "ok", "wrong": "WRONG", "told": "found", "cannot tell": "?"}


@click.command(cls=Command, help=HELP, short_help="Find what is wrong with a checkpoint.")
@click.argument("model", metavar="FILE", type=SOURCE)
@click.option("--images", metavar="FOLDER", help="Ordinary photos, at least 16; no labels needed.")
@click.option(
    "--labelled",
    metavar="DATA",
    type=SOURCE,
    help="Labelled images, as for toplabel evaluate.",
)
@click.option(
    "--size", type=click.IntRange(min=1), metavar="N", help="Input size of the model, in pixels."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to save the preprocessing: .json for --preprocess, or .toplabel.",
)
@json_flag
@model_file_flags
@debug_flag
def doctor(
    model: str,
    *,
    images: str | None,
    labelled: str | None,
    size: int | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Diagnose one checkpoint."""
    from toplabel._internal.optional import require

    require("torch", extra="torch", purpose="toplabel doctor")
    require("scipy", extra="evaluate", purpose="toplabel doctor")
    options = take(ModelOptions, options)
    if "preprocess" in options:
        raise UsageError("got --preprocess, which is what doctor determines; leave it out")
    _check_output(output)
    from toplabel.analysis.doctor.diagnose import diagnose

    found = diagnose(model, images=images, labelled=labelled, size=size, **options)
    findings = tuple(replace(one, line=as_flags(one.line)) for one in found.findings)
    found = replace(found, findings=findings)
    print_json(found.to_dict()) if as_json else print_lines(_lines(found))
    if output is not None:
        _write(found, model, output, options)
    return 0 if found.sure else 1


def _check_output(output: Path | None) -> None:
    """Stop before minutes of work whose result could not be written.

    Raises:
        UsageError: It has another ending, stands in no folder, or exists and is something else.
    """
    if output is None:
        return
    if output.suffix not in (".json", ".toplabel"):
        raise UsageError(f"got -o {str(output)!r}; expected a name that ends in .json or .toplabel")
    if not output.absolute().parent.is_dir():
        raise UsageError(
            f"got -o {str(output)!r}, in a folder that does not exist; create it first"
        )
    if output.suffix == ".toplabel":
        from toplabel.bundle.file import check_target

        check_target(output)


def _lines(found: Diagnosis) -> list[str]:
    lines = [found.model]
    for one in found.findings:
        lines.append(f"  {_SIGNS[one.state]:<5}  {one.topic}: {one.text}")
        lines += [
            f"         {text}" for text in (one.evidence, one.line and f"-> {one.line}") if text
        ]
    if found.preprocess is not None:
        doubt = "" if found.sure else " (what could not be determined is a usual choice)"
        lines.append(f"preprocessing{doubt}: {json.dumps(found.preprocess.to_dict())}")
    return lines


def _write(found: Diagnosis, model: str, output: Path, options: dict[str, Any]) -> None:
    """Save the preprocessing.

    Raises:
        UsageError: There is none, or not all of it could be determined.
    """
    if found.preprocess is None or not found.sure:
        raise UsageError(
            f"nothing was written to {str(output)!r}: not all of the preprocessing could be"
            " determined; use the one above at your own risk, or give more images"
        )
    if output.suffix == ".json":
        output.write_text(found.preprocess.to_json() + "\n", encoding="utf-8")
        return
    from toplabel import load

    load(model, **{**options, "preprocess": found.preprocess}).save(output)
