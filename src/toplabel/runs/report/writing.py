"""Writing: labelled inputs go in, a page goes to disk, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from toplabel._internal.platform import written_aside
from toplabel.errors import RunError
from toplabel.labels.labels import Labels
from toplabel.runs.report.choosing import Choice
from toplabel.runs.report.content import FIRST_GROUPS, content, script_json
from toplabel.runs.report.counting import Counts
from toplabel.runs.report.shown import Shown
from toplabel.runs.report.thumbnails import size_for, thumbnails
from toplabel.runs.report.visible import visible

PICTURE_BYTES = 1450
"""Of the page for one of `FEWEST` pictures or more, all in all; so 10,000 take 14.5 MB."""
FEWEST = 10_000
_FILES = ("page.html", "palette.css", "page.css", "page.js")
_LEAST_BYTES = 200  # of a thumbnail, where names are so long that nothing is left for it


def write_report(
    path: str | Path,
    shown: Iterable[Shown],
    *,
    labels: Labels,
    model: str,
    title: str,
    threads: int,
    max_pictures: int = 10_000,
) -> None:
    """Write one HTML file that shows how inputs were labelled; it needs no other file, no network.

    All inputs are counted; pictures are chosen among them (`Choice.pictures`), and the page says
    how. A picture that cannot be read any more gets a placeholder.

    Args:
        path: Where the page goes; a file that stands there is replaced.
        shown: The inputs, any number; they are gone through once.
        labels: The classes' names.
        model: What labelled them, in full.
        title: Of the page.
        threads: That read pictures.
        max_pictures: How many pictures there are at most.

    Raises:
        RunError: The file cannot be written.
    """
    counts, choice = Counts(), Choice(max_pictures)
    for one in shown:
        counts.add(one)
        choice.add(one)
    pictures = choice.pictures()
    data = script_json(content(counts, pictures, labels=labels, model=model))
    page = _page(data, _thumbnail_json(pictures, len(data), threads=threads), title=title)
    write_page(Path(path), page)


def _thumbnail_json(pictures: Sequence[Shown], text_bytes: int, *, threads: int) -> Iterator[str]:
    """One JSON list of base64 texts for each group of pictures."""
    count = len(pictures)
    room = max(count, FEWEST) * PICTURE_BYTES - text_bytes - _frame_bytes()
    size = size_for(count, max_bytes=max(room * 3 // 4, count * _LEAST_BYTES))
    for group in thumbnails(pictures, size=size, threads=threads):
        yield script_json([base64.b64encode(file).decode() for file in group])


def _frame_bytes() -> int:
    return sum(len(_template(name)) for name in _FILES) + 50_000


def _page(data: str, groups: Iterable[str], *, title: str) -> Iterator[str]:
    """The page in pieces: its template, in which each {{name}} stands for one thing."""
    style, script = palette() + _template("page.css"), _template("page.js")
    elements = iter(
        f'<script type="application/json" id="thumbnails-{number}">{group}</script>\n'
        for number, group in enumerate(groups)
    )
    fills: dict[str, Iterable[str]] = {
        "policy": [_policy(style, script)],
        "title": [html.escape(visible(title))],
        "style": [style],
        "data": [data],
        "first_thumbnails": itertools.islice(elements, FIRST_GROUPS),
        "thumbnails": elements,
        "script": [script],
    }
    first, *rest = _template("page.html").split("{{")
    yield first
    for part in rest:
        name, _, text = part.partition("}}")
        yield from fills[name]
        yield text


def _policy(style: str, script: str) -> str:
    """Nothing may run, be styled or be loaded but what we wrote: no request leaves the page."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none';"
        f" style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def palette() -> str:
    """The style sheet with the colours and faces that all pages share."""
    return _template("palette.css")


def _template(name: str) -> str:
    return (files("toplabel.runs.report") / "page" / name).read_text(encoding="utf-8")


def write_page(path: Path, pieces: Iterable[str]) -> None:
    """Write a page in pieces: whole, or not at all.

    Raises:
        RunError: The file cannot be written.
    """
    try:
        with (
            written_aside(path) as aside,
            aside.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.writelines(pieces)
    except OSError as error:
        raise RunError(
            f"cannot write the report {str(path)!r}: {error.strerror or error}; expected a file in"
            " a folder that exists and can be written to, with room on the disk"
        ) from error
