"""Labelled images: a folder of classes, or a table, in; paths and their classes' names out."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from toplabel.errors import UsageError
from toplabel.image.paths import expand

SYNSET = re.compile(r"(n\d{8})(?!\d)")
"""WordNet's numbers, as ImageNet's files and folders begin with them."""

TABLES = {".csv": ",", ".tsv": "\t"}

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "source", "filepath")
_CLASS_COLUMNS = ("label", "class", "target", "category", "label_name", "class_name", "y")
_ACCEPTED = (
    "a folder with a folder for each class, a folder of files whose names begin with a WordNet"
    " synset (n01440764_tench.jpg), or a .csv with the columns path and label"
)


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images whose classes are known.

    Args:
        sources: N paths or URLs.
        names: What each one's class is called by whoever labelled them.
        origin: Where they were found, in words.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...]
    origin: str

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that occur, sorted as text."""
        return tuple(sorted(set(self.names)))

    @property
    def counts(self) -> Counter[str]:
        """How many images each class has."""
        return Counter(self.names)

    @property
    def digest(self) -> str:
        """What knows these images and labels again: sha256 of names, sizes and classes."""
        said = hashlib.sha256()
        for source, name in sorted(zip(self.sources, self.names, strict=True)):
            size = os.path.getsize(source) if os.path.exists(source) else -1
            said.update(f"{os.path.basename(source)}\0{size}\0{name}\0".encode("utf-8", "replace"))
        return said.hexdigest()


def read_labelled(data: str | os.PathLike[str]) -> LabelledImages:
    """The labelled images of a folder or a table, in its order.

    Args:
        data: A folder with a folder for each class (pictures may lie deeper); a folder of files
            that begin with a WordNet synset; or a .csv or .tsv of paths, relative to it, and
            class names, with a heading or as its first two columns.

    Raises:
        UsageError: There is nothing of that kind; it says what is accepted.
    """
    path = os.fspath(data)
    if Path(path).suffix.lower() in TABLES and not os.path.isdir(path):
        return _read_table(Path(path))
    if os.path.isdir(path):
        return _read_folder(path)
    state = "there is no such folder or file" if not os.path.exists(path) else "it is no folder"
    raise UsageError(f"cannot take labelled images from {path!r}: {state}; expected {_ACCEPTED}")


def _read_folder(folder: str) -> LabelledImages:
    sources = list(expand([folder]))  # raises where there is no picture
    below = [os.path.relpath(source, folder) for source in sources]
    in_classes = [len(Path(one).parts) > 1 for one in below]
    if all(in_classes):
        names = [Path(one).parts[0] for one in below]
        return LabelledImages(tuple(sources), tuple(names), f"class folders of {folder}")
    if any(in_classes):
        alone = below[in_classes.index(False)]
        raise UsageError(
            f"{folder!r} has class folders, and beside them pictures without one, such as"
            f" {alone!r}; expected {_ACCEPTED}"
        )
    synsets = [SYNSET.match(os.path.basename(one)) for one in below]
    if not all(synsets):
        wrong = below[synsets.index(None)]
        raise UsageError(
            f"nothing says what class {wrong!r} in {folder!r} has; expected {_ACCEPTED}"
        )
    names = [found[1] for found in synsets if found is not None]
    return LabelledImages(tuple(sources), tuple(names), f"synsets in file names of {folder}")


def _read_table(file: Path) -> LabelledImages:
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
            rows = [row for row in csv.reader(lines, delimiter=TABLES[file.suffix.lower()]) if row]
    except (OSError, csv.Error) as error:
        raise UsageError(f"cannot read {str(file)!r}: {error}") from error
    place, kind, body = _columns(rows, file)
    for number, row in enumerate(body, start=len(rows) - len(body) + 1):
        if len(row) <= max(place, kind) or not row[place] or not row[kind]:
            raise UsageError(f"line {number} of {str(file)!r} has no path or no label: {row!r}")
    sources = tuple(_beside(row[place], file.parent) for row in body)
    return LabelledImages(sources, tuple(row[kind] for row in body), f"the table {file}")


def _columns(rows: list[list[str]], file: Path) -> tuple[int, int, list[list[str]]]:
    """Which columns hold the path and the class, and the rows below the heading.

    Raises:
        UsageError: The table is empty, or has no such columns.
    """
    if not rows:
        raise UsageError(f"{str(file)!r} is empty; expected the columns path and label")
    heading = [cell.strip().lower() for cell in rows[0]]
    paths = [heading.index(name) for name in _PATH_COLUMNS if name in heading]
    kinds = [heading.index(name) for name in _CLASS_COLUMNS if name in heading]
    if paths and kinds and len(rows) > 1:
        return paths[0], kinds[0], rows[1:]
    if len(rows[0]) < 2 or paths or kinds:
        raise UsageError(
            f"{str(file)!r} begins with {rows[0]!r}; expected the columns path and label, with"
            " images below them, or two columns without a heading"
        )
    return 0, 1, rows


def _beside(path: str, folder: Path) -> str:
    return path if "://" in path or os.path.isabs(path) else os.path.join(folder, path)
