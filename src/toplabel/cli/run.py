"""`toplabel run`, and `toplabel INPUT... -o OUTPUT`: each input labelled once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from toplabel._internal.text import is_or_are, number_of
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
from toplabel.cli.terminal import clear_line, draw_line, is_terminal, say
from toplabel.runs.options import RunOptions

if TYPE_CHECKING:
    from toplabel.runs.summary import Progress, RunSummary

HELP = """Label many inputs, each exactly once, and save the records to a file or folder.

\b
toplabel run photos/ -o labels.parquet     also .csv, .jsonl; the same as toplabel photos/ -o ...
toplabel run 's3://bucket/**/*.jpg' -o out/   a folder of parts, for huge runs
toplabel run list.txt shards/*.tar -o out/    lists, archives, Parquet tables with images
toplabel run photos/ -o a.csv --report a.html   also an HTML report
toplabel run photos/ -o v.parquet --embeddings  also each image's features

The same command again resumes an interrupted run, and labels inputs that were added since.
"""

_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 10.0
_BAR_WIDTH = 20
_LABELS_TOLD = 5

output_flag = click.option(
    "-o",
    "--output",
    metavar="OUTPUT",
    help="Write records to a .parquet, .csv or .jsonl file, or to a folder of parts; the same"
    " command resumes the run.",
)


@click.command(cls=Command, help=HELP, short_help="Label many inputs into a file or folder.")
@click.argument("inputs", nargs=-1, type=SOURCE, required=True, metavar="INPUT...")
@output_flag
@run_flags
@scoring_flags
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes, progress or a summary.")
@model_flag
@loading_flags
def run(inputs: tuple[str, ...], *, quiet: bool, **options: Any) -> int:
    """Label inputs into an output."""
    output, run_options = options.pop("output"), take(RunOptions, options)
    if output is None:
        raise click.UsageError("got no output; add -o labels.csv")
    return run_inputs(inputs, output, run_options, options, quiet=quiet)


def run_inputs(
    inputs: Sequence[str],
    output: str,
    run_options: dict[str, Any],
    options: dict[str, Any],
    *,
    quiet: bool,
) -> int:
    """The exit status of a run.

    Args:
        inputs: As given on the command line.
        output: As given on the command line.
        run_options: Options of the run that were given.
        options: Options of the model, of inference and of reading.
        quiet: Print nothing but errors.
    """
    import toplabel  # numpy and all else that labelling needs

    top_k = options.pop("top_k")
    options |= take_load_options(options)
    if "output" in options:  # of the network: a run has one of its own
        options["model_output"] = options.pop("output")
    progress = RunProgress(shown=not quiet)
    try:
        summary = toplabel.run(
            list(inputs),
            output,
            progress=progress.update,
            **({} if top_k is None else {"top_k": top_k}),
            **run_options,
            **options,
        )
    finally:
        clear_line()
    if not quiet:
        tell_summary(summary)
        if "report" in run_options:
            say(f"report saved to {run_options['report']}")
    return 1 if summary.failed else 0


class RunProgress:
    """Shows the progress of a run: a bar on a terminal, else a line every ten seconds.

    Args:
        shown: Whether to print anything.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._drawn_at = monotonic()
        self._begun = False

    def update(self, progress: Progress) -> None:
        """Show it, ten times a second at most."""
        if not self._begun and progress.before and self._shown:
            say(
                f"resuming: {progress.before:,} of {number_of(progress.inputs, 'input')}"
                f" {is_or_are(progress.before)} already done"
            )
        self._begun = True
        now, bar = monotonic(), is_terminal(sys.stderr)
        wait = _REDRAW_SECONDS if bar else _LINE_SECONDS
        if not self._shown or now - self._drawn_at < wait:
            return
        self._drawn_at = now
        if bar:
            draw_line(f"{_bar(progress)} {_words(progress)}")
        else:
            say(_words(progress))


def tell_summary(summary: RunSummary) -> None:
    """Print the result of the run."""
    rate = summary.new / summary.seconds if summary.seconds else 0.0
    worked = summary.new or summary.recovered
    new = "" if summary.new == summary.inputs else f", {summary.new or 'none'} of them new,"
    took = f"{new} in {duration(summary.seconds)} ({rate:.3g} a second)"
    done = ", already done" if summary.inputs == 1 else ", all already done"
    say(
        f"{number_of(summary.inputs, 'input')}{took if worked else done}:"
        f" {summary.labelled:,} labelled, {summary.failed:,} failed"
        f"{_doubtful(summary)}"
    )
    if summary.drift is not None and not summary.drift.is_significant:  # else it was warned of
        say(str(summary.drift))
    if summary.fast is not None and not summary.fast.counts.changed:
        say(str(summary.fast))
    if summary.labels:
        say(f"labels: {_counts([(c.label, c.count) for c in summary.labels])}")
    if summary.recovered:
        say(
            f"{number_of(summary.recovered, 'input')} that had failed"
            f" {is_or_are(summary.recovered)} labelled now"
        )
    if summary.errors:
        again = f"; {summary.passing:,} may pass: run the same command again"
        counts = _counts(list(summary.errors.items()))
        say(f"errors: {counts}{again if summary.passing else ''}")
    if summary.missing:
        gone = f"{number_of(summary.missing, 'input')} of earlier runs"
        kept = "its record is" if summary.missing == 1 else "their records are"
        say(f"{gone} {is_or_are(summary.missing)} gone; {kept} kept")
    say(f"saved to {summary.output}")


def _doubtful(summary: RunSummary) -> str:
    """Unsure ones; of a multi-label model those are the ones that no class applies to."""
    if summary.unlabelled:
        return f", {summary.unlabelled:,} of them with no class"
    return f", {summary.unsure:,} unsure" if summary.unsure else ""


def duration(seconds: float) -> str:
    """A time for people: "0.8 s", "2 min 5 s", "3 h 12 min", "4 d 2 h"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole // 60} min {whole % 60} s"


def _bar(progress: Progress) -> str:
    share = progress.done / progress.inputs if progress.inputs else 1.0
    full = int(share * _BAR_WIDTH)
    return f"[{'#' * full}{'.' * (_BAR_WIDTH - full)}] {int(100 * share)} %"


def _words(progress: Progress) -> str:
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    left = progress.seconds_left
    rest = f", {progress.per_second:.3g} a second, {duration(left)} left" if left else ""
    return f"{progress.done:,} of {number_of(progress.inputs, 'image')}{failed}{rest}"


def _counts(counts: list[tuple[str, int]]) -> str:
    told = ", ".join(f"{name} {count:,}" for name, count in counts[:_LABELS_TOLD])
    more = len(counts) - _LABELS_TOLD
    return f"{told}, and {more:,} more" if more > 0 else told
