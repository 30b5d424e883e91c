"""Child process: a function in, its result out, and its memory, prints and crashes left behind."""

from __future__ import annotations

import faulthandler
import gc
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from toplabel._internal import platform
from toplabel._internal.notices import quiet_libraries
from toplabel._internal.text import first_line
from toplabel.bundle.program import A_DAY, NotCompiled
from toplabel.errors import ToplabelError

Result = TypeVar("Result")
Report = Callable[[str], None]

_REASON_LENGTH = 200
_GRACE_SECONDS = 5.0  # between the last thing it does and its end
_CRASHES = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS"}  # of its own doing
_HERE = platform.fork_safe(threading.Lock())  # a process has one standard output
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def can_have_children() -> bool:
    """Whether `run_in_child` works on this system, and in this process of its."""
    return platform.can_fork() and not multiprocessing.current_process().daemon


def run_in_child(
    work: Callable[[Report], Result],
    *,
    log: Path,
    time_limit_seconds: float,
    report: Report | None = None,
) -> Result | NotCompiled:
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
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    # A daemon, so that a program that ends does not wait for it.
    child = forking.Process(target=_be_child, args=(work, sender, log, os.getpid()), daemon=True)
    with receiver:
        with sender, quiet_libraries():
            # Python 3.12 warns of any fork beside threads: a lock that another thread holds stays
            # locked in the child. The child touches few, and a hanging one meets its time limit.
            child.start()
        try:
            result: Result | NotCompiled
            result = _receive(receiver, child, log, time_limit_seconds, report or _ignore)
            return result
        finally:
            _end(child)


def run_here(work: Callable[[Report], Result], *, log: Path) -> Result | NotCompiled:
    """The result of `work` from this process, its standard output and error going to `log`.

    For systems and moments where forking is not safe: nothing limits the time.

    Raises:
        ToplabelError: `work` raised it.
        OSError: `work` raised it.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
    with _HERE, _output_to(log), quiet_libraries():
        return _outcome(work, _ignore)


def _outcome(work: Callable[[Report], Result], report: Report) -> Result | NotCompiled:
    try:
        return work(report)
    except (ToplabelError, OSError):
        raise
    except (Exception, SystemExit) as error:  # of an exporter, or of a model's code
        traceback.print_exc()
        return NotCompiled(
            describe(error), seconds=0 if isinstance(error, MemoryError) else math.inf
        )


def describe(error: BaseException) -> str:
    """What went wrong first, as one line of limited length."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = _COLOURS.sub("", first_line(error, named=True))
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 3] + "..."


def _ignore(line: str) -> None:
    pass


def _be_child(work: Callable[[Report], Any], sender: Connection, log: Path, parent: int) -> None:
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
        os._exit(0)  # without waiting for threads of the model's code


def _send_outcome(work: Callable[[Report], Any], sender: Connection) -> None:
    try:
        sender.send(("result", _outcome(work, lambda line: sender.send(("progress", line)))))
    except ToplabelError as error:
        sender.send(("error", error))
    except OSError as error:
        with suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exc()
        # of the plain class: a library's subclass may not survive the pickle
        sender.send(("error", OSError(error.errno, error.strerror or str(error), error.filename)))
    except Exception as error:  # a result that pickle cannot send
        sender.send(("result", NotCompiled(describe(error))))


def _receive(
    receiver: Connection, child: BaseProcess, log: Path, time_limit_seconds: float, report: Report
) -> Any:
    deadline = time.monotonic() + time_limit_seconds
    while (left := deadline - time.monotonic()) > 0:
        ready = wait([receiver, child.sentinel], timeout=left)
        if receiver.poll():  # asked after the sentinel, so that no last word is missed
            try:
                kind, value = receiver.recv()
            except EOFError:
                return _why_it_ended(child, log)
            if kind == "result":
                return value
            if kind == "error":
                raise value
            report(value)
        elif ready:
            return _why_it_ended(child, log)
    return NotCompiled(f"it took longer than {time_limit_seconds:g} s", seconds=A_DAY)


def _end(child: BaseProcess) -> None:
    """Kill the child's whole group and collect the child."""
    assert child.pid is not None, "it was started"
    with suppress(ProcessLookupError, PermissionError):  # it has no group in its first moments
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()


def _why_it_ended(child: BaseProcess, log: Path) -> NotCompiled:
    child.join(_GRACE_SECONDS)
    if child.exitcode is None:  # somebody else collected it
        return NotCompiled(f"its process ended early{_last_words(log)}", seconds=0)
    if child.exitcode >= 0:
        # 0 is how it leaves when a signal interrupts it before it can send its outcome
        return NotCompiled(
            f"its process ended early with status {child.exitcode}{_last_words(log)}",
            seconds=math.inf if child.exitcode else 0,
        )
    if child.exitcode == -signal.SIGKILL:
        return NotCompiled("its process was killed, perhaps for lack of memory", seconds=0)
    name = signal.Signals(-child.exitcode).name
    what = "crashed" if name in _CRASHES else "was ended"
    return NotCompiled(
        f"its process {what} ({name}){_last_words(log)}",
        seconds=math.inf if name in _CRASHES else 0,
    )


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
        saved = {}
        for number in (1, 2):
            with suppress(OSError):  # it is closed
                saved[number] = os.dup(number)
        try:
            for number in saved:
                os.dup2(file.fileno(), number)
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
