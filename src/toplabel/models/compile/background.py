"""Background: compiling that goes on when the command has ended, and what it found for the next.

The process that has labelled forks; the child leaves the terminal, writes to a log in the cache,
and compiles as the command would have done. It is alone for its model, and the next command
answers by eager PyTorch once more while it is at work.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, get_args

from toplabel._internal import platform
from toplabel._internal.json_file import json_path, read_json, write_json
from toplabel._internal.notices import collect_warnings, quiet_libraries
from toplabel._internal.text import first_line
from toplabel.bundle.cache import cache_dir
from toplabel.errors import ToplabelError, UsageError

if TYPE_CHECKING:
    from toplabel.inference.predictor import Predictor

VARIABLE = "TOPLABEL_COMPILE"
When = Literal["background", "wait"]

TIME_LIMIT_SECONDS = 1800.0
"""Of an export in the background, which nobody waits for and other work may hold up."""

_MORE_SECONDS = 300  # for all else that it does
_NICE = 10

logger = logging.getLogger(__name__)
_is_detached = False


def when_to_compile() -> When:
    """When a command compiles a model that is new to this machine, after its label.

    Raises:
        UsageError: The environment names something else.
    """
    chosen = os.environ.get(VARIABLE) or "background"
    if chosen not in get_args(When):
        raise UsageError(f"got {VARIABLE}={chosen}; expected {' or '.join(get_args(When))}")
    if not platform.can_fork() or _ends_with_parent():
        return "wait"
    return "background" if chosen == "background" else "wait"


def _ends_with_parent() -> bool:
    """Whether all processes here end with this one: that of a container, or of a service."""
    return os.getpid() == 1 or os.getppid() in (0, 1)


def is_detached() -> bool:
    """Whether this is the process that compiles in the background."""
    return _is_detached


def compile_in_background(predictor: Predictor) -> bool:
    """Compile in a process of its own, which goes on when this one has ended.

    It has left this one's terminal, process group and files when this returns. Nothing happens
    where another one compiles this model already.

    Args:
        predictor: Of a model that is new to this machine.

    Returns:
        Whether one is at work; else nothing was done, and why is told.
    """
    name = predictor.name
    try:
        log = _path(name, ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        _lock(name).parent.mkdir(exist_ok=True)
        with open(log, "a"), platform.lock_file(_lock(name), wait=False) as free:
            if not free:
                return True
    except OSError as error:
        logger.warning(
            "cannot write to the cache %s (%s); %s is not compiled, and stays slow to start; set"
            " TOPLABEL_CACHE to a folder that can be written to",
            cache_dir(),
            error.strerror or error,
            name,
        )
        return False
    logger.info("compiling %s in the background, for later starts", name)
    reading, writing = os.pipe()
    try:
        with quiet_libraries():  # Python warns of any fork beside threads
            child = os.fork()
    except OSError as error:  # so many processes, or so much memory, are not allowed here
        os.close(reading)
        os.close(writing)
        logger.warning(
            "cannot start a process (%s); %s is not compiled, and stays slow to start; %s=wait"
            " compiles it before the command ends",
            error.strerror or error,
            name,
            VARIABLE,
        )
        return False
    if not child:
        _be_detached(predictor, log, writing)
    os.close(writing)
    os.read(reading, 1)  # until it has closed all that it inherited
    os.close(reading)
    return True


def read_findings(name: str) -> tuple[str, tuple[str, ...]]:
    """What compiling in the background ended with: an error or "", and its warnings."""
    found = read_json(_path(name, ".json")) or {}
    return str(found.get("error", "")), tuple(map(str, found.get("warnings", ())))


def forget_findings(name: str) -> None:
    """They were told, and nothing stands against a label any more."""
    with suppress(OSError):
        _path(name, ".json").unlink(missing_ok=True)


def _path(name: str, suffix: str) -> Path:
    return json_path(cache_dir() / "background", name).with_suffix(suffix)


def _lock(name: str) -> Path:
    return json_path(cache_dir() / "locks", f"background {name}").with_suffix("")


def _be_detached(predictor: Predictor, log: Path, ready: int) -> Never:
    """Become the process that compiles, and close `ready` when all ties are cut."""
    global _is_detached
    try:
        _is_detached = True
        os.setsid()  # away from the terminal, its Ctrl-C and its end
        os.nice(_NICE)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(int(TIME_LIMIT_SECONDS) + _MORE_SECONDS)
        gc.freeze()  # the command's objects are not to be finalised here
        _let_go_of_files(log, kept=ready)
        with platform.lock_file(_lock(predictor.name), wait=False) as free:
            os.close(ready)
            if free is not False:
                _compile(predictor, log)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _let_go_of_files(log: Path, *, kept: int) -> None:
    """Write to the log, and have nothing in place of all that was inherited: who reads goes on."""
    numbers = {int(name) for name in os.listdir("/proc/self/fd")} - {1, 2, kept}
    writing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(writing, number)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in numbers:  # not closed: whoever holds a number might close another file by it
        os.dup2(nothing, number)


def _compile(predictor: Predictor, log: Path) -> None:
    """Compile, and leave what the next command should say; the log stays where that failed."""
    import torch  # which has made the model

    torch.set_num_threads(1)  # the threads of the OpenMP library do not survive a fork
    found: dict[str, Any] = {}
    try:
        with collect_warnings() as notices:
            predictor.compile()
        if predictor.classifier.bundle is None:
            found = {"warnings": notices}
    except Exception as error:
        traceback.print_exc()
        found = {"error": first_line(error, named=not isinstance(error, ToplabelError))}
    if found:
        write_json(_path(predictor.name, ".json"), found)
    else:
        log.unlink(missing_ok=True)
