"""`toplabel run`, and `toplabel INPUT... -o OUTPUT`: each input labelled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from toplabel.cli.options import (
    Command,
    debug_flag,
    inference_flags,
    model_file_flags,
    model_flag,
    reading_flags,
    run_flags,
    scoring_flags,
    take,
    take_load_options,
)
from toplabel.cli.run_report import RunProgress, tell_summary
from toplabel.cli.terminal import clear_line, say
from toplabel.runs.options import RunOptions

HELP = """Label many inputs, each exactly once, and save the records to a file or folder.

\b
toplabel run photos/ -o labels.parquet     also .csv, .jsonl; the same as toplabel photos/ -o ...
toplabel run 's3://bucket/**/*.jpg' -o out/   a folder of parts, for huge runs
toplabel run list.txt shards/*.tar -o out/    lists, archives, Parquet tables with images
toplabel run photos/ -o a.csv --report a.html   also an HTML report

The same command again resumes an interrupted run, and labels inputs that were added since.
"""

output_flag = click.option(
    "-o",
    "--output",
    metavar="OUTPUT",
    help="Write records to a .parquet, .csv or .jsonl file, or to a folder of parts; the same"
    " command resumes the run.",
)


@click.command(cls=Command, help=HELP, short_help="Label many inputs into a file or folder.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@output_flag
@run_flags
@scoring_flags
@click.option("-q", "--quiet", is_flag=True, help="Do not print notes, progress or a summary.")
@model_flag
@inference_flags
@model_file_flags
@reading_flags
@debug_flag
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
