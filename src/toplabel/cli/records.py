"""Records: standard output, kept for them alone."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from toplabel.errors import ToplabelError

if TYPE_CHECKING:
    from typing import BinaryIO


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
        self._stream: BinaryIO = os.fdopen(os.dup(1), "wb")
        if sys.stderr is not None:
            os.dup2(2, 1)

    def write(self, record: bytes) -> None:
        """Print one record.

        Raises:
            ReaderGone: The reader has closed its end.
            ToplabelError: It cannot be written, as on a full disk.
        """
        try:
            self._stream.write(record)
            self._stream.flush()  # a system call is nothing beside an image
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise ToplabelError(
                f"cannot write to standard output: {error.strerror}; what was printed before is"
                " complete"
            ) from error
