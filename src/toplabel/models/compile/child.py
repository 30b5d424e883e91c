"""Child: run a function in a forked process, so that its memory, prints and crashes stay there."""

from __future__ import annotations

import faulthandler
import gc
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from toplabel._internal import platform
from toplabel._internal.text import first_line
from toplabel.errors import ToplabelError

Result = TypeVar("Result")
Report = Callable[[str], None]

_POLL_SECONDS = 0.1
_REASON_LENGTH = 200
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Failed:
    """The function gave no result; `reason` says why, in one line.

    `lasting`: another attempt would end alike; not so where memory was short.
    """

    reason: str
    lasting: bool = True


def run_in_child(
    work: Callable[[Report], Result],
    *,
    log: Path,
    time_limit_seconds: float,
    report: Report | None = None,
) -> Result | Failed:
    """The result of `work` from a forked child, or why there is none.

    The child's standard output and error go to `log`. It is killed at the time limit, and when
    the caller is interrupted or dies. Results travel by pickle.

    Args:
        work: Called with a function that sends one line of progress to the caller.
        log: A file to write to.
        time_limit_seconds: How long the child may live.
        report: Called, in this process, with each line of progress.

    Raises:
        ToplabelError: `work` raised it.
        OSError: `work` raised it (a full disk), or no process could be made.
    """
    receiver, sender = Pipe(duplex=False)
    pid = _fork(work, sender, receiver, log)
    sender.close()
    try:
        result: Result | Failed
        result = _receive(receiver, pid, log, time_limit_seconds, report or _ignore)
        return result
    finally:
        receiver.close()
        _end(pid)


def run_here(work: Callable[[Report], Result], *, log: Path) -> Result | Failed:
    """The result of `work` from this process, its standard output and error going to `log`.

    For systems and moments where forking is not safe: nothing limits the time.

    Raises:
        ToplabelError: `work` raised it.
        OSError: `work` raised it.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
    with _output_to(log), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return work(_ignore)
        except (ToplabelError, OSError):
            raise
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            return Failed(describe(error), lasting=not isinstance(error, MemoryError))


def describe(error: BaseException) -> str:
    """What went wrong first, as one line of limited length."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = _COLOURS.sub("", first_line(error, named=True))
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 3] + "..."


def _ignore(line: str) -> None:
    pass


def _fork(
    work: Callable[[Report], Any], sender: Connection, receiver: Connection, log: Path
) -> int:
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads: a lock that another thread holds stays
        # locked in the child. The child touches few, and a hanging one meets its time limit.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        receiver.close()
        _be_child(work, sender, log, parent)
    return pid


def _be_child(
    work: Callable[[Report], Any], sender: Connection, log: Path, parent: int
) -> NoReturn:
    """Run in the child: never returns into the parent's code, never runs its exit handlers."""
    try:
        os.setpgid(0, 0)  # Ctrl-C at the terminal goes to the parent, which ends this group
        platform.die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()  # it may write past the log
        gc.freeze()  # the parent's objects are not to be finalised here, nor their pages copied
        warnings.simplefilter("ignore")
        with _output_to(log):
            _send_outcome(work, sender)
    finally:
        os._exit(0)  # drops what the parent had not written out yet; it writes that itself


def _send_outcome(work: Callable[[Report], Any], sender: Connection) -> None:
    try:
        sender.send(("result", work(lambda line: sender.send(("progress", line)))))
    except ToplabelError as error:
        sender.send(("raise", error))
    except OSError as error:
        traceback.print_exc()
        # of the plain class: a library's subclass may not survive the pickle
        sender.send(("raise", OSError(error.errno, error.strerror or str(error), error.filename)))
    except BaseException as error:  # SystemExit from a model's code, too
        traceback.print_exc()
        lasting = not isinstance(error, MemoryError)
        sender.send(("failed", Failed(describe(error), lasting)))


def _receive(
    receiver: Connection, pid: int, log: Path, time_limit_seconds: float, report: Report
) -> Any:
    deadline = time.monotonic() + time_limit_seconds
    while True:
        dead = _has_ended(pid)  # asked before the pipe, so that no last word is missed
        if receiver.poll(0 if dead else _POLL_SECONDS):
            try:
                kind, value = receiver.recv()
            except EOFError:
                return _obituary(pid, log)
            if kind in ("result", "failed"):
                return value
            if kind == "raise":
                raise value
            report(value)
        elif dead:
            return _obituary(pid, log)
        if time.monotonic() > deadline:
            return Failed(f"it took longer than {time_limit_seconds:g} s")


def _has_ended(pid: int) -> bool:
    # WNOWAIT leaves the child to be collected, so that its number cannot go to another process
    flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
    try:
        return os.waitid(os.P_PID, pid, flags) is not None
    except ChildProcessError:  # somebody else collected it
        return True


def _end(pid: int) -> None:
    """Kill the child's whole group and collect the child."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return
    for kill in (os.killpg, os.kill):  # it has no group of its own in its first moments
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _obituary(pid: int, log: Path) -> Failed:
    try:
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:  # somebody else collected it
        end = None
    if end is None:
        return Failed(f"its process ended early{_last_words(log)}", lasting=False)
    if end.si_code == os.CLD_EXITED:
        return Failed(f"its process ended early with status {end.si_status}{_last_words(log)}")
    if end.si_status == signal.SIGKILL:
        return Failed("its process was killed, perhaps for want of memory", lasting=False)
    return Failed(f"its process crashed ({signal.Signals(end.si_status).name}){_last_words(log)}")


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f": {lines[-1].strip()[:_REASON_LENGTH]}" if lines else ""


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send this process's standard output and error to a file: Python's and the C libraries'."""
    with open(log, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        saved = {number: os.dup(number) for number in (1, 2) if _is_open(number)}
        try:
            for number in saved:
                os.dup2(file.fileno(), number)
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
