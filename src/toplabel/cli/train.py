"""`toplabel train`: a model of the user's own classes, from a folder of images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel._internal.text import fit, percent, printable, text_width
from toplabel.cli.options import (
    SOURCE,
    Command,
    as_flags,
    exact_loading_flags,
    flags_of,
    json_flag,
    model_flag,
    take,
    take_load_options,
)
from toplabel.cli.records import print_json, print_lines
from toplabel.cli.run import duration
from toplabel.cli.terminal import Progress, clear_line, is_terminal, say, size_words
from toplabel.training.options import TrainOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toplabel.training.result import TrainedClass, TrainingResult

HELP = """Train a model on your own images, in seconds, without PyTorch.

\b
toplabel train photos/ -o mine.toplabel        one sub-folder per class; no validation set needed
toplabel cat.jpg -m mine.toplabel              label with it
toplabel train photos/ -o mine.toplabel --report train.html    a page to look at
toplabel train more/ -o mine2.toplabel --from mine.toplabel    more images, or one class more

DATA is a folder with one sub-folder per class, a folder of files whose names start with WordNet
synsets, or a .csv or .tsv file of paths and labels; at least 3 images a class, better 20 or more.
The network of -m, by default the built-in one, stays as it is and describes the images; a linear
head is fitted to that. The accuracy is out of fold: each image is predicted by a head that was
fitted without it and its copies. What was computed of images is kept for the next time.
"""

_MOST_CLASSES = 20
_CONFUSIONS = 3


@click.command(cls=Command, help=HELP, short_help="Train a model on your own images.")
@click.argument("data", metavar="DATA", type=SOURCE)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The bundle to write, such as mine.toplabel.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Also write an HTML report."
)
@flags_of(TrainOptions)
@json_flag
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes or progress.")
@model_flag
@exact_loading_flags
def train(
    data: str,
    *,
    output: Path,
    report: Path | None,
    model: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train a model."""
    from toplabel.bundle.file import check_target
    from toplabel.training.result import check_weights_target, weights_path

    check_target(output)  # before anything takes time
    given = take(TrainOptions, options) | take_load_options(options, exact="toplabel train")
    if given.get("fine_tune"):
        check_weights_target(output)
    import toplabel  # numpy and all else that training needs

    progress = Progress(shown=is_terminal(sys.stderr) and not quiet)
    try:
        result = toplabel.train(data, model=model, progress=progress.update, **given)
    finally:
        clear_line()
    result.save(output)
    if as_json:
        print_json({**result.to_dict(), "output": str(output)})
    else:
        print_lines(_lines(result))
    if report is not None:
        result.report(report)
    if not quiet:
        size = size_words(output.stat().st_size)
        beside = f", its weights to {weights_path(output)}" if result.network is not None else ""
        say(f"saved to {output}, {size}{beside}, in {duration(result.seconds)}")
        if report is not None:
            say(f"report saved to {report}")
    return 1 if result.unreadable else 0


def _lines(result: TrainingResult) -> Iterator[str]:
    from toplabel.training.advice import advise

    yield result.name
    facts = result.fine_tuning
    learned = facts.learned if facts is not None and facts.kept else 0
    images = f"{len(result.sources) + learned:,} images of {len(result.classes):,} classes"
    images += f", {len(result.sources):,} of them held out" if learned else ""
    left_out = len(result.unreadable)
    yield f"{images}, {left_out:,} could not be read" if left_out else images
    yield (
        f"accuracy {percent(result.accuracy)} ({_range(result.low, result.high)}) on images not"
        f" used in fitting; balanced accuracy {percent(result.balanced_accuracy)}"
    )
    if result.calibration.shift is not None:
        yield (
            f"with the classes as frequent as in training ({_as_flag()}): accuracy"
            f" {percent(result.plain_accuracy)}, balanced accuracy"
            f" {percent(result.plain_balanced_accuracy)}"
        )
    if result.augmentation is not None:
        yield str(result.augmentation)
    if facts is not None:
        yield str(facts)
    yield ""
    yield from _table(result.classes)
    if confused := _confusions(result):
        yield f"mistaken most: {', '.join(confused)}"
    if result.bundle.unknown is not None:
        yield ""
        yield f"unknown: {result.bundle.unknown}"
    if advice := advise(result):
        yield ""
        yield "what to do next:"
        yield from (f"- {text}" for text in advice)


def _as_flag() -> str:
    return as_flags("prior='as-trained'")


def _table(classes: tuple[TrainedClass, ...]) -> Iterator[str]:
    """Each class, or of many the worst."""
    shown = list(classes)
    if len(classes) > _MOST_CLASSES:
        shown = sorted(classes, key=lambda one: one.recall)[:_MOST_CLASSES]
        yield f"the {_MOST_CLASSES} classes that are recognised worst:"
    names = [printable(one.name) for one in shown]
    width = max(len("class"), *map(text_width, names))
    yield f"{fit('class', width)}  images  recall                 precision"
    for name, one in zip(names, shown, strict=True):
        recall = f"{percent(one.recall):>7} ({_range(one.low, one.high)})"
        yield f"{fit(name, width)}  {one.images:>6,}  {recall:<22} {percent(one.precision):>8}"


def _confusions(result: TrainingResult) -> list[str]:
    names = [one.name for one in result.classes]
    most = result.confusions[:_CONFUSIONS]
    return [f"{names[actual]} as {names[other]} {count:,}" for actual, other, count in most]


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"
