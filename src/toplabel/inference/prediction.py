"""Predictions: logits and labels in, one record per input out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toplabel._internal.text import escape_name
from toplabel.errors import ErrorCode, ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCORE_DIGITS = 6
"""Decimals of a score in records: finer than engines agree."""

THUMBNAIL_PIXELS = 192

NO_CLASS = "(none)"
"""What people read where no class of a multi-label model applies; programs get null, or nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One class and its score in [0, 1]."""

    label: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input has no label."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The label of one input, according to one model; or why there is none.

    `score` is the softmax (multi-label: sigmoid) of the model's output, in [0, 1], or the output
    itself where that is a score already. It is not the chance of being right. `top` holds the best
    classes, best first. Where `error` is set, `label`, `index`, `score`, `top` and `unsure` are
    None.

    Of a multi-label model `top` holds the classes that apply: those whose score reaches the
    threshold. Where none does it is empty, `label` and `index` are None, `unsure` is True, and
    `score` is the highest there was.

    `width` and `height` are those of the upright image in pixels, None where it was not read.
    `scores`, shape (K,), float16, are those of all classes, where they were asked for; `logits`,
    shape (K,), float32, are the model's outputs, of which the best makes the label: before the
    temperature, with what another class prior adds; `features`, shape (D,), float32, are what its
    last linear layer took.
    """

    source: str
    label: str | None
    index: int | None
    score: float | None
    top: tuple[Candidate, ...] | None
    unsure: bool | None
    warnings: tuple[str, ...]
    model: str
    error: Failure | None = None
    width: int | None = None
    height: int | None = None
    multi_label: bool = False
    scores: NDArray[np.float16] | None = field(default=None, repr=False, compare=False)
    logits: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    features: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def failed(
        cls, source: str, model: str, error: ImageError, *, warnings: tuple[str, ...] = ()
    ) -> Prediction:
        """The record of an input that could not be labelled."""
        failure = Failure(error.code, error.message)
        return cls(source, None, None, None, None, None, warnings, model, failure)

    @property
    def labels(self) -> tuple[str, ...]:
        """The answer: the label; of a multi-label model all that apply, best first, or none."""
        if self.multi_label:
            return tuple(one.label for one in self.top or ())
        return () if self.label is None else (self.label,)

    def __str__(self) -> str:
        if self.error is not None:
            return f"error: {self.error.code}"
        return ", ".join(self.labels)

    def _repr_html_(self) -> str:
        """HTML for a notebook, self-contained and escaped: the image beside its labels."""
        import html  # only in notebooks

        if self.error is not None:
            body = f"<div><b>{html.escape(f'{self.error.code}: {self.error.message}')}</b></div>"
        else:
            body = "".join(_bar(html.escape(c.label), c.score) for c in self.top or ())
            body = body or f"<div>{NO_CLASS}</div>"
        return (
            f'<div style="display:flex;gap:1em">{_thumbnail(self)}'
            f"<div><div>{html.escape(self.source)}</div>{body}</div></div>"
        )

    def to_dict(self) -> dict[str, Any]:
        r"""The record as plain data, with the keys of the JSON contract, in its order.

        A source that is no UTF-8 has such bytes written out: `caf\xe9.png` (docs/output.md).
        """
        top = None if self.top is None else [_candidate_dict(c) for c in self.top]
        error = None
        if self.error is not None:
            error = {"code": self.error.code, "message": self.error.message}
        return {
            "source": escape_name(self.source),
            "label": self.label,
            "index": self.index,
            "score": None if self.score is None else round(self.score, SCORE_DIGITS),
            "top": top,
            "unsure": self.unsure,
            "warnings": list(self.warnings),
            "model": self.model,
            "error": error,
        }


def _candidate_dict(candidate: Candidate) -> dict[str, Any]:
    score = round(candidate.score, SCORE_DIGITS)
    return {"label": candidate.label, "index": candidate.index, "score": score}


def _bar(label: str, score: float) -> str:
    return (
        f'<div style="display:flex;gap:.5em"><div style="width:14em">{label}</div>'
        f'<div style="width:8em"><div style="width:{score:.1%};height:1em;'
        f'background:#4a90d9"></div></div><div>{score:.3f}</div></div>'
    )


def _thumbnail(prediction: Prediction) -> str:
    """The image, read again, where the source is a local file."""
    if prediction.error is not None or prediction.source.startswith(("<", "-", "http")):
        return ""
    import base64  # only in notebooks
    import io

    from PIL import Image

    from toplabel.image.reading import read_image

    try:
        image = Image.fromarray(read_image(prediction.source).pixels)
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
    except Exception:  # moved or changed since
        return ""
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
