"""Notebooks: a prediction, or a list of them, in; HTML out, self-contained and escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from toplabel.inference.prediction import NO_CLASS, UNKNOWN, Prediction

THUMBNAIL_PIXELS = 192
MOST_SHOWN = 24
"""Predictions of a list that are shown; a notebook keeps all that it shows."""


def prediction_html(prediction: Prediction) -> str:
    """The image beside its labels, each with a bar as long as its score."""
    if prediction.error is not None:
        error = f"{prediction.error.code}: {prediction.error.message}"
        body = f"<div><b>{html.escape(error)}</b></div>"
    else:
        body = "".join(_bar(html.escape(c.label), c.score) for c in prediction.top or ())
        body = body or f"<div>{NO_CLASS}</div>"
        if prediction.unknown:
            body = f"<div><b>{UNKNOWN}</b></div>{body}"
    return (
        f'<div style="display:flex;gap:1em">{_thumbnail(prediction, THUMBNAIL_PIXELS)}'
        f"<div><div>{html.escape(prediction.source)}</div>{body}{_warnings(prediction)}</div></div>"
    )


def predictions_html(predictions: Sequence[Prediction]) -> str:
    """A grid of the first images, each above its label; then how many there are in all."""
    cells = "".join(_cell(one) for one in predictions[:MOST_SHOWN])
    hidden = len(predictions) - MOST_SHOWN
    more = f"<div>and {hidden:,} more</div>" if hidden > 0 else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em">{cells}</div>{more}'


def table_html(title: str, rows: Sequence[tuple[str, object]]) -> str:
    """A small table of names and values below a title."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"<div><b>{html.escape(title)}</b><table>{cells}</table></div>"


def png_html(content: bytes, *, alt: str) -> str:
    """A PNG as an image of the page itself."""
    data = base64.b64encode(content).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="max-width:100%">'
    )


def _cell(prediction: Prediction) -> str:
    if prediction.error is not None:
        answer = f"<b>{html.escape(prediction.error.code)}</b>"
    elif prediction.score is None:
        answer = html.escape(str(prediction))
    else:
        unsure = ", unsure" if prediction.unsure and prediction.label is not None else ""
        answer = f"{html.escape(str(prediction) or NO_CLASS)} {prediction.score:.2f}{unsure}"
        if prediction.unknown:
            answer = f"<b>unknown</b> (nearest: {answer})"
    source = html.escape(prediction.source)
    return (
        f'<div style="width:{THUMBNAIL_PIXELS // 2}px;overflow-wrap:anywhere" title="{source}">'
        f"{_thumbnail(prediction, THUMBNAIL_PIXELS // 2)}<div>{answer}</div></div>"
    )


def _warnings(prediction: Prediction) -> str:
    lines = "".join(f"<div>{html.escape(one)}</div>" for one in prediction.warnings)
    return f"<small>{lines}</small>" if lines else ""


def _bar(label: str, score: float) -> str:
    return (
        f'<div style="display:flex;gap:.5em"><div style="width:14em">{label}</div>'
        f'<div style="width:8em"><div style="width:{score:.1%};height:1em;'
        f'background:#4a90d9"></div></div><div>{score:.3f}</div></div>'
    )


def _thumbnail(prediction: Prediction, side: int) -> str:
    """The image, read again, where the source is a local file."""
    if prediction.error is not None or prediction.source.startswith(("<", "-", "http")):
        return ""
    from PIL import Image

    from toplabel.image.reading import read_image

    try:
        image = Image.fromarray(read_image(prediction.source).pixels)
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
    except Exception:  # moved or changed since
        return ""
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
