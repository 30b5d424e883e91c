"""The report: labelled inputs go in, one HTML file comes out that shows them without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from toplabel._internal.platform import written_aside
from toplabel._internal.text import visible
from toplabel._version import __version__
from toplabel.bundle.unknown import Drift
from toplabel.errors import RunError
from toplabel.inference.cascade import ReducedAnswers
from toplabel.inference.prediction import NO_CLASS
from toplabel.labels.labels import Labels
from toplabel.runs.report.selection import Counts, ReportRow, Selection
from toplabel.runs.report.thumbnails import GROUP, size_for, thumbnails

IMAGE_BYTES = 1450
"""Of the page for one of `FEWEST` images or more, all in all; so 10,000 take 14.5 MB."""
FEWEST = 10_000
_FILES = ("page.html", "palette.css", "page.css", "page.js")
_LEAST_BYTES = 200  # of a thumbnail, where names are so long that nothing is left for it

FIRST_GROUPS = 4
"""Groups of thumbnails that come before the page's script: enough for a large screen."""

_SCORE_DIGITS = 4  # a page shows two
_WORTH_READING = ("truncated", "corrupt", "non_finite", "wrong_size")
"""Failures of which there may be an image; the others would only cost their time again."""


def write_report(
    path: str | Path,
    rows: Iterable[ReportRow],
    *,
    labels: Labels,
    model: str,
    title: str,
    threads: int,
    max_images: int = 10_000,
    warnings: Sequence[str] = (),
    drift: Drift | None = None,
    fast: ReducedAnswers | None = None,
    has_threshold: bool = False,
) -> None:
    """Write one HTML file that shows how inputs were labelled; it needs no other file, no network.

    All inputs are counted; images are selected among them (`Selection.images`), and the page
    explains how. An image that can no longer be read gets a placeholder.

    Args:
        path: Of the page; an existing file is replaced.
        rows: The inputs, any number; they are gone through once.
        labels: The class names.
        model: Its full name.
        title: Of the page.
        threads: That read images.
        max_images: How many images the page shows at most.
        warnings: What was assumed or noticed that may make labels wrong.
        drift: How many are unknown, of a model that can tell.
        fast: What came of reduced precision, where it was used.
        has_threshold: A prediction may be unsure.

    Raises:
        RunError: The file cannot be written.
    """
    counts, selection = Counts(), Selection(max_images)
    for row in rows:
        counts.add(row)
        selection.add(row)
    images = selection.images()
    if drift is not None and not drift.is_significant:  # else it is among the warnings
        warnings = (*warnings, str(drift))
    if fast is not None and not fast.counts.changed:
        warnings = (*warnings, f"reduced precision: {fast}")
    content = _content(counts, images, labels=labels, model=model)
    content["counts"] |= {"unsure": counts.unsure} if has_threshold or counts.unsure else {}
    content["counts"] |= {"unknown": counts.unknown} if drift is not None else {}
    content["base"] = _from_page(path)
    data = script_json(content)
    groups = _thumbnail_json(images, len(data), threads=threads)
    page = _page(data, groups, title=title, warnings=warnings)
    write_page(Path(path), page)


def _content(
    counts: Counts, images: Sequence[ReportRow], *, labels: Labels, model: str
) -> dict[str, Any]:
    """The data of the page's script, apart from thumbnails.

    An image is [folder, name in it, [class index, score, ...], marks] and, where it failed, its
    code and message; folders and labels are written once. The marks are a sum: 1 for unsure, 2 for
    unknown, 4 for a file that its name leads to.
    """
    folders: dict[str, int] = {}
    rows = [_row(image, folders) for image in images]
    used = {index for image in images for index, _ in image.top} | counts.labels.keys()
    return {
        "version": __version__,
        "group": GROUP,
        "first": FIRST_GROUPS,
        "model": visible(model),
        "counts": {
            "inputs": counts.inputs,
            "failed": counts.failed,
            "labels": counts.labels.most_common(),
            "errors": counts.errors.most_common(),
            "scores": counts.scores,
        },
        "labels": {
            index: visible(labels[index]) if index >= 0 else NO_CLASS for index in sorted(used)
        },
        "folders": list(folders),
        "images": rows,
    }


def _from_page(path: str | Path) -> str:
    """The current folder, which names begin at, as it is reached from the page's; "" from there."""
    try:
        way = os.path.relpath(os.curdir, os.path.dirname(path) or os.curdir)
    except ValueError:  # another drive of Windows
        return ""
    return "" if way == os.curdir else f"{way.replace(os.sep, '/')}/"


def _row(image: ReportRow, folders: dict[str, int]) -> list[Any]:
    name = visible(image.name)
    base = os.path.basename(name.rstrip("/"))
    folder = name[: name.rindex(base)] if base else name
    if folder + base != name:  # it ends in a slash
        folder, base = "", name
    top = [value for index, score in image.top for value in (index, round(score, _SCORE_DIGITS))]
    is_file = image.source == image.name == name and os.path.isfile(name)
    marks = image.unsure + 2 * image.unknown + 4 * is_file
    row = [folders.setdefault(folder, len(folders)), base, top, marks]
    if image.error is not None:
        row += [image.error.code, visible(image.error.message)]
    return row


def script_json(value: object) -> str:
    """JSON that means the same inside a script element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII: no lone surrogate reaches the file
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _thumbnail_json(rows: Sequence[ReportRow], text_bytes: int, *, threads: int) -> Iterator[str]:
    """One JSON list of base64 texts for each group of images."""
    count = len(rows)
    frame_bytes = sum(len(_template(name)) for name in _FILES) + 50_000
    room = max(count, FEWEST) * IMAGE_BYTES - text_bytes - frame_bytes
    size = size_for(count, max_bytes=max(room * 3 // 4, count * _LEAST_BYTES))
    for group in thumbnails(map(thumbnail_source, rows), size=size, threads=threads):
        yield script_json([base64.b64encode(file).decode() for file in group])


def thumbnail_source(row: ReportRow) -> object:
    """Its source; None where reading it would fail again."""
    return row.source if row.error is None or row.error.code in _WORTH_READING else None


def _page(
    data: str, groups: Iterable[str], *, title: str, warnings: Sequence[str]
) -> Iterator[str]:
    """The page in pieces: its template, in which each {{name}} stands for one thing."""
    style, script = palette() + _template("page.css"), _template("page.js")
    elements = iter(
        f'<script type="application/json" id="thumbnails-{number}">{group}</script>\n'
        for number, group in enumerate(groups)
    )
    fills: dict[str, Iterable[str]] = {
        "policy": [_policy(style, script)],
        "title": [html.escape(visible(title))],
        "warnings": [f'  <p class="note">{html.escape(visible(one))}</p>\n' for one in warnings],
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
    """Nothing may run or be styled but what we wrote, and no request leaves the machine."""
    return (
        "default-src 'none'; img-src data: file:; base-uri 'none'; form-action 'none';"
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
        with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
    except OSError as error:
        raise RunError(
            f"cannot write the report {str(path)!r}: {error.strerror or error}; expected a file in"
            " a folder that exists and can be written to, with room on the disk"
        ) from error
