"""Inputs: what people name on a command line in, one source after another out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from toplabel.errors import UsageError

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Suffixes, in lower case, that a file in a folder must have to count as a picture."""


def expand(inputs: Iterable[str]) -> Iterator[str]:
    """Sources, one by one, without holding more than one folder's names.

    Args:
        inputs: Folders give their pictures, those of their subfolders too, sorted, hidden ones
            left out. A pattern (`*`, `?`, `[...]`, `**`) that names no file gives what it
            matches, as a shell would. "-", URLs and all other names come back as they are, even
            where no such file exists.

    Raises:
        UsageError: A folder holds no picture, or a pattern matches nothing. The sources before
            it have been given by then.
    """
    for name in inputs:
        if name == "-" or is_url(name):
            yield name
        elif os.path.isdir(name):
            yield from _some(_folder(name), f"the folder {name!r} holds no picture")
        elif _is_pattern(name):
            yield from _some(_matches(name), f"nothing matches the pattern {name!r}")
        else:
            yield name


def _some(sources: Iterator[str], complaint: str) -> Iterator[str]:
    """The sources; an error where there are none."""
    empty = True
    for source in sources:
        empty = False
        yield source
    if empty:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise UsageError(f"{complaint}; pictures in folders have one of the suffixes {suffixes}")


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[") and not os.path.lexists(name)


def _matches(pattern: str) -> Iterator[str]:
    for name in sorted(_glob(pattern)):
        if not os.path.isdir(name):
            yield name
        elif "**" not in pattern:  # which lists what is in folders itself
            yield from _folder(name)


def _glob(pattern: str) -> set[str]:
    """What a pattern matches; `**` stands for each real folder once, so that circles end."""
    from glob import escape, glob  # needed only where the shell left a pattern alone

    parts = pattern.split("/")
    if "**" not in parts:
        return set(glob(pattern))
    at = parts.index("**")
    head, tail = "/".join([*parts[:at], ""]), "/".join(parts[at + 1 :]) or "*"
    found: set[str] = set()
    seen: set[tuple[int, int]] = set()
    pending = glob(head) if head else [""]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder or ".")
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            pending += [folder + name for name in _names(folder or ".") if name.endswith("/")]
        except OSError:  # as a shell does, leave out what cannot be listed
            continue
        found |= _glob(escape(folder) + tail)
    return found


def _folder(folder: str) -> Iterator[str]:
    """The pictures below a folder; each real folder once, so that links in a circle end.

    A folder that cannot be listed is given itself, so that its error becomes a record.
    """
    seen: set[tuple[int, int]] = set()
    pending = [os.path.join(folder, "")]  # last first; folders end in a slash
    while pending:
        path = pending.pop()
        if not path.endswith("/"):
            yield path
            continue
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            pending.extend(path + name for name in reversed(_names(path)))
        except OSError:
            yield path.rstrip("/")


def _names(folder: str) -> list[str]:
    """Sorted names of the pictures and subfolders in a folder; subfolders end in a slash."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                names.append(entry.name + "/")
            elif is_picture(entry.name):
                names.append(entry.name)
    names.sort()
    return names


def is_picture(name: str) -> bool:
    """Whether a name has the ending of a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: a picture that cannot be found
        return False


def is_url(text: str) -> bool:
    """Whether this names something to fetch: http or https."""
    return text[:8].lower().startswith(("http://", "https://"))
