"""Predictions: logits and labels in, one record per input out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from toplabel._internal.text import escape_name
from toplabel.errors import ErrorCode, ImageError, MissingDependency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toplabel.bundle.reduced import Precision

Audit = Literal["same", "changed"]
"""What came of an answer that was computed both ways."""

SCORE_DIGITS = 6
"""Decimals of a score in records: finer than engines agree."""

UNKNOWN = "unknown: unlike everything that the model was trained on; nearest"
"""What people read above the label of such an image."""

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

    `source` is the input's name, `model` that of the model, `index` the label's place among its
    outputs; `warnings` are what was assumed or noticed. `score` is the softmax (multi-label:
    sigmoid) of the model's output, in [0, 1], or the output itself where that is a score already;
    it is not the chance of being right. Below the threshold the label is `unsure`. `top` holds the
    best classes, best first. Where `error` is set, `label`, `index`, `score`, `top` and `unsure`
    are None.

    Of a model with `multi_label` `top` holds the classes that apply: those whose score reaches the
    threshold. Where none does it is empty, `label` and `index` are None, `unsure` is True, and
    `score` is the highest there was.

    `unknown` says whether the image is unlike everything that the model was trained on, so that its
    label, which stays, means nothing; None where the model cannot tell.

    `width` and `height` are those of the upright image in pixels, None where it was not read.
    `scores`, shape (K,), float16, are those of all classes, where they were asked for; `logits`,
    shape (K,), float32, are the model's outputs, of which the best makes the label: before the
    temperature, with what another class prior adds; `features`, shape (D,), float32, are what its
    last linear layer took.

    `precision` says "int8" or "bfloat16" where a reduced program gave the answer: its label is what
    the exact one would say, its scores are near that. None: it is exact. `audit` says whether a
    reduced answer that was computed both ways was the "same", or "changed": then this is the exact
    one.
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
    unknown: bool | None = None
    precision: Precision | None = None
    audit: Audit | None = field(default=None, repr=False, compare=False)
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

    def __repr__(self) -> str:
        """One line: the source, and the label with its score, or the error's code."""
        if self.error is not None:
            return f"Prediction(source={self.source!r}, error={self.error.code!r})"
        score = "None" if self.score is None else f"{self.score:.3f}"
        answer = f"label={self.label!r}, score={score}"
        if self.multi_label:
            answer = f"labels={list(self.labels)!r}, score={score}"
        warned = f", warnings={len(self.warnings)}" if self.warnings else ""
        unsure = ", unsure=True" if self.unsure else ""
        unknown = ", unknown=True" if self.unknown else ""
        return f"Prediction(source={self.source!r}, {answer}{unsure}{unknown}{warned})"

    def _repr_html_(self) -> str:
        """HTML for a notebook, self-contained and escaped: the image beside its labels."""
        from toplabel.inference.notebook import prediction_html  # only there

        return prediction_html(self)

    def to_dict(self) -> dict[str, Any]:
        r"""The record as plain data, with the keys of the JSON contract, in its order.

        `unknown` and `precision` are the last ones, where the model can tell, and where the answer
        is a reduced program's.
        A source that is no UTF-8 has such bytes written out: `caf\xe9.png` (docs/output.md).
        """
        top = None if self.top is None else [_candidate_dict(c) for c in self.top]
        error = None
        if self.error is not None:
            error = {"code": self.error.code, "message": self.error.message}
        record = {
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
        if self.unknown is not None:
            record["unknown"] = self.unknown
        if self.precision is not None:
            record["precision"] = self.precision
        return record


class Predictions(list[Prediction]):
    """The predictions for several images, in their order: a list that notebooks show as a grid."""

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: a row for each image, the keys of the record as columns.

        `error` makes two columns, `error_code` and `error_message`, as in CSV.

        >>> import toplabel
        >>> toplabel.load()(["examples/coffee.jpg"]).to_pandas().label[0]
        'espresso'

        Raises:
            MissingDependency: There is no pandas.
        """
        try:
            from importlib import import_module

            pandas = import_module("pandas")
        except ModuleNotFoundError as missing:
            raise MissingDependency(
                "to_pandas needs pandas, which is not installed; pip install pandas"
            ) from missing
        rows: list[dict[str, Any]] = []
        for one in self:
            record = one.to_dict()
            error = record.pop("error") or {"code": None, "message": None}
            rows.append({**record, **{f"error_{key}": text for key, text in error.items()}})
        return pandas.DataFrame(rows)

    def _repr_html_(self) -> str:
        """HTML for a notebook, self-contained and escaped: a grid of images and labels."""
        from toplabel.inference.notebook import predictions_html  # only there

        return predictions_html(self)


def _candidate_dict(candidate: Candidate) -> dict[str, Any]:
    score = round(candidate.score, SCORE_DIGITS)
    return {"label": candidate.label, "index": candidate.index, "score": score}
