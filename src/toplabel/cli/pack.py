"""`toplabel pack`: a model, its labels and its preprocessing as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toplabel.cli.options import SOURCE, Command, debug_flag, model_file_flags, take_load_options
from toplabel.cli.terminal import say

HELP = """Save a model with its class names and preprocessing as one file.

\b
toplabel pack best.pth --arch resnet18 --labels classes.txt --preprocess p.json -o cats.toplabel
toplabel cat.jpg -m cats.toplabel      needs no flags and no PyTorch

MODEL is anything that -m accepts: a checkpoint, a name, an ONNX file.
"""


@click.command(cls=Command, help=HELP, short_help="Save a model as one file.")
@click.argument("model", type=SOURCE)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write, such as cats.toplabel.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes.")
@model_file_flags
@debug_flag
def pack(model: str, *, output: Path, quiet: bool, **options: Any) -> int:
    """Write a bundle."""
    from toplabel import load
    from toplabel.bundle.file import check_target

    check_target(output)  # before the model is loaded and compiled
    with load(model, **take_load_options(options)) as predictor:
        predictor.save(output)
        if not quiet:
            size = output.stat().st_size / 1e6
            say(f"{output}: {predictor.name}, {len(predictor.labels):,} classes, {size:,.1f} MB")
    return 0
