"""A prediction as HTML for a notebook: the picture beside its labels with bars."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

if TYPE_CHECKING:
    from toplabel.inference.prediction import Candidate, Prediction

THUMBNAIL_PIXELS = 192


def render(prediction: Prediction) -> str:
    """HTML, self-contained and escaped; the picture only where the source is a local file."""
    caption = html.escape(prediction.source)
    if prediction.error is not None:
        reason = html.escape(f"{prediction.error.code}: {prediction.error.message}")
        body = f"<div>{caption}</div><div><b>{reason}</b></div>"
    else:
        bars = "".join(map(_bar, prediction.top or ()))
        body = f"<div>{caption}</div>{bars}"
    return f'<div style="display:flex;gap:1em">{_thumbnail(prediction)}<div>{body}</div></div>'


def _bar(candidate: Candidate) -> str:
    label = html.escape(candidate.label)
    return (
        f'<div style="display:flex;gap:.5em"><div style="width:14em">{label}</div>'
        f'<div style="width:8em"><div style="width:{candidate.score:.1%};height:1em;'
        f'background:#4a90d9"></div></div><div>{candidate.score:.3f}</div></div>'
    )


def _thumbnail(prediction: Prediction) -> str:
    if prediction.error is not None or prediction.source.startswith(("<", "-", "http")):
        return ""
    from PIL import Image  # only where a notebook shows something

    try:
        pixels = read_image(prediction.source, options=ReadOptions()).pixels
    except ImageError:  # moved since
        return ""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
