"""`toplabel explain`: the evidence in an image for its label, as a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    SOURCE,
    Command,
    exact_loading_flags,
    json_flag,
    model_flag,
    take_load_options,
)
from toplabel.cli.records import print_json
from toplabel.cli.terminal import say

if TYPE_CHECKING:
    from toplabel.analysis.explain.pipeline import Explanation
    from toplabel.inference.predictor import Predictor

HELP = """Show the evidence in an image for its label.

\b
toplabel explain cat.jpg -o why.png              a heat map over the image
toplabel explain cat.jpg -m resnet50 -o why.png  from the network's gradients (toplabel[explain])
toplabel explain cat.jpg --label lynx -o why.png the evidence for another label
toplabel explain cat.jpg --json                  how it was made, and how faithful it is

INPUT is an image file, a URL, or - for standard input. The map lies over the upright image at its
own size, or at 2048 pixels where it is larger. Two figures show whether the map is faithful: the
drop in score without the hottest tenth of the image, and without a random tenth.
"""


@click.command(cls=Command, help=HELP, short_help="Show the evidence for a label.")
@click.argument("source", metavar="INPUT", type=SOURCE)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The PNG to write."
)
@click.option(
    "--label",
    metavar="LABEL",
    help="The class: its name, id or index.  [default: the predicted one]",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "gradcam", "occlusion"]),
    default="auto",
    help="From gradients, or from the drop in score under a patch; auto: what is available.",
)
@json_flag
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes.")
@model_flag
@exact_loading_flags
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
    """Explain one image."""
    if output is None and not as_json:
        raise click.UsageError("got no -o; expected the PNG to write, -o why.png, or --json")
    if output is not None:
        from toplabel.analysis.explain.rendering import check_png_target

        check_png_target(output)  # before the model is loaded
    from toplabel import load
    from toplabel.analysis.explain.explain import explain as explain_image

    options |= take_load_options(options, exact="toplabel explain")
    with load(**options) as predictor:
        found = explain_image(predictor, source, _label(label, predictor), method=method)
        if output is not None:
            _write_png(found, output)
        if as_json:
            saved = None if output is None else str(output)
            print_json({"source": source, **found.to_dict(), "output": saved})
        elif not quiet:
            say(_sentence(found, output))
    return 0


def _label(label: str | None, predictor: Predictor) -> int | str | None:
    """A class's name or id; a number that is none of these is its index."""
    known = predictor.labels
    if label is not None and label.isdecimal() and label not in (*known, *(known.ids or ())):
        return int(label)
    return label


def _write_png(found: Explanation, output: Path) -> None:
    from toplabel.analysis.explain.rendering import shown_size

    own = found.decoded.height, found.decoded.width
    if (size := shown_size(*own)) != own:
        say(f"{output} is {size[1]}x{size[0]}; the image is {own[1]}x{own[0]}")
    found.save(output)


def _sentence(found: Explanation, output: Path | None) -> str:
    method = f"Grad-CAM at {found.layer}" if found.method == "gradcam" else "occlusion"
    label = f"unknown (nearest: {found.label})" if found.unknown else found.label
    return (
        f"{output}: {label} {found.score:.3f}, by {method}; the score drops by"
        f" {found.faithfulness:z.3f} without the hottest tenth, by {found.random_faithfulness:z.3f}"
        " without a random one"
    )
