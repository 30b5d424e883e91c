"""Remote files: whatever fsspec opens. URLs, prefixes and patterns in, entries and bytes out."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.errors import ErrorCode, ImageError, UsageError
from toplabel.image.paths import is_image
from toplabel.runs.entry import Entry
from toplabel.runs.passing import SOON
from toplabel.runs.readers.kinds import kind_of_container

fsspec: Any = require("fsspec", extra="remote", purpose="reading URLs other than http")
fsspec_utils: Any = require("fsspec.utils", extra="remote", purpose="reading URLs")

Answer = TypeVar("Answer")

_BLOCK_BYTES = 1 << 20
_WAITS = (1.0, 4.0, 16.0)
_WAITS_FOR_ONE = (1.0, 4.0)
_SECONDS_AWAY = 15.0
_MAGIC = re.compile(r"[*?\[]")


def expand_remote(url: str, *, literal: bool = False) -> Iterator[Entry]:
    """The images, and whatever else is named, at a URL: an object, a prefix or a pattern.

    One folder's listing is held at a time, sorted. Credentials and end points come from the
    environment, as fsspec takes them.

    Args:
        url: As fsspec takes it.
        literal: It is no pattern, whatever stands in it.

    Raises:
        UsageError: There is nothing at it, or its protocol is unknown.
    """
    empty = True
    try:
        location = _Location(url)
        for path in _find(location, url, literal=literal):
            empty = False
            yield Entry(location.url_of(path), "remote")
    except UsageError:
        raise
    except Exception as error:  # of whichever library fsspec uses
        failure = _as_image_error(error)
        yield Entry.unreadable(url, failure.code, failure.message)
        return
    if empty:
        raise UsageError(f"there is no image at {url!r}")


def read_member(entry: Entry, size: int) -> bytes:
    """The bytes of an object, `size` of them at most; all where that is negative.

    Raises:
        ImageError: It cannot be had.
    """
    location = _Location(entry.name)

    def read() -> bytes:
        with location.fs.open(location.path, "rb", block_size=_BLOCK_BYTES) as file:
            content: bytes = file.read(size)
        return content

    return _unless_away(location, read)


class RemoteFile:
    """A remote file of which any part can be read.

    Args:
        url: As fsspec takes it.
        patient: Ask a store that is away again, and wait; else whoever reads comes back later.
    """

    def __init__(self, url: str, *, patient: bool) -> None:
        self._location = _Location(url)
        self._ask = _ask_again if patient else partial(_unless_away, self._location)
        info = self._ask(lambda: self._location.fs.info(self._location.path))
        if info.get("type") == "directory":
            raise ImageError("not_a_file", "it is a folder; expected a file")
        self.size = int(info.get("size") or 0)
        self.mtime_ns = 0  # stores give it in many ways; the size has to do

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`; from several threads at once."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        content: bytes = self._ask(
            lambda: self._location.fs.cat_file(self._location.path, start=offset, end=end)
        )
        return content


def _ask_again(call: Callable[[], Answer]) -> Answer:
    """What a store answers; asked again, with longer and longer waits, where it is away.

    Raises:
        ImageError: It does not.
    """
    for wait in (*_WAITS, None):
        try:
            return call()
        except Exception as error:
            failure = _as_image_error(error)
            if wait is None or failure.code not in SOON:
                raise failure from error
            time.sleep(wait)
    raise AssertionError("the last wait is none")


class _Outages:
    """Which stores do not answer now: what is read of them fails at once for a while.

    Libraries ask a store dozens of times, over half a minute, before they give up: a hundred
    thousand objects would take weeks. A run tries all of them again at its end.
    """

    def __init__(self) -> None:
        self._failures: Counter[int] = Counter()  # in a row, by the store's file system
        self._until: dict[int, float] = {}

    def check(self, store: int) -> None:
        """Raises ImageError where it was away just now."""
        if time.monotonic() < self._until.get(store, 0):
            raise ImageError("fetch_failed", "the store is away")

    def answered(self, store: int) -> None:
        """It is there."""
        self._failures.pop(store, None)

    def failed(self, store: int) -> float | None:
        """Seconds to wait before it is asked again; None where it is away."""
        self._failures[store] += 1
        if self._failures[store] <= len(_WAITS_FOR_ONE):
            return _WAITS_FOR_ONE[self._failures[store] - 1]
        self._until[store] = time.monotonic() + _SECONDS_AWAY
        return None


_outages = _Outages()


def _unless_away(location: _Location, call: Callable[[], Answer]) -> Answer:
    """What a store answers, perhaps not at once; an error where it has not answered lately.

    Raises:
        ImageError: It does not.
    """
    store = id(location.fs)  # which fsspec keeps
    while True:
        _outages.check(store)
        try:
            answer = call()
        except Exception as error:
            failure = _as_image_error(error)
            wait = _outages.failed(store) if failure.code in SOON else None
            if wait is None:
                raise failure from error
            time.sleep(wait)
        else:
            _outages.answered(store)
            return answer


class _Location:
    """A path in a file system of fsspec, and how its paths are written as URLs again."""

    def __init__(self, url: str) -> None:
        try:
            self.fs, self.path = fsspec.core.url_to_fs(url)  # file systems are kept by fsspec
        except OSError as error:  # of a file, or of a store that is asked at once
            raise _as_image_error(error) from error
        except Exception as error:  # an unknown protocol, no library for it, too little said
            raise UsageError(f"cannot open {url!r}: {first_line(error)}") from error
        self._chain = "".join(url.partition("::")[1:])

    def url_of(self, path: str) -> str:
        """The full URL of a path of this file system."""
        return f"{self.fs.unstrip_protocol(path)}{self._chain}"


def _find(location: _Location, url: str, *, literal: bool) -> Iterator[str]:
    """The paths that a URL names."""
    path = location.path
    if not literal and _MAGIC.search(path):
        return _matches(location, path)
    if kind_of_container(url) is None and _ask_again(lambda: location.fs.isdir(path)):
        return (one for one in _walk(location, path) if is_image(one))
    return iter([path])


def _matches(location: _Location, pattern: str) -> Iterator[str]:
    """Files that a pattern matches; only folders that can hold such are listed."""
    expression = re.compile(fsspec_utils.glob_translate(pattern))
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    depth = None if "**" in pattern else len(parts) - first
    anything = parts[-1].endswith("*")  # then only images and containers are meant
    for path in _walk(location, "/".join(parts[:first]), depth=depth):
        wanted = not anything or is_image(path) or kind_of_container(path) is not None
        if wanted and expression.match(path):
            yield path


def _walk(location: _Location, folder: str, *, depth: int | None = None) -> Iterator[str]:
    """Files below a folder, each folder's names sorted, as local folders are listed."""
    pending = [(f"{folder.rstrip('/')}/", depth)]  # last first; folders end in a slash
    while pending:
        path, left = pending.pop()
        if not path.endswith("/"):
            yield path
        elif left != 0:
            below = None if left is None else left - 1
            names = _list(location, path)
            if names is None:
                found = location.fs.find(path.rstrip("/"), maxdepth=left, withdirs=False)
                location.fs.invalidate_cache()  # of which `ls` would take what `find` put there
                yield from sorted(found)
            else:
                pending.extend((name, below) for name in reversed(names))


