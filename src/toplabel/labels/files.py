"""Label files: the path of a list of class names, or of a class folder, in; `Labels` out."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toplabel._internal.columns import find_columns
from toplabel._internal.mistaken import mistaken_for
from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels

MAX_BYTES = 16_000_000
"""A larger file is not a list of class names; ImageNet's has 30 kB."""

_ACCEPTED = (
    "a text file with one name per line (.txt), .json, .csv, .tsv, or a folder with one sub-folder"
    " per class"
)
_INDEX_FIRST = re.compile(r"(?P<index>\d{1,9})(?:\s*[:,]\s*|\s+)(?P<name>\S.*)")
_INDEX_LAST = re.compile(r"(?P<name>.*\S)\s+(?P<index>\d{1,9})")
_SURELY_INDEX = re.compile(r"\d+(:\s|\t)")
_SYNSET = re.compile(r"(n\d{8})(?:[\s,:]+(\S.*))?")
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
_LINE_END = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_KEYS = (
    *("id2label", "idx_to_class", "class_to_idx", "label2id"),
    *("names", "classes", "labels", "label_names", "class_names"),
)
"""Where people keep the names in a larger JSON object; the first that is there is taken."""
_INDEX_COLUMNS = ("index", "idx", "id", "classid", "classindex", "classidx", "labelid", "labelidx")
_NAME_COLUMNS = ("name", "names", "classname", "labelname", "label", "labels", "class", "classes")
_PYTHON_PAIR = re.compile(
    r"""[{\s]*(?P<index>\d{1,9})\s*:\s*(?P<quote>['"])(.*)(?P=quote)[\s,}]*"""
)


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
        LabelsError: It cannot be read, or has no class names; the message has the file and line.
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


def _labels_of_folder(folder: Path) -> Labels:
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
    return Labels(tuple(names))


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
    if content.strip() and (other := mistaken_for(content[:4096])) is not None:
        raise LabelsError(f"it is {other}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LabelsError(
            f"line {line} is not UTF-8; save the file again in that encoding"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise LabelsError(f"line {line} contains a null byte; expected UTF-8 text")
    if not text.strip():
        raise LabelsError("the file is empty; expected one name per class")
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
                f"line {number} is blank; expected a name, as a missing one would shift all that"
                " follow"
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
        _check_indices(
            enumerate((int(match["index"]) for match in matches), 1),
            "; number them from 0, or leave the indices out if the names are in order",
        )
    return None


def _check_indices(numbered: Iterable[tuple[int, int]], advice: str = "") -> None:
    """Refuse the first line whose index is beyond K-1 or repeated.

    Args:
        numbered: (line, index) of each of K classes.
        advice: The end of the message.
    """
    rows = list(numbered)
    seen: set[int] = set()
    for line, index in rows:
        if index >= len(rows) or index in seen:
            raise LabelsError(
                f"line {line} has index {index}{' again' if index in seen else ''}; expected 0 to"
                f" {len(rows) - 1} in {len(rows)} lines, each once{advice}"
            )
        seen.add(index)


def labels_of_json(text: str) -> Labels:
    """The names in JSON: a list, or a mapping between indices and names, or an object with one.

    A Python dict of one `index: 'name'` a line, as lists of ImageNet are passed around, is read
    too.

    Raises:
        LabelsError: It is not JSON, or has no names; the message has the line, item or key.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        pairs = [_PYTHON_PAIR.fullmatch(line) for line in text.strip().splitlines()]
        if not all(pairs):
            raise LabelsError(
                f"line {error.lineno} is not valid JSON: {error.msg}; expected a list of names,"
                " index -> name, or name -> index"
            ) from error
        found = _without_doubles([(pair["index"], pair[3]) for pair in pairs if pair])
    except LabelsError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep; a number too long
        raise LabelsError("got JSON that cannot be read; expected a list of names") from error
    return _labels_of_value(found)


def labels_of_table(text: str, *, delimiters: str) -> Labels:
    """The names in a table, with or without headers and a column of indices.

    Args:
        text: The file's.
        delimiters: Of these characters, the most frequent one in the first line.

    Raises:
        LabelsError: The table is damaged, or has no names; the message has the line.
    """
    first = text.lstrip().split("\n", 1)[0]
    rows = _read_rows(text, max(delimiters, key=first.count))
    if not rows:
        raise LabelsError("the table is empty; expected one row per class")
    columns = _columns(rows)
    body = rows[1:] if columns else rows
    if not body:
        raise LabelsError("the table has only headers; expected one row per class")
    name_column, index_column = columns or _columns_without_headers(body)
    for number, row in body:
        if not row[name_column]:
            raise LabelsError(f"line {number} has no name; expected one per class")
    if index_column is None:
        return Labels(tuple(row[name_column] for _, row in body))
    return Labels(_in_order(body, name_column, index_column))


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which must not have a key twice: the first would be lost."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise LabelsError(f"the key {key!r} appears twice; expected each once")
        found[key] = value
    return found


def _labels_of_value(value: Any) -> Labels:
    if isinstance(value, list):
        return Labels(tuple(_name(name, f"item {place}") for place, name in enumerate(value)))
    if not isinstance(value, dict):
        raise LabelsError(f"got the JSON {value!r:.40}; expected a list of names or an object")
    for key in _KEYS:
        if isinstance(value.get(key), list | dict):
            return _labels_of_value(value[key])
    if value and all(map(_is_synset_pair, value.values())):
        ids = Labels.of({index: pair[0] for index, pair in value.items()})
        names = Labels.of({index: pair[1] for index, pair in value.items()})
        return Labels(names.names, ids.names)
    return Labels.of(_checked(value))


def _is_synset_pair(value: Any) -> bool:
    """Keras' imagenet_class_index.json: {"0": ["n01440764", "tench"]}."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(text, str) and text.strip() for text in value)
    )


