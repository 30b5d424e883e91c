"""Stopping: Ctrl-C and SIGTERM in, an orderly end in a second or two, whatever code is running."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from toplabel._internal.platform import has_posix_processes

if TYPE_CHECKING:
    from types import FrameType

GRACE_SECONDS = 0.7
"""How long the program may take to end by itself before it is ended: people wait no longer."""

unbroken = threading.Lock()
"""Held while a line is written that the end must not cut."""

_status: int | None = None  # to end with, once a stop was asked for
_said = False


class Stopped(KeyboardInterrupt):
    """The user, or the system, asked the program to stop."""


def watch_for_stop() -> None:
    """From now on Ctrl-C and SIGTERM raise `Stopped`; a second one exits at once.

    Python runs its handlers between two bytecodes of the main thread, so a long call into a
    library would hold them up: a thread watches over it and ends the process where it takes
    longer than `GRACE_SECONDS`. Where Python drops what a handler raises, it ends at once.
    """
    if not has_posix_processes():  # elsewhere Ctrl-C is Python's own KeyboardInterrupt
        return
    wanted = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in wanted:
        signal.signal(number, _raise_stopped)
    sys.unraisablehook = _end_if_dropped
    threading.Thread(target=_end_when_late, args=(reading, set(wanted)), daemon=True).start()


def ignore_stops() -> None:
    """From now on nothing raises `Stopped`: the program ends anyway, within the grace."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _raise_stopped:
            signal.signal(number, lambda *_: None)


def say_stopped(*, patience: float = -1) -> None:
    """Write the line that says so, once for all callers, after `patience` seconds at the latest."""
    global _said
    held = unbroken.acquire(timeout=patience)
    if not _said and sys.stderr is not None:
        with suppress(OSError):  # a reader that has gone
            os.write(2, b"toplabel: stopped\n")
    _said = True
    if held:
        unbroken.release()


def asked_to_stop() -> int | None:
    """The status to end with where a stop was asked for, 128 + the signal; None where it was not.

    A library whose import is stopped raises an error of its own in place of `Stopped`.
    """
    return _status


def _raise_stopped(signal_number: int, frame: FrameType | None) -> None:
    global _status
    ignore_stops()  # a second one wakes the thread that watches
    _status = 128 + signal_number
    raise Stopped


def _end_if_dropped(dropped: sys.UnraisableHookArgs) -> None:
    """Stop all the same where `Stopped` is raised in a callback, as imports have, and dropped."""
    if isinstance(dropped.exc_value, Stopped):
        say_stopped()
        os._exit(_status or 1)
    sys.__unraisablehook__(dropped)


def _end_when_late(reading: int, wanted: set[int]) -> None:
    """Wait for one stop signal; then for a second one or for the grace to pass; then exit."""
    while (first := os.read(reading, 1)[0]) not in wanted:
        pass  # the C handler writes each signal's number
    second, _, _ = select.select([reading], [], [], GRACE_SECONDS)
    say_stopped(patience=0 if second else GRACE_SECONDS)
    os._exit(128 + first)
