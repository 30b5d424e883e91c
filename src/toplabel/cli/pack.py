"""`toplabel pack`: a model, its labels and its preprocessing as one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel._internal.text import number_of, percent
from toplabel.cli.options import (
    SOURCE,
    Command,
    as_flags,
    debug_flag,
    model_file_flags,
    take_load_options,
)
from toplabel.cli.terminal import Progress, clear_line, is_terminal, say, size_words

if TYPE_CHECKING:
    from toplabel.inference.predictor import Predictor

HELP = """Save a model with its class names and preprocessing as one file.

\b
toplabel pack best.pth --arch resnet18 --labels classes.txt --preprocess p.json -o cats.toplabel
toplabel cat.jpg -m cats.toplabel      needs no flags and no PyTorch

MODEL is anything that -m accepts: a checkpoint, a name, an ONNX file.

With --int8 the file carries a second program, in int8, that --fast uses where the answer is clear.
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
@click.option(
    "--int8", "in_int8", is_flag=True, help="Add the model in int8, for --fast; needs --images."
)
@click.option(
    "--images",
    multiple=True,
    type=SOURCE,
    metavar="IMAGES",
    help="With --int8: images like those it is used on, 1,000 or so. May be repeated.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes or progress.")
@model_file_flags
@debug_flag
def pack(
    model: str,
    *,
    output: Path,
    in_int8: bool,
    images: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> int:
    """Write a bundle."""
    from toplabel import load
    from toplabel.bundle.file import check_target

    check_target(output)  # before the model is loaded and compiled
    if in_int8 != bool(images):
        given, missing = ("--int8", "--images") if in_int8 else ("--images", "--int8")
        raise click.UsageError(f"got {given} without {missing}; they belong together")
    with load(model, **take_load_options(options)) as predictor:
        if in_int8:
            _save_in_int8(predictor, output, images, quiet=quiet)
        else:
            predictor.save(output)
        if not quiet:
            size = size_words(output.stat().st_size)
            classes = number_of(len(predictor.labels), "class", "classes")
            say(f"{output}: {predictor.name}, {classes}, {size}")
    return 0


def _save_in_int8(
    predictor: Predictor, output: Path, images: tuple[str, ...], *, quiet: bool
) -> None:
    """Write a bundle with the model in int8, too; or without it, saying why."""
    from toplabel.models.optimize import save_in_int8

    progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
    found = save_in_int8(
        predictor, images, output, progress=lambda done, count: progress.update(done, 0)
    )
    clear_line()
    if found.program is None:
        say(as_flags(f"{output} has no program in int8: {found.reason}"))
    elif not quiet:
        margin = found.program.margin
        say(
            f"in int8 {found.program.speedup:.2f} times as fast; {percent(margin.again)} computed"
            f" again; {margin}"
        )
