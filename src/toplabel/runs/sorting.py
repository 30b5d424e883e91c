"""Sorting: the images of a run copied, or linked, into a folder for each label."""

from __future__ import annotations

import filecmp
import hashlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Self, cast

from toplabel._internal.text import name_bytes
from toplabel.errors import ImageError, UsageError
from toplabel.image.files import fetch, is_url, open_file
from toplabel.labels.labels import Labels
from toplabel.runs.entry import Entry
from toplabel.runs.readers.inputs import open_source

UNKNOWN_FOLDER = "unknown"
_MOST_BYTES = 512 << 20
_UNSAFE = frozenset('/\\:*?"<>|')
_LONGEST_FOLDER, _LONGEST_FILE = 100, 200
_RESERVED = frozenset({"con", "prn", "aux", "nul"}) | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)
}


def folder_names(labels: Labels) -> tuple[str, ...]:
    """A folder's name for each class, all of them different, also where case does not count.

    What file systems do not allow becomes "_". Classes whose names would be one folder, and
    those without a usable name, get their index at the end: "crane-134" and "crane-517".
    """
    names = [_safe(label) for label in labels]
    counts = Counter(name.casefold() for name in names)
    taken = {name for name, count in counts.items() if count == 1}
    found = []
    for index, name in enumerate(names):
        if counts[name.casefold()] > 1 or not name:
            name = _unused(name or "class", index, taken)
        found.append(name)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorting:
    """Where images go by their label.

    Args:
        folder: The one that holds a folder for each label.
        how: Whether they are copied there, or linked to.
        names: The folder's name for each class, and last that of unknown images.
    """

    folder: Path
    how: Literal["copy", "link"]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        labels: Labels,
        *,
        copy_to: str | os.PathLike[str] | None,
        link_to: str | os.PathLike[str] | None,
    ) -> Self | None:
        """The sorting that was asked for; None where none was."""
        if copy_to is not None:
            return cls(folder=Path(copy_to), how="copy", names=_names(labels))
        if link_to is not None:
            return cls(folder=Path(link_to), how="link", names=_names(labels))
        return None

    @property
    def target(self) -> str:
        """Where and how, for the run's state."""
        return f"{self.how} {os.path.abspath(self.folder)}"

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse to link to what is not a local file.

        Raises:
            UsageError: An input is not a local file.
        """
        if self.how == "copy":
            return
        for entry in entries:
            if entry.problem is None and (entry.kind != "path" or is_url(entry.name)):
                raise UsageError(
                    f"cannot link to {entry.name!r}, which is not a local file; use copy_to=..."
                    " instead of link_to=..."
                )

    def sort(
        self,
        entries: Sequence[Entry],
        classes: Sequence[Sequence[int]],
        unknown: Collection[int] = (),
    ) -> None:
        """Copy or link the images of a shard; what is there already stays as it is.

        Args:
            entries: n of them.
            classes: For each, the classes that it is of; an image goes into each one's folder.
            unknown: Those of the entries that go into the folder of unknown images instead.

        Raises:
            UsageError: An input cannot be linked to.
            OSError: The folder cannot be written to.
        """
        self.check(entries)
        for row, (entry, indices) in enumerate(zip(entries, classes, strict=True)):
            for index in (-1,) if row in unknown else indices:
                folder = self.folder / self.names[index]
                folder.mkdir(parents=True, exist_ok=True)
                if self.how == "link":
                    _link(os.path.abspath(entry.name), folder)
                else:
                    _copy(entry, folder)


def _names(labels: Labels) -> tuple[str, ...]:
    names = folder_names(labels)
    taken = {name.casefold() for name in names}
    unknown = UNKNOWN_FOLDER
    if unknown in taken:
        unknown = _unused(unknown, len(names), taken)
    return (*names, unknown)


def _safe(name: str) -> str:
    text = "".join("_" if c in _UNSAFE or not c.isprintable() else c for c in name)
    text = text.strip(" .")
    while len(text.encode("utf-8", "replace")) > _LONGEST_FOLDER:
        text = text[:-1]
    text = text.strip(" .").lstrip("-")
    return f"{text}_" if text.partition(".")[0].casefold() in _RESERVED else text


def _unused(name: str, index: int, taken: set[str]) -> str:
    """`name-index`, or with more dashes where another class has that name."""
    found = f"{name}-{index}"
    while found.casefold() in taken:
        found = found.replace(f"-{index}", f"--{index}")
    taken.add(found.casefold())
    return found


def _targets(name: str, folder: Path) -> tuple[Path, Path]:
    """Its file name there: its own; where another has that name, with a hash at the end."""
    base = name.rpartition("#")[2].rstrip("/").rpartition("/")[2] or "image"
    stem, suffix = os.path.splitext(base)
    while len(name_bytes(stem)) > _LONGEST_FILE:
        stem = stem[:-1]
    digest = hashlib.blake2b(name_bytes(name), digest_size=6).hexdigest()
    return folder / f"{stem}{suffix}", folder / f"{stem}-{digest}{suffix}"


def _link(path: str, folder: Path) -> None:
    for target in _targets(path, folder):
        with _naming(folder), suppress(FileExistsError):
            os.symlink(path, target)
        if os.path.islink(target) and os.readlink(target) == path:
            return


def _copy(entry: Entry, folder: Path) -> None:
    aside = folder / f".copy-{secrets.token_hex(8)}.tmp"  # another run may sort there, too
    try:
        try:
            _write(entry, aside)
        except ImageError:  # gone since it was labelled
            return
        plain, own = _targets(entry.name, folder)
        with _naming(folder):
            while not _takes_name(aside, plain):
                with suppress(FileNotFoundError):  # it has gone this moment
                    if not (os.path.isfile(plain) and filecmp.cmp(aside, plain, shallow=False)):
                        os.replace(aside, own)
                    break
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def _takes_name(aside: Path, target: Path) -> bool:
    """Put the file at `target` where nothing is there; returns whether it could."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except FileNotFoundError:  # somebody removed it
        raise
    except OSError:  # no hard links here
        if os.path.lexists(target):
            return False
        os.replace(aside, target)
    return True


def _write(entry: Entry, path: Path) -> None:
    """Write an image there.

    Raises:
        ImageError: It cannot be read now.
        OSError: It cannot be written; names the folder, also where the disk is full.
    """
    source = open_source(entry)
    if isinstance(source, str) and is_url(source):
        content = fetch(source, timeout_seconds=30.0, max_bytes=_MOST_BYTES)
    elif isinstance(source, str):
        with open_file(source, max_bytes=_MOST_BYTES), _naming(path.parent):
            shutil.copyfile(source, path)
        return
    else:
        content = cast(BinaryIO, source).read()
    with _naming(path.parent):
        path.write_bytes(content)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the system name this path: of a full disk it names none, of a copy the source.

    Raises:
        OSError: With its name.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
