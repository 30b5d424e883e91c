"""Tables in, a class each row; the names and the indices in their columns out."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from toplabel._internal.text_table import find_columns
from toplabel.errors import LabelsError
from toplabel.labels.listed import SYNSET, ListedNames, counts_from, is_index

INDEX_COLUMNS = ("index", "idx", "id", "classid", "classindex", "classidx", "labelid", "labelidx")
NAME_COLUMNS = (
    *("name", "names", "classname", "labelname", "categoryname", "displayname"),
    *("label", "labels", "class", "classes", "category", "categories"),
)
HEADINGS = frozenset(INDEX_COLUMNS) | frozenset(NAME_COLUMNS)
"""Words that stand above columns, and are no class."""

Row = tuple[int, Sequence[str]]  # the number of its line, its cells


def listed_of_table(text: str, *, delimiters: str) -> ListedNames:
    """The names in a table, with or without headings and a column of indices.

    Args:
        text: The file's.
        delimiters: Of these characters, the most frequent one in the first line.

    Raises:
        LabelsError: The table is damaged, or has no names; the message has the line.
    """
    text = re.sub(r"\A\s*#\s*(?=\w)", "", text)  # headings as a comment, as NumPy writes them
    first = text.lstrip().split("\n", 1)[0]
    rows = _read_rows(text, max(delimiters, key=first.count))
    if not rows:
        raise LabelsError("the table is empty; expected one row per class")
    rows = _without_blank_columns(rows)
    if len(rows) == 1 and len(rows[0][1]) > 2 and not any(map(is_index, rows[0][1])):
        return ListedNames(names=tuple(rows[0][1]))  # all in a line
    return listed_of_cells(rows)


def _without_blank_columns(rows: Sequence[Row]) -> list[Row]:
    """The rows without columns in which nothing stands, as commas at the ends of lines make one."""
    kept = [at for at in range(len(rows[0][1])) if any(row[at] for _, row in rows)]
    return [(number, [row[at] for at in kept]) for number, row in rows]


def listed_of_records(records: Sequence[Mapping[str, Any]]) -> ListedNames:
    """The names in objects with the same keys, one per class.

    Raises:
        LabelsError: They have no names, or not the same keys.
    """
    headings = [key for key, value in records[0].items() if isinstance(value, str | int | float)]
    rows: list[Row] = [(0, headings)]
    for place, record in enumerate(records):
        lacking = next((key for key in headings if not _is_cell(record.get(key))), None)
        if lacking is not None:
            raise LabelsError(
                f"got {record!r:.60} at item {place}, without {lacking!r}; expected the same in"
                " each of them"
            )
        rows.append((place, [str(record[key]).strip() for key in headings]))
    return listed_of_cells(rows, headed=True, what="item")


def _is_cell(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def listed_of_cells(
    rows: Sequence[Row], *, headed: bool | None = None, what: str = "line"
) -> ListedNames:
    """As `find_names`, where there has to be a column of names.

    Raises:
        LabelsError: There is none, or it is unclear which; and as `find_names` raises it.
    """
    found = find_names(rows, headed=headed, what=what)
    if found is None:
        raise LabelsError(
            f"line 1 has {len(rows[0][1])} cells, none of them a known header; expected a column"
            " 'name', and 'index' if the rows are not in the order of the outputs; quote names that"
            " contain a comma"
        )
    return found


def find_names(
    rows: Sequence[Row], *, headed: bool | None = None, what: str = "line"
) -> ListedNames | None:
    """The names in the rows of a table, with what stands in its column of indices.

    None where it is unclear which column has the names.

    A column is one of indices by its heading, or because its numbers count the rows.

    Args:
        rows: All of as many cells.
        headed: Whether the first row is headings; None: where it looks so.
        what: What a row is called in messages.

    Raises:
        LabelsError: Two columns count the rows, and differently; or a cell is empty, or no index.
    """
    headings = rows[0][1] if headed or (headed is None and _has_headings(rows)) else None
    body = rows[1:] if headings is not None else rows
    if not body:
        raise LabelsError("the table has only headers; expected one row per class")
    columns = [[row[at] for _, row in body] for at in range(len(rows[0][1]))]
    index = _index_column(columns, headings)
    ids = next((c for c in columns if all(map(SYNSET.fullmatch, c))), None)
    at = _name_column(columns, headings, index, ids)
    if at is None:
        return None
    names = columns[at]
    for (number, _), name in zip(body, names, strict=True):
        if not name:
            raise LabelsError(f"{what} {number} has no name; expected one per class")
    if index is not None:
        for (number, _), cell in zip(body, columns[index], strict=True):
            if not is_index(cell):
                raise LabelsError(f"{what} {number} has the index {cell!r}; expected an integer")
    return ListedNames(
        names=tuple(names),
        keys=None if index is None else tuple(columns[index]),
        ids=None if ids is None else tuple(ids),
        where=lambda place: f"{what} {body[place][0]}",
    )


def _has_headings(rows: Sequence[Row]) -> bool:
    """Whether the first row says what stands below: by its words, or as text above numbers."""
    first, rest = rows[0][1], rows[1:]
    if find_columns(first, HEADINGS) and not any(map(is_index, first)):
        return True
    return bool(rest) and any(
        not is_index(cell) and all(is_index(row[at]) for _, row in rest)
        for at, cell in enumerate(first)
    )


def _index_column(columns: list[list[str]], headings: Sequence[str] | None) -> int | None:
    """The column that says which output a row is; None where there is none.

    Raises:
        LabelsError: Two of them count the rows, differently; or one nearly does.
    """
    numeric = [at for at, cells in enumerate(columns) if all(map(is_index, cells))]
    if headings is None and len(columns) == 1:
        return None
    numbers = {at: [int(float(cell)) for cell in columns[at]] for at in numeric}
    counting = [at for at in numeric if counts_from(numbers[at]) is not None]
    if headings is not None and len(counting) > 1:  # pandas' own, which counts the rows
        own = [at for at in counting if headings[at].lower() in ("", "unnamed: 0")]
        counting = [at for at in counting if at not in own] or counting
    counting.sort(key=lambda at: counts_from(numbers[at]) or 0)
    stated = find_columns(headings, INDEX_COLUMNS) if headings is not None else []
    named = find_columns(headings, NAME_COLUMNS) if headings is not None else []
    if len(counting) == 2 == len(columns) and counting[0] in stated and counting[1] in named:
        return counting[0]  # names that are numbers
    if len({tuple(_from_zero(numbers[at])) for at in counting}) > 1:
        titles = " and ".join(
            repr(headings[at]) if headings is not None else str(at + 1) for at in counting[:2]
        )
        raise LabelsError(
            f"the columns {titles} both number the classes, and differently; remove the one that"
            " is not the order of the outputs"
        )
    if counting:
        return counting[0]
    if stated and not all(SYNSET.fullmatch(cell) for cell in columns[stated[0]]):
        return stated[0]
    texts = [at for at in range(len(columns)) if at not in numeric]
    vague = [at for at in numeric if at in named] if texts else []
    if headings is None and len(columns) == 2 and numeric and texts:
        vague = numeric
    return next((at for at in vague + numeric if at in vague or _almost(numbers[at])), None)


def _from_zero(numbers: list[int]) -> list[int]:
    return [number - min(numbers) for number in numbers]


def _almost(numbers: list[int]) -> bool:
    """Whether they look like indices of which some are missing."""
    distinct = len(set(numbers)) == len(numbers) > 2
    return distinct and min(numbers) <= 1 and max(numbers) < 2 * len(numbers)


def _name_column(
    columns: list[list[str]],
    headings: Sequence[str] | None,
    index: int | None,
    ids: list[str] | None,
) -> int | None:
    """The column of names; None where there is none, or it is unclear which."""
    texts = [
        at
        for at, cells in enumerate(columns)
        if at != index and cells is not ids and not all(map(is_index, cells))
    ]
    named = find_columns(headings, NAME_COLUMNS) if headings is not None else []
    for known in ([at for at in named if at in texts], [at for at in named if at != index]):
        if known:
            return known[0]
    if len(texts) == 1 and (index is not None or ids is not None or len(columns) == 1):
        return texts[0]
    if ids is not None and not texts:
        return columns.index(ids)
    others = [at for at in range(len(columns)) if at != index]
    return others[0] if len(others) == 1 and not texts else None  # numbers, or nothing


def _read_rows(text: str, delimiter: str) -> list[Row]:
    """The rows with the numbers of their lines; all of as many cells, and none blank."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    rows: list[Row] = []
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
