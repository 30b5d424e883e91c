"""`toplabel INPUT...`: the label of each image."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    SOURCE,
    Command,
    loading_flags,
    model_flag,
    run_flags,
    scoring_flags,
    take,
    take_load_options,
)
from toplabel.cli.records import Records
from toplabel.cli.run import output_flag, run_inputs
from toplabel.cli.terminal import Progress, clear_line, is_terminal, say
from toplabel.cli.view import View, choose_view, with_columns
from toplabel.errors import UsageError
from toplabel.runs.options import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from toplabel import Predictor
    from toplabel.inference.cascade import Reduced, ReducedCounts
    from toplabel.inference.prediction import Prediction

HELP = """Label images.

\b
toplabel cat.jpg                    the five best classes
toplabel photos/ '*.jpg' -q         a label a line
toplabel cat.jpg -m best.pth        your own model, or one of toplabel models
toplabel photos/ -o labels.parquet  into a file, each image once; the same command resumes

INPUT is an image file, a URL, a folder, a pattern in quotes, or - for standard input. On a
terminal the output is a table; in a pipe it is one line SOURCE<TAB>LABEL<TAB>SCORE per image,
in which a backslash, tab, newline or carriage return is written \\\\, \\t, \\n or \\r; -k
adds more labels and scores, and last fields say "unsure" below --threshold, and "unknown" where
a model can tell that an image is unlike its training images. An image that fails has an empty
label and score, and a message on standard error. With -o, records are saved to a file or
folder: see toplabel run --help.
"""

USAGE = """\
Usage: toplabel INPUT... [OPTIONS]
Example: toplabel cat.jpg
INPUT is an image file, a URL, a folder, a pattern in quotes, or - for standard input.
More: toplabel --help
"""

DEFAULT_TOP_K = 5

DEFAULT_MODEL_LIMITS = "none for people or documents; pass -m for another model"

_LOOK_AHEAD = 100
"""Sources that are listed before the first is read, for the width of the table's columns."""


@click.command(cls=Command, help=HELP, short_help="Label images.")
@click.argument("inputs", nargs=-1, type=SOURCE, metavar="INPUT...")
@scoring_flags
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print only labels; warnings and failures are still reported.",
)
@output_flag
@run_flags
@model_flag
@loading_flags
def predict(
    inputs: tuple[str, ...], *, as_json: bool, as_csv: bool, quiet: bool, **options: Any
) -> int:
    """Label the inputs, or save their records."""
    if not inputs:
        click.echo(USAGE, err=True, nl=False)
        return 2
    output, run_options = options.pop("output"), take(RunOptions, options)
    _check(inputs, as_json=as_json, as_csv=as_csv, output=output)
    if output is not None:
        return run_inputs(inputs, output, run_options, options, quiet=quiet)
    for name in run_options:
        example = "vectors.parquet" if name == "embeddings" else "labels.csv"
        raise click.UsageError(
            f"got --{name.replace('_', '-')} without an output; add -o {example}"
        )
    top_k, threshold = options.pop("top_k"), options.pop("threshold")
    complaints: list[str] = []
    sources = _sources(inputs, complaints)
    names = list(itertools.islice(sources, _LOOK_AHEAD))
    view = choose_view(names, as_json=as_json, as_csv=as_csv, quiet=quiet, top_k=top_k)
    only_stderr = is_terminal(sys.stderr) and not is_terminal(sys.stdout)
    progress = Progress(shown=only_stderr and len(names) > 1 and not quiet)
    report = Report(view, quiet=quiet, progress=progress)
    if names:
        options |= take_load_options(options)
        wanted = {"top_k": top_k or DEFAULT_TOP_K, "threshold": threshold}
        _label(itertools.chain(names, sources), report, options, wanted)
    for complaint in complaints:
        report.miss(complaint)
    return report.status


