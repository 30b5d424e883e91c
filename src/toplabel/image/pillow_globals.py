"""What Pillow and libtiff keep for a whole process, kept from changing what is read or printed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import ImageFile, _imaging

from toplabel._internal.platform import fork_safe

_STRICT = fork_safe(threading.Lock())
_strict_readers = 0  # how many are at work while that is forced
_tolerant = False  # what another library set


@contextmanager
def nothing_missing() -> Iterator[None]:
    """Pillow raises where data is missing, even if another library told it not to, globally."""
    global _tolerant, _strict_readers
    if not ImageFile.LOAD_TRUNCATED_IMAGES and not _strict_readers:  # as it nearly always is
        yield
        return
    with _STRICT:
        if not _strict_readers:
            _tolerant = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _strict_readers += 1
    try:
        yield
    finally:
        with _STRICT:
            _strict_readers -= 1
            if not _strict_readers:
                ImageFile.LOAD_TRUNCATED_IMAGES = _tolerant


@cache
def silence_log() -> None:
    """Keep Python from printing Pillow's log where the program has not set up logging.

    What goes wrong arrives as an exception; programs that do set up logging still get the log.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@cache
def silence_libtiff() -> None:
    """Keep libtiff from writing its complaints straight to file descriptor 2.

    Its errors arrive as exceptions all the same. Where its functions cannot be found (a Pillow
    that was linked in another way) it goes on writing.
    """
    import ctypes  # 5 ms, needed only for TIFF

    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
    except (AttributeError, OSError):
        return
