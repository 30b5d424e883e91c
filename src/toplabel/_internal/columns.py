"""Columns of tables, found by their headers."""

import re
from collections.abc import Iterable

SOURCE_COLUMNS = ("path", "file", "filename", "filepath", "image", "source", "url")
"""Headers of a column of paths or URLs of images, as `find_columns` takes them."""

_NO_LETTER = re.compile(r"[^a-z]")


def find_columns(headers: Iterable[str], wanted: Iterable[str]) -> list[int]:
    """The indices of the columns with one of the `wanted` headers, in the order of `wanted`.

    Only letters count, in any case: "File_Name" is "filename".
    """
    letters = [_NO_LETTER.sub("", header.lower()) for header in headers]
    return [letters.index(word) for word in wanted if word in letters]