def _label(
    sources: Iterable[str], report: Report, options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Load the model and print its prediction for each source."""
    from toplabel import load  # numpy and all else that labelling needs

    with load(**options) as predictor:
        if options["model"] is None:
            report.introduce(f"{len(predictor.labels):,} ImageNet classes; {DEFAULT_MODEL_LIMITS}")
        report.view = with_columns(
            report.view,
            unknown=predictor.classifier.unknown is not None,
            precision=predictor.fast,
        )
        if predictor.fast:
            report.count_reduced()
        later = _compiles_later(predictor)
        if predictor.fast:
            sources = _prepare_fast(predictor, iter(sources))
        try:
            for prediction in predictor.stream(sources, **wanted):
                report.add(prediction, of_model=predictor.warnings)
        finally:
            report.close()
        if predictor.is_final and (program := predictor.reduced) is not None:
            report.tell_reduced(program)
        if later and not predictor.is_final:
            later()  # a new model, for the next time; its first label has been printed


def _compiles_later(predictor: Predictor) -> Callable[[], object] | None:
    """What makes the program of a model that is new to this machine, after its label.

    Raises:
        UsageError: The environment names no way to do that.
    """
    if predictor.is_final:
        return None
    from toplabel.models.compile.background import compile_in_background, when_to_compile

    if when_to_compile() == "wait":
        return predictor.compile
    return lambda: compile_in_background(predictor)


def _prepare_fast(predictor: Predictor, sources: Iterator[str]) -> Iterator[str]:
    """Make the reduced program that the model lacks, where there are images enough."""
    from toplabel.inference.cascade import MAKE_FROM

    first = list(itertools.islice(sources, MAKE_FROM))
    predictor.make_reduced([name for name in first if name != "-"])
    return itertools.chain(first, sources)


def _sources(inputs: Iterable[str], complaints: list[str]) -> Iterator[str]:
    """The sources of `inputs`; an input without any leaves a line in `complaints`."""
    from toplabel.image.paths import expand  # numpy, which --help does without

    for name in inputs:
        try:
            yield from expand([name])
        except UsageError as error:
            complaints.append(str(error))


def _check(inputs: tuple[str, ...], *, as_json: bool, as_csv: bool, output: str | None) -> None:
    """Refuse options that contradict each other.

    Raises:
        click.UsageError: Two formats, or standard input that is a terminal or given twice.
    """
    if output is not None and (as_json or as_csv):
        raise click.UsageError(
            f"got {'--json' if as_json else '--csv'} and -o {output}; the output's suffix sets"
            " its format: -o labels.jsonl, -o labels.csv"
        )
    if as_json and as_csv:
        raise click.UsageError("got --json and --csv; expected one of them")
    if "-" in inputs and is_terminal(sys.stdin):
        raise click.UsageError(
            "got - for standard input, but it is a terminal; pipe an image into it:"
            " cat cat.jpg | toplabel -"
        )
    if inputs.count("-") > 1:
        raise click.UsageError("got - twice; standard input can be read only once")


class Report:
    """Prints each prediction as it comes.

    Args:
        view: The format of the records.
        quiet: Print no notes; warnings and failures are reported all the same.
        progress: Where to show progress.
    """

    def __init__(self, view: View, *, quiet: bool, progress: Progress) -> None:
        self.view = view
        self._quiet = quiet
        self._at_terminal = view.is_table and is_terminal(sys.stderr)
        self._progress = progress
        self._records = Records()
        self._done = 0
        self._failed = 0
        self._missing = 0
        self._reduced: ReducedCounts | None = None

    @property
    def status(self) -> int:
        """The exit status so far: 0; 1 if some inputs have failed; 2 without any record."""
        if self._missing and not self._done:
            return 2
        return 1 if self._failed or self._missing else 0

    def add(self, prediction: Prediction, *, of_model: tuple[str, ...]) -> None:
        """Print one prediction: its record, and its warnings and error.

        Args:
            prediction: What to print.
            of_model: The model's own warnings, which are in each of its records.
        """
        if not self._done and self.view.header:
            self._records.write(self.view.header)
        self._done += 1
        self._failed += prediction.error is not None
        self._records.write(self.view.encode(prediction))
        if self._reduced is not None:
            self._reduced = self._reduced.add(prediction)
        if not self.view.tells:
            self._explain(prediction, of_model)
        self._progress.update(self._done, self._failed)

    def introduce(self, text: str) -> None:
        """Print what a person at a terminal should know before the first record."""
        if self._at_terminal:
            self.note(text)

    def note(self, text: str) -> None:
        """Print one line for people, unless quiet."""
        if not self._quiet:
            say(text)

    def count_reduced(self) -> None:
        """Count from now on how many answers are a reduced program's."""
        from toplabel.inference.cascade import ReducedCounts  # numpy, which --help does without

        self._reduced = ReducedCounts()

    def tell_reduced(self, program: Reduced) -> None:
        """Print what came of reduced precision, unless quiet."""
        from toplabel.inference.cascade import ReducedAnswers

        if self._reduced is not None:
            self.note(str(ReducedAnswers.of(program, self._reduced)))

    def miss(self, text: str) -> None:
        """Print why an input names no image."""
        self._missing += 1
        say(text)

    def close(self) -> None:
        """Remove the progress line, and count the failures that only the records report."""
        clear_line()
        if self._failed and self.view.tells:
            say(f"{self._failed:,} of {self._done:,} inputs failed; see their records")

    def _explain(self, prediction: Prediction, of_model: tuple[str, ...]) -> None:
        for warning in prediction.warnings:
            if warning not in of_model:  # those were told when they were noticed
                say(f"{prediction.source}: warning: {warning}")
        if prediction.error is not None:
            message = prediction.error.message
            named = message.startswith("cannot read ")  # says what, too
            say(message if named else f"{prediction.source}: {message}")
