"""Guard: what an author's code may not do while it is executed here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from toplabel.errors import ModelError
from toplabel.models.script.tables import EVENTS

_GUARD = threading.local()
_hooked: list[bool] = []
_watched: dict[int, dict[str, Any]] = {}  # by their ids, which stay theirs while they are held
_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_IMPORTING = "<frozen importlib._bootstrap>"


def watch(known: dict[str, Any]) -> None:
    """Whatever runs with these builtins, in whatever thread and whenever, is guarded as well.

    A network's `forward` runs long after it was made.
    """
    _watched[id(known)] = known
    _hook()


@contextmanager
def guarded() -> Iterator[None]:
    """No file is written, no process started, no connection made by this thread inside."""
    with _watching("all"):
        yield


@contextmanager
def overwriting_nothing() -> Iterator[None]:
    """No file that exists is written to, removed or replaced by this thread inside.

    For files that are run whole: a script that trains and saves over its checkpoint is stopped.
    """
    save = torch.save  # it opens files past Python

    def save_new(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, str | os.PathLike) and os.path.exists(f):
            raise _stopped("torch.save", f)
        save(obj, f, *args, **kwargs)

    torch.save = save_new
    try:
        with _watching("existing"):
            yield
    finally:
        torch.save = save


@contextmanager
def _watching(what: str) -> Iterator[None]:
    _hook()
    before = getattr(_GUARD, "what", ""), sys.dont_write_bytecode
    _GUARD.what, sys.dont_write_bytecode = what, True  # nothing is written beside their files
    try:
        yield
    finally:
        _GUARD.what, sys.dont_write_bytecode = before


def _hook() -> None:
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        if not _writes(args[1], args[2]) or str(args[0]) == "/dev/null":
            return
    elif event not in EVENTS:
        return
    what = getattr(_GUARD, "what", "") or ("all" if _runs_a_script() else "")
    if not what or _is_importing():
        return
    if event == "open":
        stopped = what == "all" or _exists(args[0])
    elif what == "existing":
        stopped = event in ("os.remove", "os.rename", "os.truncate") and _exists(args[0])
        stopped = stopped or (event == "os.rename" and _exists(args[1]))
    else:
        stopped = True
    if stopped:
        raise _stopped(event, args[0] if args else "")


def _runs_a_script() -> bool:
    """Whether a script's code is what runs, or has called it."""
    frame = sys._getframe(2) if _watched else None
    while frame is not None:
        if id(frame.f_builtins) in _watched:
            return True
        frame = frame.f_back
    return False


def _is_importing() -> bool:
    """Whether an installed library is being imported, wherever from: what it does then is its own.

    PyTorch imports parts of itself when they are first used, and these name folders for caches.
    Files beside a script are never imported this way.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and id(frame.f_builtins) not in _watched:
        file = frame.f_code.co_filename
        if file == _IMPORTING:
            return True
        if file.startswith(_OURS):
            return False
        frame = frame.f_back
    return False


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _exists(path: object) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.path.exists(path)


def _stopped(event: str, what: object) -> ModelError:
    return ModelError(
        f"the code tried to reach beyond itself ({event} {str(what)[:80]}); it was stopped"
    )