def _list(location: _Location, folder: str) -> list[str] | None:
    """What a folder holds, sorted, folders with a slash; None where it cannot be listed by steps.

    Stores of objects know no folders: of the key "photos//2.jpg" the part between the slashes is
    one without a name, which is listed under its parent's own.
    """
    ours, names = folder.rstrip("/"), []
    for info in _ask_again(lambda: location.fs.ls(ours or "/", detail=True)):
        name = str(info["name"]).rstrip("/")
        if info["type"] == "directory":
            if name == ours:
                return None
            names.append(f"{name}/")
        elif name != ours:  # a marker for the folder itself
            names.append(name)
    location.fs.invalidate_cache()  # which would grow with every folder
    return sorted(dict.fromkeys(names))


def _as_image_error(error: Exception) -> ImageError:
    """What went wrong, without the text of the library, which may hold keys."""
    if isinstance(error, ImageError):
        return error
    kinds: tuple[tuple[type[Exception], ErrorCode, str], ...] = (
        (FileNotFoundError, "not_found", "there is no such object"),
        (PermissionError, "permission_denied", "it may not be read with these credentials"),
        (IsADirectoryError, "not_a_file", "it is a folder; expected a file"),
        (TimeoutError, "timeout", "the store did not respond in time"),
    )
    for kind, code, text in kinds:
        if isinstance(error, kind):
            return ImageError(code, text)
    return ImageError("fetch_failed", f"the store failed with {type(error).__name__}")
