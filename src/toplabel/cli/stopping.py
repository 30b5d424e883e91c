"""Stopping: Ctrl-C and SIGTERM in, an orderly end within a second out, whatever code is running."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:
    from types import FrameType

GRACE_SECONDS = 0.7
"""How long the program may take to end by itself before it is ended."""


class Stopped(KeyboardInterrupt):
    """The user, or the system, asked the program to stop.

    `status` is the exit status by the shell's custom: 128 + the signal's number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.status = 128 + signal_number


def watch_for_stop() -> None:
    """From now on Ctrl-C and SIGTERM raise `Stopped`; a second one exits at once.

    Python runs its handlers between two bytecodes of the main thread, so a long call into a
    library would hold them up: a thread watches over it and ends the process where it takes
    longer than `GRACE_SECONDS`.
    """
    if os.name != "posix":  # elsewhere Ctrl-C is Python's own KeyboardInterrupt
        return
    wanted = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in wanted:
        signal.signal(number, _raise_stopped)
    threading.Thread(target=_end_when_late, args=(reading, set(wanted)), daemon=True).start()


def asked_to_stop() -> int | None:
    """The status to end with where a stop was asked for; None where it was not.

    A library whose import is stopped raises an error of its own in place of `Stopped`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _exit_now:
            return 128 + number
    return None


def _raise_stopped(signal_number: int, frame: FrameType | None) -> Never:
    signal.signal(signal_number, _exit_now)
    raise Stopped(signal_number)


def _exit_now(signal_number: int, frame: FrameType | None) -> Never:
    os._exit(128 + signal_number)


def _end_when_late(reading: int, wanted: set[int]) -> None:
    """Wait for one stop signal; then for a second one or for the grace to pass; then exit."""
    first = _next_stop(reading, wanted)
    select.select([reading], [], [], GRACE_SECONDS)
    try:
        os.write(2, b"toplabel: stopped\n")
    finally:  # standard error may be closed
        os._exit(128 + first)


def _next_stop(reading: int, wanted: set[int]) -> int:
    while True:
        (number,) = os.read(reading, 1)  # the C handler writes each signal's number
        if number in wanted:
            return number
