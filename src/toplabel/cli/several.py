"""Several models on one command line: what may be said of a model's file only of the one."""

from __future__ import annotations

from typing import Any

import click

from toplabel.cli.options import take_statements


def take_statements_of_one(options: dict[str, Any], models: int) -> dict[str, Any]:
    """What is said of a model's file, which must be the only one.

    Raises:
        click.UsageError: There are several, or none.
    """
    said = take_statements(options)
    given = [name for name, value in said.items() if value not in (None, False, (), {})]
    if given and models != 1:
        raise click.UsageError(
            f"got --{given[0].replace('_', '-')} with {models} models; it can be said of one: pack"
            " the others before (toplabel pack)"
        )
    return said
