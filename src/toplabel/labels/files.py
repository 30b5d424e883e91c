"""Label files: the path of a list of class names, or of a class folder, in; `Labels` out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels
from toplabel.labels.tables import labels_of_json, labels_of_table

MAX_BYTES = 16_000_000
"""A larger file is no list of class names; ImageNet's has 30 kB."""

_ACCEPTED = (
    "a text file with a name a line (.txt), .json, .csv, .tsv, or a folder with one sub-folder for"
    " each class"
)
_INDEX_FIRST = re.compile(r"(?P<index>\d{1,9})(?:\s*[:,]\s*|\s+)(?P<name>\S.*)")
_INDEX_LAST = re.compile(r"(?P<name>.*\S)\s+(?P<index>\d{1,9})")
_SURELY_INDEX = re.compile(r"\d+(:\s|\t)")
_SYNSET = re.compile(r"(n\d{8})(?:[\s,:]+(\S.*))?")
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
_LINE_END = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """The class names in a file, or those of a class folder, in the order of the model's outputs.

    Args:
        path: `.txt` (or `.names`, `.lst`, no suffix): a name a line, with or without its index
            (`0 tench`, `0: tench`, `tench 0`) or its synset (`n01440764 tench`). `.json`: a list
            of names, index -> name, name -> index, or index -> (synset, name), by itself or under
            a usual key such as "id2label". `.csv`, `.tsv`: names, with or without a column of
            indices. A folder: its sub-folders' names as torchvision's ImageFolder numbers them,
            hidden ones left out.

    Raises:
        LabelsError: It cannot be read, or names no classes; says the file and the line.
    """
    file = Path(path)
    try:
        if file.is_dir():
            return _labels_of_folder(file)
        return _labels_of_text(_read_text(file), file.suffix.lower())
    except LabelsError as error:
        raise LabelsError(f"cannot read labels from {os.fspath(path)!r}: {error}") from error
    except OSError as error:
        raise LabelsError(
            f"cannot read labels from {os.fspath(path)!r}: {error.strerror or error}; expected"
            f" {_ACCEPTED}"
        ) from error


def order_warning(labels: Labels) -> str | None:
    """What to say where names stand in the order of text and numbers in them do not.

    Returns None where both orders are the same ("01", "02", "10"), and for a list in neither.
    """
    names = list(labels.names)
    if names != sorted(names) or not labels.named:
        return None
    natural = [natural_key(name) for name in names]
    for place in range(1, len(names)):
        if natural[place] < natural[place - 1]:
            return (
                f"the label names are sorted as text: {names[place - 1]!r} comes before"
                f" {names[place]!r}. torchvision's ImageFolder numbers class folders so: if the"
                " network was trained with it, this is right; if its classes were counted in the"
                " order of the numbers, labels are swapped: check one image whose class you know"
            )
    return None


def natural_key(name: str) -> list[str | float]:
    """Text and numbers by turns, so that 2 sorts before 10, and 0.25 before 0.5."""
    parts = _NUMBER.split(name)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def _labels_of_folder(folder: Path) -> Labels:
    """As torchvision's `find_classes`: sorted by code point, links followed."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise LabelsError("this folder has no sub-folders; expected one for each class")
    if _PARTS.issuperset(name.lower() for name in names):
        raise LabelsError(
            f"its sub-folders {', '.join(names)} are parts of a data set, not classes; give the"
            f" one that was trained with, {os.path.join(folder, names[0])!r}"
        )
    return Labels(tuple(names))


def _read_text(file: Path) -> str:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):  # reading a pipe could wait for ever
        raise LabelsError(f"this is neither a file nor a folder; expected {_ACCEPTED}")
    if found.st_size > MAX_BYTES:
        raise LabelsError(
            f"got {found.st_size / 1e6:.0f} MB; expected at most {MAX_BYTES / 1e6:.0f} MB, as"
            " class names take"
        )
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LabelsError(
            f"line {line} is not UTF-8; expected text in UTF-8: save it again in that encoding"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise LabelsError(f"line {line} holds a zero byte; expected text in UTF-8")
    if not text.strip():
        raise LabelsError("the file is empty; expected a name for each class")
    return text


def _labels_of_text(text: str, suffix: str) -> Labels:
    if suffix not in _READERS:
        raise LabelsError(f"got a {suffix} file; expected {_ACCEPTED}")
    start, end = text.strip()[0], text.strip()[-1]
    if suffix != ".json" and (start == "{" or (start, end) == ("[", "]")):
        suffix = ".json"  # whatever it is called
    return _READERS[suffix](text)


def _labels_of_lines(text: str) -> Labels:
    """A name a line; with indices or synsets only where every line has one."""
    lines = [line.strip() for line in _LINE_END.split(text.rstrip())]
    for number, line in enumerate(lines, 1):
        if not line:
            raise LabelsError(
                f"line {number} is blank; expected a name: a class without one would shift all"
                " that follow"
            )
    synsets = [_SYNSET.fullmatch(line) for line in lines]
    if all(synsets):
        pairs = [match.groups() for match in synsets if match]
        return Labels(tuple(name or synset for synset, name in pairs), tuple(s for s, _ in pairs))
    return Labels(_by_index(lines, _INDEX_FIRST) or _by_index(lines, _INDEX_LAST) or tuple(lines))


def _by_index(lines: list[str], pattern: re.Pattern[str]) -> tuple[str, ...] | None:
    """The names in the order of the indices beside them; None where these are part of the names.

    That is so where they are not 0 to K-1, or where the names without them are mostly the same,
    as "0 years", "1 years" would be.
    """
    matches = [match for match in map(pattern.fullmatch, lines) if match]
    if len(matches) != len(lines):
        return None
    names = {int(match["index"]): match["name"] for match in matches}
    if sorted(names) == list(range(len(lines))):
        distinct, least = len(set(names.values())), len(lines) / 2
        if pattern is _INDEX_LAST:
            least = len(lines) - 1
        return tuple(names[index] for index in range(len(lines))) if distinct > least else None
    if all(map(_SURELY_INDEX.match, lines)):
        _refuse_indices(matches)
    return None


def _refuse_indices(matches: list[re.Match[str]]) -> None:
    """Say which line's index is wrong: the first that is beyond K-1 or stands twice.

    Raises:
        LabelsError: Always.
    """
    seen: set[int] = set()
    for number, match in enumerate(matches, 1):
        index = int(match["index"])
        if index >= len(matches) or index in seen:
            raise LabelsError(
                f"line {number} has index {index}{' again' if index in seen else ''}; expected 0"
                f" to {len(matches) - 1} on {len(matches)} lines, each once; count from 0, or"
                " leave the indices out where the names stand in order"
            )
        seen.add(index)


_READERS: dict[str, Callable[[str], Labels]] = {
    ".txt": _labels_of_lines,
    ".names": _labels_of_lines,
    ".lst": _labels_of_lines,
    "": _labels_of_lines,
    ".json": labels_of_json,
    ".csv": lambda text: labels_of_table(text, delimiters=",;\t"),
    ".tsv": lambda text: labels_of_table(text, delimiters="\t"),
}
