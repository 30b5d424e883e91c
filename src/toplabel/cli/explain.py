"""`toplabel explain`: what in a picture spoke for its label, as a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel._internal.platform import written_aside
from toplabel.cli.options import (
    debug_option,
    reading_options,
    running_options,
    stating_options,
    take_read_options,
    take_statements,
)
from toplabel.cli.terminal import notes_of, say
from toplabel.errors import ToplabelError, UsageError

if TYPE_CHECKING:
    from toplabel.analysis.explain.pipeline import Finding
    from toplabel.inference.predictor import Predictor

HELP = """Show what in a picture spoke for its label.

\b
toplabel explain cat.jpg -o why.png              a heat map over the picture
toplabel explain cat.jpg -m resnet50 -o why.png  by the network's gradients (toplabel[explain])
toplabel explain cat.jpg --label lynx -o why.png what speaks for another label
toplabel explain cat.jpg --json                  how it was made, and how far to trust it

INPUT is an image file, a URL, or - for standard input. The picture is upright and of its own size,
or 2048 pixels long where it is larger. Two figures say whether the map is true: what the score
loses without the hottest tenth of the picture, and without a random tenth.
"""


@click.command(help=HELP, short_help="Show what spoke for a label.")
@click.argument("source", metavar="INPUT")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The PNG to write."
)
@click.option("--label", metavar="LABEL", help="The class: its name, id or index.  [default: best]")
@click.option(
    "--method",
    type=click.Choice(["auto", "gradcam", "occlusion"]),
    default="auto",
    help="By gradients, or by what the score loses under a patch; auto: whichever can be had.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print no notes.")
@running_options
@stating_options
@reading_options
@debug_option
def explain(
    source: str,
    *,
    output: Path | None,
    label: str | None,
    method: Any,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Explain one picture."""
    if output is None and not as_json:
        raise click.UsageError("got no -o; expected the PNG to write, -o why.png, or --json")
    if output is not None:
        _check_target(output)  # before the model is loaded
    from toplabel import load
    from toplabel.analysis.explain.pipeline import find

    options["read"] = take_read_options(options)
    options |= take_statements(options)
    with load(options.pop("model"), notify=notes_of(quiet=quiet), **options) as predictor:
        finding = find(
            predictor.classifier,
            predictor.open_engine(),
            source,
            label=_label(label, predictor),
            method=method,
            read=predictor.read,
            batch_size=predictor.batch_size,
        )
        if output is not None:
            _write_png(finding, predictor, output)
        if as_json:
            _print_json(finding, predictor, source, output)
        elif not quiet:
            say(_sentence(finding, predictor, output))
    return 0


def _label(label: str | None, predictor: Predictor) -> int | str | None:
    """A class's name or id; a number that is none of these is its index."""
    known = predictor.labels
    if label is not None and label.isdecimal() and label not in (*known, *(known.ids or ())):
        return int(label)
    return label


def _write_png(finding: Finding, predictor: Predictor, output: Path) -> None:
    from toplabel.analysis.explain.overlay import shown_size
    from toplabel.analysis.explain.rendering import render_png

    picture = finding.picture.height, finding.picture.width
    if (size := shown_size(*picture)) != picture:
        say(f"{output} is {size[1]}x{size[0]}; the picture is {picture[1]}x{picture[0]}")
    _replace(output, render_png(finding, predictor.classifier))


def _print_json(finding: Finding, predictor: Predictor, source: str, output: Path | None) -> None:
    from toplabel.analysis.explain.rendering import facts_of
    from toplabel.cli.records import Records

    facts = {"source": source, **facts_of(finding, predictor.classifier)}
    facts["output"] = None if output is None else str(output)
    Records().write((json.dumps(facts) + "\n").encode())


def _sentence(finding: Finding, predictor: Predictor, output: Path | None) -> str:
    hottest, random = finding.faithfulness
    method = f"Grad-CAM at {finding.layer}" if finding.method == "gradcam" else "occlusion"
    return (
        f"{output}: {predictor.labels[finding.index]} {finding.score:.3f}, by {method}; without the"
        f" hottest tenth the score is {hottest:.3f} lower, without a random one {random:.3f}"
    )


def _check_target(path: Path) -> None:
    """Stop where the picture could not, or should not, be written.

    Raises:
        UsageError: There is no such folder, or something stands there that is none of our pictures.
    """
    from toplabel.analysis.explain.overlay import is_overlay

    if path.suffix.lower() != ".png":
        raise UsageError(f"got {str(path)!r} to write; expected a name that ends in .png")
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise UsageError(f"got {str(path)!r} to write; there is no folder {str(target.parent)!r}")
    if not target.exists():
        return
    if not target.is_file() or not is_overlay(target.read_bytes()[:1024]):
        raise UsageError(
            f"got {str(path)!r} to write, which exists and was not made by toplabel explain; name"
            " another"
        )


def _replace(path: Path, content: bytes) -> None:
    """Write the file at once, or leave what stands there.

    Raises:
        ToplabelError: It cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    try:
        with written_aside(target) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ToplabelError(f"cannot write {str(path)!r}: {error.strerror}") from error
