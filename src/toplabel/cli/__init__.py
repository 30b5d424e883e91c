"""The command line: arguments in, records on standard output and an exit status out."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING, Never

from toplabel.cli.stopping import asked_to_stop, ignore_stops, say_stopped, watch_for_stop

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL_LABELLED = 0
SOME_FAILED = 1
NOTHING_DONE = 2
INTERRUPTED = 130

_COLLECT_AFTER = 100_000
"""New objects until garbage is looked for: importing libraries makes many, and none is garbage."""

_OPENMP = "OMP_WAIT_POLICY", "PASSIVE"
"""PyTorch's threads sleep while they wait for each other: where other work shares the processors,
those that spin make a network take several times as long."""


def main() -> Never:
    """Run the command line of this process, and end it."""
    gc.set_threshold(_COLLECT_AFTER)
    os.environ.setdefault(*_OPENMP)
    try:
        watch_for_stop()
        status = status_of(sys.argv[1:])
        ignore_stops()
    except KeyboardInterrupt:
        from toplabel.cli.terminal import clear_line

        clear_line()
        say_stopped()
        status = asked_to_stop() or INTERRUPTED
    _leave(status)


def status_of(arguments: Sequence[str]) -> int:
    """The exit status of a command line, 0, 1 or 2; or `KeyboardInterrupt` when stopped."""
    from toplabel.cli.records import ReaderGone
    from toplabel.cli.terminal import say, say_more

    try:
        return _invoke(arguments)
    except ReaderGone:  # `| head -1` has seen enough
        return ALL_LABELLED
    except Exception as error:
        if asked_to_stop():
            raise KeyboardInterrupt from error
        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        first, *more = _reason(error)
        say(first)
        say_more(more)
        return _failed_status(error)


def _invoke(arguments: Sequence[str]) -> int:
    import click  # here, so that Ctrl-C is heard from the start

    from toplabel.cli.group import toplabel

    if asked := os.environ.get("_TOPLABEL_COMPLETE"):  # by a shell, where TAB was pressed
        from toplabel.cli.completion import answer_shell

        return answer_shell(asked)
    try:
        with toplabel.make_context("toplabel", list(arguments)) as context:
            status = toplabel.invoke(context)
    except click.exceptions.Exit as end:  # --help and --version
        return end.exit_code
    return int(status or 0)


def _failed_status(error: Exception) -> int:
    """1 if it was the image, as in labelling; 2 if it was anything else."""
    from toplabel.errors import ImageError

    return SOME_FAILED if isinstance(error, ImageError) else NOTHING_DONE


def _reason(error: Exception) -> list[str]:
    """One line: what went wrong and what to do; where names of tensors differ, a list of them."""
    from click import ClickException

    from toplabel.errors import CheckpointError, ToplabelError

    if isinstance(error, ClickException):
        return [f"{error.format_message()} ({_hint(error)}{_command(error)} --help)"]
    if isinstance(error, CheckpointError):
        return str(error).split("\n")
    if isinstance(error, ToplabelError):
        return [str(error)]
    if isinstance(error, MemoryError):
        return ["out of memory; try a smaller --batch-size"]
    return [f"internal error: {type(error).__name__}: {error}; --debug prints the traceback"]


def _command(error: Exception) -> str:
    """The command that was typed: of the default one, whose name nobody types, the program's."""
    context = getattr(error, "ctx", None)
    path = "toplabel" if context is None else str(context.command_path)
    return path.removesuffix(" predict")


def _hint(error: Exception) -> str:
    """Where an argument of the network's class was taken for an option: how it is given."""
    from toplabel.models.fit.file_arguments import is_usual

    name = getattr(error, "option_name", "").lstrip("-").replace("-", "_")
    return (
        f"an argument of the network's class is --arch-arg {name}=...; " if is_usual(name) else ""
    )


def _leave(status: int) -> Never:
    """End at once: unloading the libraries in order would take a tenth of the whole time."""
    atexit._run_exitfuncs()  # temporary folders are removed there
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # a reader that has gone
            pass
    os._exit(status)
