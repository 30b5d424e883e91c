"""Text and numbers in; fragments of one HTML page out, escaped, in the style of all pages."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import quote

from toplabel._internal.ordered_map import ordered_map
from toplabel._internal.platform import available_cpus
from toplabel._internal.text import visible
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.runs.report.report import palette

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_THUMBNAIL = (320, 240)  # at most (width, height)
_READ = ReadOptions(timeout_seconds=10.0)


class Html(str):
    """Text that is HTML already, so that it is not escaped."""

    __slots__ = ()


def fill(name: str, /, **values: object) -> Html:
    """A fragment of the template with its $names replaced; all but `Html` is escaped."""
    texts = {
        key: value if isinstance(value, Html) else _escaped(str(value))
        for key, value in values.items()
    }
    return Html(_fragments()[name].substitute(texts))


def _escaped(text: str) -> str:
    """The text as HTML; a number and its unit stay on one line."""
    return html.escape(visible(text)).replace(" %", "&nbsp;%")


@cache
def _fragments() -> dict[str, Template]:
    """The fragments of page.html, each below a line with its name."""
    text = (files(__package__) / "page.html").read_text(encoding="utf-8")
    _, *parts = re.split(r"^<!-- (\w+) -->\n", text, flags=re.MULTILINE)
    return {name: Template(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def page(title: str, *, summary: str, notes: Iterable[str], sections: Iterable[Html]) -> Html:
    """The whole page; `notes` stand above the sections, once each, as sentences."""
    style = palette() + (files(__package__) / "page.css").read_text(encoding="utf-8")
    return fill(
        "page",
        title=title,
        style=Html(style),
        summary=summary,
        notes=join(fill("note", text=note[:1].upper() + note[1:]) for note in dict.fromkeys(notes)),
        sections=join(sections),
    )


def join(parts: Iterable[Html]) -> Html:
    """Fragments, one after the other."""
    return Html("".join(parts))


def section(title: str, body: Html) -> Html:
    """What stands below a heading."""
    return fill("section", title=title, body=body)


def figure(caption: str, svg: Html, *, note: str = "", legend: Html | None = None) -> Html:
    """A drawing with its caption, a note beside that, and the legend below."""
    return fill("figure", caption=caption, note=note, svg=svg, legend=legend or Html())


def recall(value: float, low: float, high: float) -> Html:
    """A class's recall and its interval, shares of 1, as a bar and in numbers."""
    shares = (f"{100 * share:.1f}" for share in (value, low, high))
    return fill("recall", **dict(zip(("value", "low", "high"), shares, strict=True)))


def confusion_matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Html:
    """How often images of each of K classes, a row, were taken for each, a column; (K, K)."""
    rows = []
    for place, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = max(1, sum(row))
        cells = [
            ("right" if place == column else "wrong", count / total, f"{count:,}" if count else "")
            for column, count in enumerate(row)
        ]
        rows.append((name, cells))
    return matrix(
        names, rows, note="Each row is a class, each column what its images were taken for."
    )


def matrix(
    heads: Sequence[str],
    rows: Iterable[tuple[str, Sequence[tuple[str, float, str]]]],
    *,
    note: str,
) -> Html:
    """A table whose cells are shaded.

    Args:
        heads: What stands above the columns.
        rows: Of each its name, and its cells: kind ("right" or "wrong"), shade from 0 to 1, text.
        note: What it shows.
    """
    body = (
        fill(
            "matrix_row",
            name=name,
            cells=join(
                fill("matrix_cell", kind=kind, share=f"{share:.3f}", text=text)
                for kind, share, text in cells
            ),
        )
        for name, cells in rows
    )
    names = join(fill("matrix_head", text=head) for head in heads)
    return fill("matrix", note=note, heads=names, rows=join(body))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    texts: int = 1,
    kinds: Sequence[str] = (),
) -> Html:
    """A table whose first `texts` columns hold text, the others numbers; or as `kinds` says."""
    kinds = kinds or ["text" if place < texts else "number" for place in range(len(head))]

    def cells(name: str, row: Sequence[object], start: int) -> Html:
        return join(
            fill(name, kind=kind, text=text) for kind, text in zip(kinds[start:], row, strict=True)
        )

    body = (fill("row", name=row[0], cells=cells("cell", row[1:], 1)) for row in rows)
    return fill("table", head=cells("heading", head, 0), rows=join(body))


def thumbnails(sources: Sequence[str], page_path: str | os.PathLike[str]) -> Iterator[Html]:
    """Each image in the page, as a link to its file where it is one."""
    images = ordered_map(thumbnail, sources, workers=available_cpus())
    for source, image in zip(sources, images, strict=True):
        yield _linked(image, source, page_path)


def _linked(image: Html, source: str, page_path: str | os.PathLike[str]) -> Html:
    if not os.path.isfile(source):
        return image
    try:
        way = os.path.relpath(source, os.path.dirname(os.path.abspath(page_path)))
    except ValueError:  # another drive of Windows
        return image
    href = quote(os.fsencode(way.replace(os.sep, "/")))
    return fill("link", href=href, name=os.path.basename(source), image=image)


def thumbnail(source: object) -> Html:
    """The image in the page, or a placeholder: a report never fails for one image."""
    width, height = _THUMBNAIL
    try:
        return thumbnail_of(
            read_image(source, options=_READ, resized_size=lambda *_: (height, width)).pixels
        )
    except Exception:  # moved, changed, or an array of six channels
        return fill("placeholder")


def thumbnail_of(pixels: NDArray[np.uint8]) -> Html:
    """The image in the page: uint8 (H, W, 3)."""
    from PIL import Image

    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.save(file, "WEBP", quality=75)
    # as it is: text for people would lose its middle
    return fill("image", webp=Html(base64.b64encode(file.getvalue()).decode()))
