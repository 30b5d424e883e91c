"""`toplabel optimize`: the fastest way to compute a model that keeps its labels, for --fast."""

from __future__ import annotations

import sys
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    SOURCE,
    Command,
    as_flags,
    debug_flag,
    json_flag,
    model_file_flags,
    model_flag,
    reading_flags,
    take_load_options,
)
from toplabel.cli.records import print_columns, print_json
from toplabel.cli.terminal import Progress, clear_line, is_terminal, say

if TYPE_CHECKING:
    from toplabel.models.optimize import Candidate, Optimized

HELP = """Find the fastest way to compute a model on this machine that keeps its labels.

\b
toplabel optimize -m resnet50 --images photos/
toplabel photos/ -m resnet50 --fast      uses what was found

The model's program is made in int8, from images like those it is used on; they need no classes.
Where OpenVINO is installed, its int8 and bfloat16 are tried, too.
An answer that lies close to another label is computed again exactly: how close is found on one half
of the images, and that no label changes is checked on the other. What is not faster, what is
computed again included, is not used.

The table shows the TIME for one image, the SPEED against float32, how many labels are CHANGED where
nothing is computed again, the share that is computed AGAIN, the speed IN ALL with that, and the
share of labels that are changed for all that: AT MOST so many, at 95 % confidence.
"""

_TABLE = ("WAY", "TIME", "SPEED", "CHANGED", "AGAIN", "IN ALL", "AT MOST", "SIZE", "")


@click.command(cls=Command, help=HELP, short_help="Make a model faster without changing labels.")
@click.option(
    "--images",
    required=True,
    multiple=True,
    type=SOURCE,
    metavar="IMAGES",
    help="Folder or pattern of images like those it is used on, 1,000 or so. May be repeated.",
)
@json_flag
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes or progress.")
@model_flag
@model_file_flags
@reading_flags
@debug_flag
def optimize(
    *, images: tuple[str, ...], as_json: bool, quiet: bool, model: str | None, **options: Any
) -> int:
    """Optimize a model."""
    from toplabel import load
    from toplabel.models.optimize import optimize as optimize_model, read_images

    given = take_load_options(options)
    sources = read_images(images)  # before the model is loaded and compiled
    progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
    with load(model, **given) as predictor:
        found = optimize_model(
            predictor, sources, progress=lambda done, count: progress.update(done, 0)
        )
    clear_line()
    if as_json:
        print_json(found.to_dict())
        return 0
    print_columns(_TABLE, [_row(one) for one in found.candidates])
    for one in found.candidates:
        if one.reason:
            named = "" if one.reason.startswith(f"{one.name} ") else f"{one.name}: "
            say(f"{named}{as_flags(one.reason)}")
    if not quiet:
        say(_conclusion(found, model, more=len(given) > 1))
    return 0


def _row(one: Candidate) -> tuple[str, ...]:
    def shown(value: float | None, form: str, unit: str = "", factor: float = 1) -> str:
        return "" if value is None else f"{factor * value:{form}}{unit}"

    return (
        one.name,
        shown(one.milliseconds, ".1f", " ms"),
        shown(one.speedup, ".2f", " x"),
        "" if one.changed is None else f"{one.changed:,} of {one.images:,}",
        shown(one.again, ".1f", " %", 100),
        shown(one.net, ".2f", " x"),
        shown(one.bound, ".2f", " %", 100),
        shown(one.size_bytes, ",.1f", " MB", 1e-6),
        "kept" if one.kept else "",
    )


def _conclusion(found: Optimized, model: str | None, *, more: bool) -> str:
    """What was kept, and how it is used; `more`: options say what the model's file does not."""
    kept = found.kept
    if kept is found.candidates[0]:
        return f"{found.model} stays in {kept.name}: no other way is worth using here"
    named = "" if model is None else f" -m {quote(model)}"
    return (
        f"{found.model} in {kept.name}, on {found.processor}: labels of {kept.images:,} images"
        f" compared; use it so{', with the same options' * more}: toplabel photos/{named} --fast"
    )
