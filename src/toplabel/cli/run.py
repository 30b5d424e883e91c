"""`toplabel run`, and `toplabel INPUT... -o OUTPUT`: everything labelled, once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toplabel.cli.options import (
    debug_option,
    reading_options,
    running_options,
    scoring_options,
    stating_options,
    take_read_options,
    take_statements,
)
from toplabel.cli.run_report import RunProgress, tell_summary
from toplabel.cli.sections import Sectioned, add_options
from toplabel.cli.terminal import clear_line, notes_of, say

if TYPE_CHECKING:
    pass

Function = TypeVar("Function", bound=Callable[..., Any])

HELP = """Label everything, once, and keep the records in a file or folder.

\b
toplabel run photos/ -o labels.parquet     also .csv, .jsonl; the same as toplabel photos/ -o ...
toplabel run 's3://bucket/**/*.jpg' -o out/   a folder of parts, for huge runs
toplabel run list.txt shards/*.tar -o out/    lists, archives, Parquet tables with images
toplabel run photos/ -o a.csv --report a.html   and a page to look at

The same command again goes on where it was stopped, and labels what has come since.
"""

_AT_LEAST_ONE = click.IntRange(min=1)

_OUTPUT = click.option(
    "-o",
    "--output",
    metavar="OUTPUT",
    help="Write records to a .parquet, .csv or .jsonl file, or to a folder of parts; the same"
    " command again goes on where it was stopped.",
)

_RUN = (
    click.option(
        "--format",
        type=click.Choice(["parquet", "csv", "jsonl"]),
        help="Of the parts in a folder.  [default: parquet]",
    ),
    click.option("--all-scores", is_flag=True, help="Give the scores of all classes, too."),
    click.option(
        "--report", metavar="FILE", help="Write an HTML page with pictures and counts, too."
    ),
    click.option("--copy-to", metavar="DIR", help="Copy images into a folder for each label."),
    click.option("--link-to", metavar="DIR", help="Link to images from a folder for each label."),
    click.option(
        "--on", type=click.Choice(["here", "ray"]), default="here", help="Where to label."
    ),
    click.option(
        "--column", metavar="NAME", help="Of tables and lists: where the image, or its path, is."
    ),
    click.option("--check-inputs", is_flag=True, help="Label inputs anew that have changed since."),
    click.option("--restart", is_flag=True, help="Begin anew: remove what is done."),
    click.option(
        "--max-errors",
        type=click.IntRange(min=0),
        metavar="N",
        help="Stop when more inputs than that have failed.",
    ),
    click.option(
        "--shard-size",
        type=_AT_LEAST_ONE,
        metavar="N",
        help="Inputs of one part, which is what a crash costs at most.",
    ),
)

_NAMES = (
    *("format", "all_scores", "report", "copy_to", "link_to", "on", "column"),
    *("check_inputs", "restart", "max_errors", "shard_size"),
)
_DEFAULTS = {"on": "here"}


def run_options(command: Function) -> Function:
    """Add -o and the options of `RunOptions` to a command."""
    return add_options(add_options(command, _RUN, section="Runs, with -o"), (_OUTPUT,))


def take_run_options(options: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The output and what is said of the run; both are taken out of `options`.

    Raises:
        click.UsageError: Something is said of a run, and there is no output.
    """
    output = options.pop("output")
    said = {name: options.pop(name) for name in _NAMES}
    given = [name for name, value in said.items() if not _is_default(name, value)]
    if output is None and given:
        option = "--" + given[0].replace("_", "-")
        raise click.UsageError(f"got {option} without an output; add -o labels.csv")
    return output, said


def _is_default(name: str, value: object) -> bool:
    return value is None or value is False or value == _DEFAULTS.get(name)


@click.command(cls=Sectioned, help=HELP, short_help="Label everything, once, and keep the records.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@run_options
@scoring_options
@click.option("-q", "--quiet", is_flag=True, help="Print no progress, notes or summary.")
@running_options
@stating_options
@reading_options
@debug_option
def run(inputs: tuple[str, ...], *, quiet: bool, **options: Any) -> int:
    """Label inputs into an output."""
    output, said = take_run_options(options)
    if output is None:
        raise click.UsageError("got no output; add -o labels.csv")
    return run_inputs(inputs, output, said, options, quiet=quiet)


def run_inputs(
    inputs: Sequence[str],
    output: str,
    said: dict[str, Any],
    options: dict[str, Any],
    *,
    quiet: bool,
) -> int:
    """The exit status of a run.

    Args:
        inputs: As they were typed.
        output: The same.
        said: The options of the run.
        options: The options of the model, of running it, and of reading.
        quiet: Say nothing but errors.
    """
    import toplabel  # numpy and all else that labelling needs

    warnings.filterwarnings("ignore", module="PIL")
    top_k = options.pop("top_k")
    options["read"] = take_read_options(options)
    options |= take_statements(options)
    progress = RunProgress(shown=not quiet)
    try:
        summary = toplabel.run(
            list(inputs),
            output,
            notify=notes_of(quiet=quiet),
            progress=progress.update,
            **({} if top_k is None else {"top_k": top_k}),
            **said,
            **options,
        )
    finally:
        clear_line()
    if not quiet:
        tell_summary(summary)
        if said["report"] is not None:
            say(f"to look at: {said['report']}")
    return 1 if summary.failed else 0
