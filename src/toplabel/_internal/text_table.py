"""Text files and tables as programs write them: bytes in, text and columns out, in any encoding."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import IO, BinaryIO

_MARKS = (  # those of UTF-32 first: one begins as that of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MOSTLY = 0.7
"""Share of ASCII in UTF-16 without a mark, by which that is known: every second byte is zero."""

SOURCE_COLUMNS = ("path", "file", "filename", "filepath", "image", "source", "url")
"""Headers of a column of paths or URLs of images, as `find_columns` takes them."""

DELIMITERS = (",", ";", "\t", "|")
"""Of tables called .csv; a spreadsheet writes the second where numbers have the comma."""

_NO_LETTER = re.compile(r"[^a-z]")


def encoding_of(head: bytes) -> str:
    """The encoding of a text that begins so: UTF-8, or UTF-16 or UTF-32, as Windows writes."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    first, second = head[0 : len(head) & ~1 : 2], head[1::2]
    for zeros, letters, name in ((second, first, "utf-16-le"), (first, second, "utf-16-be")):
        if len(zeros) > 1 and zeros.count(0) > _MOSTLY * len(zeros) and not letters.count(0):
            return name
    return "utf-8-sig"


def as_text(file: BinaryIO, head: bytes) -> IO[str]:
    """The file's text, line ends as they are; a byte that is no UTF-8 as a surrogate escape.

    Args:
        file: Open at its beginning; closed with the text.
        head: How it begins, 4096 bytes of it or so.
    """
    encoding = encoding_of(head)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass"
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")


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
