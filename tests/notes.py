"""What toplabel warns of and logs, as a list of texts."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from toplabel._internal.notices import LOGGER


@contextmanager
def told() -> Iterator[list[str]]:
    """The texts of all warnings and log records of the body."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(lambda record: record.name != LOGGER)  # they are warned of as well
    logger = logging.getLogger("toplabel")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *rest: lines.append(str(message))
            yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
