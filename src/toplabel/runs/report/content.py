"""Content: counts and chosen inputs go in, the JSON that the page's script reads comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from toplabel._version import __version__
from toplabel.labels.labels import Labels
from toplabel.runs.report.counting import Counts
from toplabel.runs.report.shown import Shown
from toplabel.runs.report.thumbnails import GROUP
from toplabel.runs.report.visible import visible

FIRST_GROUPS = 4
"""Groups of thumbnails that stand before the page's script: enough for a large screen."""

_SCORE_DIGITS = 4  # a page shows two


def content(
    counts: Counts, pictures: Sequence[Shown], *, labels: Labels, model: str
) -> dict[str, Any]:
    """What the page knows, as plain data, apart from thumbnails.

    A picture is [folder, name in it, [class index, score, ...], unsure] and, where it failed,
    its code and message; folders and labels are written once.
    """
    folders: dict[str, int] = {}
    rows = [_row(shown, folders) for shown in pictures]
    used = {index for shown in pictures for index, _ in shown.top} | counts.labels.keys()
    return {
        "version": __version__,
        "group": GROUP,
        "first": FIRST_GROUPS,
        "model": visible(model),
        "counts": {
            "inputs": counts.inputs,
            "failed": counts.failed,
            "unsure": counts.unsure,
            "labels": counts.labels.most_common(),
            "errors": counts.errors.most_common(),
            "scores": counts.scores,
        },
        "labels": {index: visible(labels[index]) for index in sorted(used)},
        "folders": list(folders),
        "pictures": rows,
    }


def _row(shown: Shown, folders: dict[str, int]) -> list[Any]:
    name = visible(shown.name)
    base = os.path.basename(name.rstrip("/"))
    folder = name[: name.rindex(base)] if base else name
    if folder + base != name:  # it ends in a slash
        folder, base = "", name
    top = [value for index, score in shown.top for value in (index, round(score, _SCORE_DIGITS))]
    row = [folders.setdefault(folder, len(folders)), base, top, int(shown.unsure)]
    if shown.error is not None:
        row += [shown.error.code, visible(shown.error.message)]
    return row


def script_json(value: object) -> str:
    """JSON that means the same inside a script element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII: no lone surrogate reaches the file
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
