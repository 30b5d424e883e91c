"""Columns of tables, found by their headers."""

import csv
import re
from collections.abc import Iterable, Sequence

SOURCE_COLUMNS = ("path", "file", "filename", "filepath", "image", "source", "url")
"""Headers of a column of paths or URLs of images, as `find_columns` takes them."""

DELIMITERS = (",", ";", "\t", "|")
"""Of tables called .csv; a spreadsheet writes the second where numbers have the comma."""

_NO_LETTER = re.compile(r"[^a-z]")


def find_columns(headers: Iterable[str], wanted: Iterable[str]) -> list[int]:
    """The indices of the columns with one of the `wanted` headers, in the order of `wanted`.

    Only letters count, in any case: "File_Name" is "filename".
    """
    letters = [_NO_LETTER.sub("", header.lower()) for header in headers]
    return [letters.index(word) for word in wanted if word in letters]


def choose_delimiter(line: str, wanted: Sequence[str], delimiters: Sequence[str]) -> str:
    """The one by which a table's first line has one of the `wanted` headers; else the first."""
    for delimiter in delimiters:
        headers = next(csv.reader([line], delimiter=delimiter), [])
        if not set(wanted).isdisjoint(headers) or find_columns(headers, wanted):
            return delimiter
    return delimiters[0]
