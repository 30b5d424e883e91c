"""Sections: the options of a command, listed in its help under headings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

_FIRST = "Options"


class Sectioned(click.Command):
    """A command whose help lists each option under the heading that `add_options` gave it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, in the order of their first options; "Options" is the first."""
        sections: dict[str, list[tuple[str, str]]] = {_FIRST: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "section", _FIRST), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def add_options(
    command: Function, options: tuple[Callable[[Function], Function], ...], *, section: str = _FIRST
) -> Function:
    """Add options to a command, in the order in which its help lists them, under a heading."""
    for option in reversed(options):  # the last one added is listed first
        command = option(command)
        params: list[Any] = vars(command)["__click_params__"]
        params[-1].section = section
    return command