def _checked(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping, if its values are either all indices or all names."""
    by_name = all(type(value) is int for value in mapping.values())
    for key, value in mapping.items():
        if by_name:
            _name(key, f"the key {key!r}")
        elif not re.fullmatch(r"\d{1,9}", key, re.ASCII):
            raise LabelsError(
                f"got the pair {key!r}: {value!r:.40}; expected index -> name, name -> index, or"
                f" one of these under {', '.join(map(repr, _KEYS))}"
            )
        else:
            _name(value, f"index {key}")
    return mapping


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise LabelsError(f"got {value!r:.40} at {where}; expected a name")
    return value


def _read_rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows with the numbers of their lines; all of as many cells, and none blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    blank = 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                blank = blank or reader.line_num
                continue
            if blank:  # those at the end are nothing
                raise LabelsError(f"line {blank} is blank; expected a class")
            if rows and len(cells) != len(rows[0][1]):
                raise LabelsError(
                    f"line {reader.line_num} has {len(cells)} cells, but the first line has"
                    f" {len(rows[0][1])}; quote names that contain {delimiter!r}"
                )
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise LabelsError(f"line {reader.line_num} is not valid CSV: {error}") from error
    return rows


def _columns(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int | None] | None:
    """The columns of names and of indices by their headers; None where there are none."""
    headers = rows[0][1]
    indices, names = (find_columns(headers, words) for words in (_INDEX_COLUMNS, _NAME_COLUMNS))
    if len(headers) == 2 and indices and not names:
        names = [1 - indices[0]]  # whatever it is called
    if not names:
        return None
    numbers = [n for n in names if all(row[n].isdecimal() for _, row in rows[1:])]
    texts = [column for column in names if column not in numbers]
    if texts and numbers and not indices:  # "class,name": the class is a number
        indices = numbers
    return (texts or names)[0], indices[0] if indices else None


def _columns_without_headers(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int | None]:
    width = len(rows[0][1])
    if width == 1:
        return 0, None
    numbers = [column for column in range(width) if rows[0][1][column].isdecimal()]
    if width == 2 and numbers:
        return 1 - numbers[0], numbers[0]
    raise LabelsError(
        f"line 1 has {width} cells, none of them a known header; expected a column 'name', and"
        " 'index' if the rows are not in the order of the outputs; quote names that contain a comma"
    )


def _in_order(
    rows: Sequence[tuple[int, list[str]]], name_column: int, index_column: int
) -> tuple[str, ...]:
    """The names by their indices."""
    for number, row in rows:
        if not re.fullmatch(r"\d{1,9}", row[index_column], re.ASCII):
            raise LabelsError(
                f"line {number} has the index {row[index_column]!r}; expected an integer"
            )
    _check_indices((number, int(row[index_column])) for number, row in rows)
    return tuple(row[name_column] for _, row in sorted(rows, key=lambda r: int(r[1][index_column])))


_READERS: dict[str, Callable[[str], Labels]] = {
    ".txt": _labels_of_lines,
    ".names": _labels_of_lines,
    ".lst": _labels_of_lines,
    "": _labels_of_lines,
    ".json": labels_of_json,
    ".csv": lambda text: labels_of_table(text, delimiters=",;\t"),
    ".tsv": lambda text: labels_of_table(text, delimiters="\t"),
}
