"""`toplabel completion`: what a shell reads to complete commands, options and files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from toplabel.cli.options import Command
from toplabel.cli.records import print_lines

ASKS = "_TOPLABEL_COMPLETE"
"""Set by the shell's function where it asks what may follow: "bash_complete" and so on."""

_PLAIN = re.compile(r"[\w.,+@%-]+")
_SHELLS = ("bash", "zsh", "fish")

HELP = """Print the completion script of a shell.

\b
eval "$(toplabel completion bash)"                                     in ~/.bashrc
eval "$(toplabel completion zsh)"                                      in ~/.zshrc
toplabel completion fish > ~/.config/fish/completions/toplabel.fish    once

Then TAB completes commands, options, their values, and files.
"""


@click.command(cls=Command, help=HELP, short_help="Complete words in your shell.")
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def completion(*, shell: str | None) -> int:
    """Print a completion script."""
    from toplabel.cli.group import toplabel

    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    found = get_completion_class(name) if name in _SHELLS else None
    if found is None:
        raise click.UsageError(f"got no shell; expected one of {', '.join(_SHELLS)}")
    script = found(toplabel, {}, "toplabel", ASKS)
    print_lines([script.source_template % script.source_vars()])
    return 0


def answer_shell(instruction: str) -> int:
    """Print what may stand where the cursor is, for the shell's function; the exit status."""
    from toplabel.cli.group import toplabel

    return shell_complete(toplabel, {}, "toplabel", ASKS, instruction)


def complete_first_word(group: click.Group, ctx: click.Context, text: str) -> list[CompletionItem]:
    """What the first word may be: a command, an option of the default one, or a file."""
    return names_and_files(
        ((name, _short_help(group, ctx, name)) for name in group.list_commands(ctx)), text
    )


def names_and_files(names: Iterable[tuple[str, str]], text: str) -> list[CompletionItem]:
    """The names that begin with a text, each with what it is, and files that do."""
    found = [CompletionItem(name, help=what) for name, what in names if name.startswith(text)]
    if found and os.environ.get(ASKS) == "bash_complete":
        found += [CompletionItem(path) for path in _plain_files(text)]
    return [CompletionItem(text, type="file"), *found]


def _plain_files(text: str) -> list[str]:
    """Files that begin so, for bash, which lists files only where there are no names."""
    folder, _, start = text.rpartition("/")
    try:
        with os.scandir(f"{folder}/" if folder else ".") as entries:
            found = sorted(one.name for one in entries if one.name.startswith(start))
    except OSError:
        return []
    return [f"{folder}/{name}" if folder else name for name in found if _PLAIN.fullmatch(name)]


def _short_help(group: click.Group, ctx: click.Context, name: str) -> str:
    command = group.get_command(ctx, name)
    return "" if command is None else command.get_short_help_str()
