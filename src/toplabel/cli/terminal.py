"""The terminal, as the commands see it: is there one, how wide, and one line to the user."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from toplabel._internal.text import fit, number_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEFAULT_WIDTH = 80
_REDRAW_SECONDS = 0.1
_CLEAR_LINE = "\r\x1b[K"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads `stream` (or writes it, for standard input)."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def width() -> int:
    """Columns of the terminal on standard output; 80 where that is not known."""
    try:
        columns = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 0
    return columns or _DEFAULT_WIDTH


def has_color() -> bool:
    """Whether colours are welcome on standard output (NO_COLOR, TERM)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and is_terminal(sys.stdout)


def has_blocks() -> bool:
    """Whether standard output's encoding has the block characters of a bar."""
    try:
        "█▏…".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def size_words(size_bytes: int) -> str:
    """A size of a file for people: "812 bytes", "4.1 kB", "13.8 MB"."""
    if size_bytes < 1000:
        return number_of(size_bytes, "byte")
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1e6:,.1f} MB"


def say(text: str) -> None:
    """Print one line on standard error, above a line that redraws itself."""
    clear_line()
    _to_stderr(f"toplabel: {printable(_with_flags(text))}\n")


def _with_flags(text: str) -> str:
    """The text with Python's arguments spelled as flags."""
    if "=" not in text:
        return text
    from toplabel.cli.options import as_flags  # after --help has been thought of

    return as_flags(text)


def show_notices(*, quiet: bool) -> None:
    """Print what toplabel warns of, and unless `quiet` what it logs, a line each, from now on.

    A warning is printed once, however often it comes.
    """
    import logging  # numpy and Pillow load it anyway; --help does without

    from toplabel._internal.notices import show_warnings

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger = logging.getLogger("toplabel")
    logger.handlers = [logging.NullHandler()] if quiet else [Lines()]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    show_warnings(lambda text: say(f"warning: {text}"))


def say_more(lines: Iterable[str]) -> None:
    """Print what belongs to the line said before, a line each, on standard error."""
    _to_stderr("".join(f"{printable(_with_flags(line))}\n" for line in lines))


_line_is_drawn = False


class Progress:
    """How far it is, on one line of standard error that redraws itself.

    Args:
        shown: Whether there is a person to show it to.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._started = monotonic()
        self._drawn = self._started

    def update(self, done: int, failed: int) -> None:
        """Show the counts, ten times a second at most."""
        now = monotonic()
        if not self._shown or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        failures = f", {failed:,} failed" if failed else ""
        rate = done / (now - self._started)
        draw_line(f"{number_of(done, 'image')}{failures}, {rate:.3g} a second")


def draw_line(text: str) -> None:
    """Write a line of standard error over itself, cut to the terminal's width."""
    global _line_is_drawn
    columns, _line_is_drawn = _stderr_width(), True
    _to_stderr(f"{_CLEAR_LINE}{fit(text, columns - 1).rstrip()}")


def clear_line() -> None:
    """Take away the line that `draw_line` has written, if there is one."""
    global _line_is_drawn
    if _line_is_drawn:
        _line_is_drawn = False
        _to_stderr(_CLEAR_LINE)


def _stderr_width() -> int:
    try:
        return os.get_terminal_size(2).columns or _DEFAULT_WIDTH
    except OSError:
        return _DEFAULT_WIDTH


def _to_stderr(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # nobody listens: the exit status still tells
        pass
