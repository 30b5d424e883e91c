"""`toplabel cache`: the compiled models on this machine, listed or removed."""

from __future__ import annotations

import click

from toplabel.cli.options import Command, debug_flag
from toplabel.cli.records import print_columns
from toplabel.cli.terminal import say, size_words
from toplabel.errors import ToplabelError

HELP = """List or clear the cache of compiled models, which makes models start fast.

\b
toplabel cache                  list the models and their sizes
toplabel cache clear            remove all; a model is compiled again when it is needed
toplabel cache clear resnet50   remove models whose names start with resnet50

The environment variable TOPLABEL_CACHE sets another folder for it.
"""


@click.command(cls=Command, help=HELP, short_help="List or clear the cache of compiled models.")
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
    rows = [(e.kind, e.name, size_words(e.size_bytes)) for e in entries]
    print_columns(("KIND", "NAME", "SIZE"), rows)
    total = sum(entry.size_bytes for entry in entries)
    say(f"{size_words(total)} in {cache_dir()}; clear it with: toplabel cache clear")
    return 0


def _clear(names: tuple[str, ...]) -> int:
    from toplabel.bundle.cache import cache_dir, list_entries, prune

    if names and not any(entry.name.startswith(names) for entry in list_entries()):
        raise ToplabelError(f"no model in {cache_dir()} has a name that starts with {names[0]!r}")
    try:
        freed = prune(names or None)
    except OSError as error:
        raise ToplabelError(f"cannot clear {cache_dir()}: {error}") from error
    say(f"freed {size_words(freed)} in {cache_dir()}")
    return 0
