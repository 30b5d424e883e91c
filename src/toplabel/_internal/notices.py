"""What is assumed or noticed: one sentence in; a Python warning, a log line and records out.

Progress and plain facts (compiling, downloading, what a short name became) are no notices: they go
to `logging` alone.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Literal, Self

from toplabel.errors import ToplabelWarning

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_OWN = (_PACKAGE, os.path.dirname(os.path.abspath(os.__file__)) + os.sep + "contextlib.py")

About = Literal["labels", "preprocess", "multi_label", "outputs"]
"""What a notice is about: what was assumed where an argument of that name was not given, or what
the outputs of the first images look like."""

LOGGER = "toplabel.notices"
"""The logger of notices, which the handlers of `toplabel` hear."""


class Notice(str):
    """One sentence on what was assumed or noticed.

    `about` says of what, so that it is dropped where that is given after all; None: it stays.
    """

    about: About | None

    def __new__(cls, text: str, about: About | None = None) -> Self:
        notice = super().__new__(cls, " ".join(text.split()))
        notice.about = about or getattr(text, "about", None)
        return notice


_collectors: ContextVar[tuple[list[Notice], ...]] = ContextVar("collectors", default=())


def warn(text: str, *, about: About | None = None) -> None:
    """Warn of something that may make a label wrong; it points at the line that called toplabel.

    Whoever collects warnings at this moment gets the text as well: a model that is being loaded
    keeps it for all its records.
    """
    import logging  # numpy and Pillow load it anyway; --help does without

    notice = Notice(text, about)
    for notices in _collectors.get():
        if notice not in notices:
            notices.append(notice)
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:  # where nobody listens, logging itself would print it, too
        logger.addHandler(logging.NullHandler())
    logger.warning("%s", notice)
    warnings.warn(str(notice), ToplabelWarning, stacklevel=_first_frame_outside())


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Nothing of what libraries warn of, mostly about themselves; `warn` is heard.

    Threads may overlap in it: each takes away what it put in. `warnings.catch_warnings` puts a
    whole list back, and the thread that leaves last would leave the silence of another for good.
    """
    filters: Any = warnings.filters
    silence = ("ignore", None, _OfOthers, None, 0)
    filters.insert(0, silence)
    try:
        yield
    finally:
        with suppress(ValueError):  # they were reset meanwhile
            filters.remove(silence)


class _ButOurs(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return not issubclass(category, ToplabelWarning)


class _OfOthers(Warning, metaclass=_ButOurs):
    """A category for filters: every warning is of it but ours."""


@contextmanager
def collect_warnings() -> Iterator[list[Notice]]:
    """All notices of the body, each once, in a list that fills as they come."""
    notices: list[Notice] = []
    token = _collectors.set((*_collectors.get(), notices))
    try:
        yield notices
    finally:
        _collectors.reset(token)


def show_warnings(tell: Callable[[str], None] | None) -> None:
    """Give each text that toplabel warns of to `tell`, once, or to nobody, instead of printing it.

    They are logged no longer. Pillow's about odd files are dropped: what matters of them is a
    record's warning or error.
    """
    import logging  # as above

    logging.getLogger(LOGGER).disabled = True
    others, told = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, ToplabelWarning):
            others(message, category, *rest, **more)
        elif tell is not None and (text := str(message)) not in told:
            told.add(text)
            tell(text)

    warnings.showwarning = show
    warnings.filterwarnings("always", category=ToplabelWarning)
    warnings.filterwarnings("ignore", module="PIL")


def collected() -> tuple[Notice, ...]:
    """What the innermost collector has by now."""
    collectors = _collectors.get()
    return tuple(collectors[-1]) if collectors else ()


@contextmanager
def forwarded_to(
    notify: Callable[[str], None] | None, *, deprecated: bool = True
) -> Iterator[None]:
    """Call `notify`, the deprecated argument of public functions, with what the body tells.

    Args:
        notify: Called with each line that this thread logs or warns of; None: nothing is done.
        deprecated: Say that it is.
    """
    if notify is None:
        yield
        return
    import logging  # only for callers of old
    import threading

    if deprecated:
        warnings.warn(
            "notify= is deprecated; use the logger 'toplabel' and Python's warnings instead",
            DeprecationWarning,
            stacklevel=_first_frame_outside(),
        )
    logger, handler = logging.getLogger("toplabel"), logging.Handler(logging.INFO)
    tell, thread = notify, threading.get_ident()

    def emit(record: logging.LogRecord) -> None:
        if record.thread == thread and record.name != LOGGER:  # those are collected
            tell(record.getMessage())

    handler.emit = emit  # type: ignore[method-assign]
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)  # and left: another thread may be forwarding, too
    logger.addHandler(handler)
    try:
        with collect_warnings() as texts:
            try:
                yield
            finally:
                for text in texts:
                    tell(text)
    finally:
        logger.removeHandler(handler)


def _first_frame_outside() -> int:
    """The stack level of the first caller outside this package, as `warnings.warn` counts."""
    frame, level = sys._getframe(1), 1  # the function that calls warnings.warn
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame, level = frame.f_back, level + 1
    return level
