"""Records, JSON, columns and text in; standard output, kept for them alone, out."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from toplabel._internal.text import ascii_json, fit, printable, printable_lines, text_width
from toplabel.cli.stopping import unbroken
from toplabel.cli.terminal import is_terminal
from toplabel.errors import ToplabelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import BinaryIO

_WHOLE_BYTES = 2**20  # a record up to there is written whole, also where a stop comes meanwhile


class ReaderGone(Exception):
    """Nobody reads standard output any more (`| head -1`)."""


class Records:
    """Writes to standard output, each record at once.

    While it is open, whatever else prints to standard output (a library, in Python or in C, or a
    child process) goes to standard error instead.

    Raises:
        ToplabelError: Standard output is closed.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            raise ToplabelError("standard output is closed; nothing can be printed")
        sys.stdout.flush()
        self._stream: BinaryIO = os.fdopen(os.dup(1), "wb", _WHOLE_BYTES)
        if sys.stderr is not None:
            os.dup2(2, 1)

    def write(self, record: bytes) -> None:
        """Print one record.

        Raises:
            ReaderGone: The reader has closed its end.
            ToplabelError: It cannot be written, as on a full disk.
        """
        try:
            with unbroken:
                try:
                    self._stream.write(record)
                    self._stream.flush()  # a system call is nothing beside an image
                except KeyboardInterrupt:
                    self._stream.flush()  # the rest of it
                    raise
        except BrokenPipeError as error:
            with suppress(OSError):  # or Python tells of it when it is collected
                self._stream.close()
            raise ReaderGone from error
        except OSError as error:
            raise ToplabelError(
                f"cannot write to standard output: {error.strerror}; what was printed before is"
                " complete"
            ) from error


def print_lines(lines: Iterable[str]) -> None:
    """Print all that a command has to print for people on standard output.

    Names in it cannot control a terminal, now or where a file or a pipe ends in one.

    Raises:
        ReaderGone: The reader has closed its end.
        ToplabelError: Standard output cannot be written to.
    """
    from toplabel.inference.records import encode_text

    text = printable_lines("".join(f"{line}\n" for line in lines))
    Records().write(encode_text(text))


def print_json(*values: object) -> None:
    """Print JSON values, one per line, as `print_lines` does."""
    print_lines(ascii_json(value, default=str) for value in values)


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows, as `print_lines` does: aligned on a terminal, below a header; else with tabs."""
    from toplabel.inference.records import as_line

    if not is_terminal(sys.stdout):
        print_lines("\t".join(map(as_line, row)) for row in rows)
        return
    table = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(text_width, column)) for column in zip(*table, strict=True)]
    print_lines("  ".join(map(fit, row, widths)).rstrip() for row in table)
