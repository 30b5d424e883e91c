"""Paths: what people name on a command line in, one source after another out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from toplabel.errors import UsageError
from toplabel.image.files import is_url

if TYPE_CHECKING:
    from toplabel._internal.external_sort import ExternalSort

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".pam", ".pfm"}
)
"""Suffixes, in lower case, that a file in a folder must have to count as an image."""


_NAMES_HELD = 1_000_000
"""Names of one folder that are sorted in memory; more are sorted in pieces, on the disk."""


_FORK = re.compile(r"(?:^|/)(?:\._[^/]*$|__MACOSX/)")


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image, and is not what macOS keeps beside one.

    These are the files ._NAME, in archives in folders __MACOSX, of a file's attributes.
    """
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES and _FORK.search(name) is None


def expand(inputs: Iterable[str]) -> Iterator[str]:
    """Sources, one by one, without holding more than one folder's names.

    Args:
        inputs: Folders give their images, those of their subfolders too, sorted, without hidden
            ones. A pattern (`*`, `?`, `[...]`, `**`) that names no file gives what it
            matches, as a shell would. "-", URLs and all other names come back as they are, even
            where no such file exists.

    Raises:
        UsageError: A folder has no images, or a pattern matches nothing. The sources before
            it have been given by then.
    """
    for name in inputs:
        if name == "-" or is_url(name):
            yield name
        elif os.path.isdir(name):
            yield from _some(_folder(name), f"there are no images in the folder {name!r}")
        elif is_pattern(name):
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
        raise UsageError(
            f"{complaint}; files in folders count as images by their suffix: {suffixes}"
        )


def is_pattern(name: str) -> bool:
    """Whether a name stands for the files that it matches, as no file is called so."""
    return any(character in name for character in "*?[") and not os.path.lexists(name)


def _matches(pattern: str) -> Iterator[str]:
    head, tail = os.path.split(pattern)
    anywhere = head == "**" or head.endswith("/**")
    folder = head.removesuffix("**") if anywhere else os.path.join(head, "") if head else ""
    if tail and tail[0] != "." and "**" not in tail and not is_pattern(folder):
        return _stream_matches(folder, tail, anywhere=anywhere)
    return _held_matches(pattern)


def _stream_matches(folder: str, tail: str, *, anywhere: bool) -> Iterator[str]:
    """What a pattern in the last part of a path matches, without holding it; as `_held_matches`."""
    import fnmatch

    wanted = re.compile(fnmatch.translate(tail)).match
    if anywhere:
        if os.path.isdir(folder or "."):
            yield from _folder(folder, wanted)
        return
    try:
        names = _names(folder or ".", wanted)
    except OSError:  # as a shell does, leave out what cannot be listed
        return
    for name in names:
        if name[-1] != "/":
            yield folder + name
        elif wanted(name[:-1]):
            yield from _folder(folder + name)


def _held_matches(pattern: str) -> Iterator[str]:
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


def _folder(folder: str, wanted: Callable[[str], object] = is_image) -> Iterator[str]:
    """The images, or other wanted files, below a folder ("" for the current one), in order.

    Each real folder once, so that links in a circle end. One that cannot be listed is given
    itself, so that its error becomes a record.
    """
    seen: set[tuple[int, int]] = set()
    pending = [("", iter([os.path.join(folder, "")]))]  # folders end in a slash
    if not folder:
        here = os.stat(".")
        seen.add((here.st_dev, here.st_ino))
        pending = [("", _names(".", wanted))]
    while pending:
        parent, names = pending[-1]
        for name in names:
            path = parent + name
            if path[-1] != "/":
                yield path
                continue
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                pending.append((path, _names(path, wanted)))
                break
            except OSError:
                yield path.rstrip("/")
        else:
            pending.pop()


def _names(folder: str, wanted: Callable[[str], object] = is_image) -> Iterator[str]:
    """Sorted names of the wanted files and of the subfolders in a folder, these with a slash.

    Raises:
        OSError: It cannot be listed; at once, not when the first name is taken.
    """
    names: list[str] = []
    sorter: ExternalSort | None = None
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if _is_folder(entry):
                names.append(name + "/")
            elif wanted(name):
                names.append(name)
            if len(names) == _NAMES_HELD:
                if sorter is None:
                    from toplabel._internal.external_sort import ExternalSort  # needed only here

                    sorter = ExternalSort()
                sorter.add(names)
                names = []
    names.sort()
    return iter(names) if sorter is None else sorter.merged_with(names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: an image that cannot be found
        return False
