"""Label files: the path of a list of class names, or of a class folder, in; `Labels` out."""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from toplabel._internal.mistaken import mistaken_for
from toplabel._internal.notices import warn
from toplabel._internal.options import suggests_names
from toplabel.errors import LabelsError
from toplabel.labels.known import KNOWN, find_known, known_labels
from toplabel.labels.labels import Labels
from toplabel.labels.lines import listed_of_lines, with_indices
from toplabel.labels.listed import ListedNames
from toplabel.labels.tables import listed_of_table
from toplabel.labels.values import (
    listed_of_json,
    listed_of_label_map,
    listed_of_python,
    listed_of_yaml,
    reader_of_text,
)

MAX_BYTES = 16_000_000
"""A larger file is not a list of class names; ImageNet's has 30 kB."""

_ACCEPTED = (
    "a text file with one name per line (.txt), .json, .csv, .tsv, .yaml, .py with a list of names,"
    " a label map (.pbtxt), or a folder with one sub-folder per class"
)
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@suggests_names
def read_labels(path: str | os.PathLike[str]) -> Labels:
    """The class names in a file, or those of a class folder, in the order of the model's outputs.

    Args:
        path: `.txt` (or `.names`, `.lst`, no suffix): a name a line, with or without its index
            (`0 tench`, `0: tench`, `[0] tench`, `tench,0`) or its synset (`n01440764 tench`).
            `.json`, `.yaml`, `.py`: a list of names, index -> name, name -> index, index ->
            (synset, name), or objects with both, by itself or under a usual key such as
            "id2label". `.csv`, `.tsv`: names, with or without a column of indices, whatever it is
            called. `.pbtxt`: a label map. A folder: its sub-folders' names as torchvision's
            ImageFolder numbers them, hidden ones left out. Or the name of a known list:
            "imagenet", "cifar10" and so on (`KNOWN`); a file of that name needs `./`.

    Raises:
        LabelsError: It cannot be read, has no class names, or indices that are not 0 to K-1 or,
            with a warning, 1 to K; the message has the file and line.
    """
    return in_order(list_names(path), called=os.fspath(path))


def in_order(
    listed: Labels | ListedNames, *, own: Labels | None = None, called: str | None = None
) -> Labels:
    """As `ListedNames.in_order`; an error names the file `called`, where they stand in one."""
    if isinstance(listed, Labels):
        return listed
    try:
        return listed.in_order(own)
    except LabelsError as error:
        if called is None:
            raise
        raise LabelsError(f"cannot read labels from {called!r}: {error}") from error


def list_names(path: str | os.PathLike[str]) -> Labels | ListedNames:
    """What `read_labels` reads, before the numbers and folders beside the names are interpreted.

    Raises:
        LabelsError: It cannot be read, or has no class names.
    """
    name = os.fspath(path)
    known = find_known(name) if isinstance(path, str) else None
    if known is not None and (name in KNOWN or not os.path.exists(name)):
        if os.path.exists(name):
            warn(
                f"labels={name!r} means the known list of that name; for the file write './{name}'",
                about="labels",
            )
        return known_labels(known)
    file = Path(path)
    try:
        return _list_folder(file) if file.is_dir() else _list_text(_read_text(file), file)
    except LabelsError as error:
        raise LabelsError(f"cannot read labels from {name!r}: {error}") from error
    except OSError as error:
        lists = "" if os.path.dirname(name) else f", or a known list ({', '.join(KNOWN)})"
        raise LabelsError(
            f"cannot read labels from {name!r}: {error.strerror or error}; expected"
            f" {_ACCEPTED}{lists}"
        ) from error


def order_warning(labels: Labels) -> str | None:
    """A warning where names are sorted as text and the numbers in them are not in order.

    None where both orders are the same ("01", "02", "10"), and for a list in neither.
    """
    names = list(labels.names)
    if names != sorted(names) or not labels.named:
        return None
    natural = [natural_key(name) for name in names]
    for place in range(1, len(names)):
        if natural[place] < natural[place - 1]:
            return (
                f"the class names are sorted as text: {names[place - 1]!r} comes before"
                f" {names[place]!r}. torchvision's ImageFolder numbers class folders like this: if"
                " the model was trained with it, this is right; if its classes were numbered in"
                " numeric order, labels are swapped: check one image whose class you know"
            )
    return None


def natural_key(name: str) -> list[str | float]:
    """Text and numbers in turn, so that 2 sorts before 10, and 0.25 before 0.5."""
    parts = _NUMBER.split(name)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def _list_folder(folder: Path) -> ListedNames:
    """As torchvision's `find_classes`: sorted by code point, links followed."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise LabelsError("the folder has no sub-folders; expected one per class")
    if _PARTS.issuperset(name.lower() for name in names):
        raise LabelsError(
            f"its sub-folders {', '.join(names)} are splits of a dataset, not classes; pass the one"
            f" used for training, {os.path.join(folder, names[0])!r}"
        )
    return ListedNames(names=tuple(names))


def _read_text(file: Path) -> str:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):  # reading a pipe could wait for ever
        raise LabelsError(f"it is neither a file nor a folder; expected {_ACCEPTED}")
    if found.st_size > MAX_BYTES:
        raise LabelsError(
            f"it has {found.st_size / 1e6:.0f} MB; expected at most"
            f" {MAX_BYTES / 1e6:.0f} MB of class names"
        )
    content = file.read_bytes()
    if content.startswith(_UTF_16):  # as spreadsheets save "Unicode text"
        return _without_nulls(content.decode("utf-16", "replace"))
    if content.strip() and (other := mistaken_for(content[:4096])) is not None:
        raise LabelsError(f"it is {other}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LabelsError(
            f"line {line} is not UTF-8; save the file again in that encoding"
        ) from error
    return _without_nulls(text)


def _without_nulls(text: str) -> str:
    """The text, if it is text.

    Raises:
        LabelsError: It holds null bytes, or nothing.
    """
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise LabelsError(f"line {line} contains a null byte; expected UTF-8 text")
    if not text.strip():
        raise LabelsError("the file is empty; expected one name per class")
    return text


def _list_text(text: str, file: Path) -> ListedNames:
    """The names in a file's text, which is read as what it looks like where it is no table."""
    suffix = file.suffix.lower()
    if suffix not in _READERS:
        raise LabelsError(f"got a {suffix} file; expected {_ACCEPTED}")
    read = _READERS[suffix] or reader_of_text(text)
    if read is None:
        return listed_of_lines(text)
    listed = read(text, file.stem.lower())
    return with_indices(listed) if suffix in _TABLES else listed


_TABLES = (".csv", ".tsv")
_READERS: dict[str, Callable[[str, str], ListedNames] | None] = {
    **dict.fromkeys((".txt", ".names", ".lst", ".labels", ""), None),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), listed_of_json),
    **dict.fromkeys((".yaml", ".yml"), listed_of_yaml),
    **dict.fromkeys((".pbtxt", ".prototxt"), listed_of_label_map),
    ".py": listed_of_python,
    ".csv": lambda text, _: listed_of_table(text, delimiters=",;\t|"),
    ".tsv": lambda text, _: listed_of_table(text, delimiters="\t"),
}
"""What reads a file by its suffix; None: what its text looks like."""
