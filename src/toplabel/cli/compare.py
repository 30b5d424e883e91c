"""`toplabel compare`: the first stage at which two ways to run a model differ."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_args

import click

from toplabel._internal.text import number_of
from toplabel.cli.options import (
    SOURCE,
    Command,
    add_options,
    debug_flag,
    json_flag,
    model_file_flags,
    reading_flags,
    take_load_options,
)
from toplabel.cli.records import print_json, print_lines
from toplabel.models.options import EngineChoice

if TYPE_CHECKING:
    from toplabel.analysis.compare import Comparison, ImageComparison, Variant

HELP = """Find where two ways to run a model start to differ.

\b
toplabel compare a.toplabel b.toplabel *.jpg
toplabel compare best.pth best.pth cat.jpg --arch resnet18 ... --a-engine torch
toplabel compare m.toplabel m.toplabel photos/ --a-exact       JPEGs in full, and as always
toplabel compare m.toplabel m.toplabel cat.jpg --b-preprocess mine.py:transform

Names the first stage that differs (pixels, tensor, logits, scores or label), by how much, and, if
something simple explains it, why. Your own preprocessing function is called with a PIL image, or
with the path if its first parameter is named path; its file is executed.
Exit status: 0 no difference, 1 a difference or a failed image, 2 nothing could be compared.
"""

_OF_ANY_MODEL = ("labels", "preprocess", "multi_label", "read")
_ENGINES = click.Choice(get_args(EngineChoice))
_VARIANTS = tuple(
    option
    for variant in "ab"
    for option in (
        click.option(
            f"--{variant}-engine",
            type=_ENGINES,
            default="auto",
            help="Engine to run the model with.",
        ),
        click.option(f"--{variant}-exact", is_flag=True, help="Decode large JPEGs in full."),
        click.option(
            f"--{variant}-preprocess",
            metavar="PREPROCESSING",
            help="A preset, a JSON file, or mine.py:function.",
        ),
    )
)


@click.command(cls=Command, help=HELP, short_help="Find where two ways to run a model differ.")
@click.argument("a", metavar="A", type=SOURCE)
@click.argument("b", metavar="B", type=SOURCE)
@click.argument("images", metavar="IMAGE...", type=SOURCE, nargs=-1, required=True)
@json_flag
@lambda command: add_options(command, _VARIANTS, section="The two variants")
@model_file_flags
@reading_flags
@debug_flag
def compare(a: str, b: str, images: tuple[str, ...], *, as_json: bool, **options: Any) -> int:
    """Compare two ways to run a model."""
    from toplabel.analysis.compare import compare as compare_variants
    from toplabel.image.paths import expand

    names = ("engine", "exact", "preprocess")
    variants = {side: {name: options.pop(f"{side}_{name}") for name in names} for side in "ab"}
    loading = take_load_options(options)
    sources = list(expand(images))
    found = compare_variants(
        _variant(a, variants["a"], loading), _variant(b, variants["b"], loading), sources
    )
    print_json(found.to_dict()) if as_json else print_lines(_lines(found))
    return 0 if found.same else 1


def _variant(name: str, own: dict[str, Any], loading: dict[str, Any]) -> Variant:
    """One of the two variants; options for checkpoints apply where it is one."""
    from toplabel import load
    from toplabel.analysis.compare import Variant, described
    from toplabel.models.ref import ModelRef

    function, preprocess = None, own["preprocess"]
    if preprocess is not None and ":" in preprocess and not os.path.exists(preprocess):
        from toplabel._internal.optional import require

        require("torch", extra="torch", purpose="your own preprocessing function")
        from toplabel.models.fit.build_module import import_function

        function, preprocess = import_function(preprocess), None
    if ModelRef.parse(name).kind != "checkpoint":
        loading = {key: value for key, value in loading.items() if key in _OF_ANY_MODEL}
    if preprocess is not None:
        loading = {**loading, "preprocess": preprocess}
    predictor = load(name, engine=own["engine"], exact=own["exact"], **loading)
    predictor.compile()
    words = described(predictor) + (", exact" if own["exact"] else "")
    if own["preprocess"] is not None:
        words += f", preprocessed by {own['preprocess']}"
    return Variant(predictor, function, words)


def _lines(found: Comparison) -> list[str]:
    lines = [f"A  {found.a}", f"B  {found.b}", *([found.note] if found.note else [])]
    for one in found.images:
        lines += [one.source, *(f"  {text}" for text in _stages(one))]
    images = number_of(len(found.images), "image")
    changed = sum(one.labels_differ for one in found.images)
    if found.first is None:
        failed = sum(bool(one.error) for one in found.images)
        where = f" in {len(found.images) - failed} of {images}" if failed else ""
        return [*lines, f"no difference{where}"]
    return [
        *lines,
        f"first difference: {found.first}, in {found.firsts[found.first]} of {images};"
        f" labels differ in {changed or 'none'}",
    ]


def _stages(one: ImageComparison) -> list[str]:
    if one.error:
        return [one.error]
    from toplabel.analysis.compare import ARRAYS

    lines = []
    for stage in ARRAYS:
        difference = getattr(one, stage)
        lines.append(f"{stage:<7} {difference or 'same'}")
    assert one.a is not None
    assert one.b is not None
    labels = f"{one.a[0]} {one.a[1]:.3f}"
    if one.labels_differ or abs(one.a[1] - one.b[1]) > 5e-4:
        labels += f", {one.b[0]} {one.b[1]:.3f}"
    return [*lines, f"label   {labels}"]
