"""Columns: rows of text on standard output, aligned for a person, tab-separated for a program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from toplabel._internal.text import fit, printable, text_width
from toplabel.cli.records import Records
from toplabel.cli.terminal import is_terminal
from toplabel.inference.records import as_line, encode_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of as many cells as `header`, which only a terminal gets to see.

    Raises:
        ReaderGone: The reader has closed its end.
        ToplabelError: Standard output cannot be written to.
    """
    if is_terminal(sys.stdout):
        lines = _aligned([[printable(cell) for cell in row] for row in (header, *rows)])
    else:
        lines = ["\t".join(map(as_line, row)) for row in rows]
    records = Records()
    records.write(encode_text("".join(f"{line}\n" for line in lines)))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(fit, row, widths)).rstrip() for row in rows]
