"""Label tables: the text of a JSON or CSV file in, `Labels` out; its columns or keys recognised."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from toplabel._internal.columns import find_columns
from toplabel.errors import LabelsError
from toplabel.labels.labels import Labels

_KEYS = (
    "id2label",
    "idx_to_class",
    "class_to_idx",
    "label2id",
    "names",
    "classes",
    "labels",
    "label_names",
    "class_names",
)
"""Where people keep the names in a larger JSON object; the first that is there is taken."""

_INDEX_COLUMNS = ("index", "idx", "id", "classid", "classindex", "classidx", "labelid", "labelidx")
_NAME_COLUMNS = ("name", "names", "classname", "labelname", "label", "labels", "class", "classes")
_PYTHON_PAIR = re.compile(
    r"""[{\s]*(?P<index>\d{1,9})\s*:\s*(?P<quote>['"])(.*)(?P=quote)[\s,}]*"""
)


def labels_of_json(text: str) -> Labels:
    """The names in JSON: a list, or a mapping between indices and names, or an object with one.

    A Python dict of one `index: 'name'` a line, as lists of ImageNet are passed around, is read
    too.

    Raises:
        LabelsError: It is no JSON, or says no names; says the line, the place or the key.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        pairs = [_PYTHON_PAIR.fullmatch(line) for line in text.strip().splitlines()]
        if not all(pairs):
            raise LabelsError(
                f"line {error.lineno} is no JSON: {error.msg}; expected a list of names, index ->"
                " name, or name -> index"
            ) from error
        found = _without_doubles([(pair["index"], pair[3]) for pair in pairs if pair])
    except LabelsError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep; a number too long
        raise LabelsError("got JSON that cannot be read; expected a list of names") from error
    return _labels_of_value(found)


def labels_of_table(text: str, *, delimiters: str) -> Labels:
    """The names in a table, with or without a line of headings and a column of indices.

    Args:
        text: The file's.
        delimiters: Of these characters the one that stands in the first line most often.

    Raises:
        LabelsError: The table is damaged, or says no names; says the line.
    """
    first = text.lstrip().split("\n", 1)[0]
    rows = _read_rows(text, max(delimiters, key=first.count))
    if not rows:
        raise LabelsError("the table is empty; expected a row for each class")
    columns = _columns(rows)
    body = rows[1:] if columns else rows
    if not body:
        raise LabelsError("the table has headings only; expected a row for each class")
    name_column, index_column = columns or _columns_without_headings(body)
    for number, row in body:
        if not row[name_column]:
            raise LabelsError(f"line {number} has no name; expected one for each class")
    if index_column is None:
        return Labels(tuple(row[name_column] for _, row in body))
    return Labels(_in_order(body, name_column, index_column))


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which must not say a key twice: the first would be lost."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise LabelsError(f"the key {key!r} stands twice; expected each once")
        found[key] = value
    return found


def _labels_of_value(value: Any) -> Labels:
    if isinstance(value, list):
        return Labels(tuple(_name(name, f"item {place}") for place, name in enumerate(value)))
    if not isinstance(value, dict):
        raise LabelsError(f"got JSON of {value!r:.40}; expected a list of names or an object")
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
            _check_row(cells, reader.line_num, blank, rows, delimiter)
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise LabelsError(f"line {reader.line_num} is no CSV: {error}") from error
    return rows


def _check_row(
    cells: list[str], line: int, blank: int, rows: Sequence[tuple[int, list[str]]], delimiter: str
) -> None:
    if blank:  # those at the end are nothing
        raise LabelsError(f"line {blank} is blank; expected a class")
    if rows and len(cells) != len(rows[0][1]):
        raise LabelsError(
            f"line {line} has {len(cells)} cells, the first {len(rows[0][1])}; put names that hold"
            f" {delimiter!r} in quotes"
        )


def _columns(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int | None] | None:
    """The columns of names and of indices by their headings; None where there are none."""
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


def _columns_without_headings(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int | None]:
    width = len(rows[0][1])
    if width == 1:
        return 0, None
    numbers = [column for column in range(width) if rows[0][1][column].isdecimal()]
    if width == 2 and numbers:
        return 1 - numbers[0], numbers[0]
    raise LabelsError(
        f"line 1 has {width} cells, none of them a heading that is known; expected a column"
        " 'name', and 'index' where the rows are not in the order of the outputs; put names that"
        " hold a comma in quotes"
    )


def _in_order(
    rows: Sequence[tuple[int, list[str]]], name_column: int, index_column: int
) -> tuple[str, ...]:
    """The names by their indices."""
    names: dict[int, str] = {}
    for number, row in rows:
        text = row[index_column]
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise LabelsError(f"line {number} has the index {text!r}; expected a whole number")
        index = int(text)
        if index >= len(rows) or index in names:
            raise LabelsError(
                f"line {number} has index {index}{' again' if index in names else ''}; expected 0"
                f" to {len(rows) - 1} in {len(rows)} rows, each once"
            )
        names[index] = row[name_column]
    return tuple(names[index] for index in range(len(names)))
