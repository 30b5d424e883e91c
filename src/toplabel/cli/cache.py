"""`toplabel cache`: what is kept on this machine to start fast, and how to be rid of it."""

from __future__ import annotations

import click

from toplabel.cli.columns import print_columns
from toplabel.cli.options import (
    Command,
    debug_flag,
)
from toplabel.cli.terminal import say
from toplabel.errors import ToplabelError

HELP = """List the compiled models that are kept for the next start, or remove them.

\b
toplabel cache                  what is kept, and how large it is
toplabel cache clear            remove everything; it is made again when it is needed
toplabel cache clear resnet50   remove what has a name that begins so

The environment variable TOPLABEL_CACHE names another folder for it.
"""


@click.command(cls=Command, help=HELP, short_help="List or clear the compiled models kept here.")
@click.argument("action", type=click.Choice(["list", "clear"]), default="list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@debug_flag
def cache(action: str, names: tuple[str, ...]) -> int:
    """List the cache, or clear it."""
    if action == "clear":
        return _clear(names)
    return _list(names)


def _list(names: tuple[str, ...]) -> int:
    from toplabel.bundle.cache import cache_dir, list_entries

    entries = [e for e in list_entries() if not names or e.name.startswith(names)]
    rows = [(e.kind, e.name, _megabytes(e.size_bytes)) for e in entries]
    print_columns(("KIND", "NAME", "SIZE"), rows)
    total = sum(entry.size_bytes for entry in entries)
    say(f"{_megabytes(total)} in {cache_dir()}; empty it with: toplabel cache clear")
    return 0


def _clear(names: tuple[str, ...]) -> int:
    from toplabel.bundle.cache import cache_dir, list_entries, prune

    if names and not any(entry.name.startswith(names) for entry in list_entries()):
        raise ToplabelError(f"nothing in {cache_dir()} has a name that begins with {names[0]!r}")
    try:
        freed = prune(names or None)
    except OSError as error:
        raise ToplabelError(f"cannot clear {cache_dir()}: {error}") from error
    say(f"freed {_megabytes(freed)} in {cache_dir()}")
    return 0


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
