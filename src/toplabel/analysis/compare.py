"""Two ways to run a model and images in; the first stage at which they differ out."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from toplabel._internal.options import suggests_names
from toplabel._internal.text import number_of
from toplabel.errors import ImageError, ToplabelError, UsageError
from toplabel.image.failures import from_decoder
from toplabel.image.reading import read_image, source_name
from toplabel.inference.batch import PredictOptions, image_error, label_batch
from toplabel.inference.predictor import Predictor
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.inference.engines import Batch, Engine, EngineName

Stage = Literal["pixels", "tensor", "logits", "scores", "label"]
STAGES: tuple[Stage, ...] = ("pixels", "tensor", "logits", "scores", "label")
ARRAYS = STAGES[:-1]
"""The stages whose values are arrays, by the names of `ImageComparison`'s fields."""

_PATH_NAMES = ("path", "file", "filename", "file_name", "image_path", "img_path")

_SMALL = 0.03
"""Of the standard deviation: mean differences that other decoders and filters make."""

_SAME_SCORE = 1e-3
"""A difference in scores that equal logits of two engines may make."""

_EXPLAINED = 0.01
"""Of the standard deviation: mean difference that may remain where a simple change explains it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two arrays differ.

    Args:
        largest: Of the absolute differences; infinity where the shapes differ.
        mean: Of the absolute differences.
        share: Of the values that differ at all.
        words: What explains it, where something simple does.
    """

    largest: float
    mean: float
    share: float
    words: str = ""

    def __str__(self) -> str:
        why = f": {self.words}" if self.words else ""
        if not np.isfinite(self.largest):
            return f"differ{why}"
        return (
            f"differ by up to {self.largest:.3g}, {self.mean:.3g} on average, in {self.share:.0%}"
            f" of the values{why}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; null where shapes differ."""
        return {k: v if v == v and v != np.inf else None for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class ImageComparison:
    """One image through both variants.

    Args:
        source: The image's path or URL.
        pixels: How the decoded pixels differ; None where they do not, or are not known.
        tensor: How the model's inputs differ.
        logits: How its outputs differ.
        scores: How the scores differ that are made of them.
        a: (label, score) of the first variant; None where it failed.
        b: The same of the second.
        error: Why it could not be compared; "" where it could.
    """

    source: str
    pixels: Difference | None = None
    tensor: Difference | None = None
    logits: Difference | None = None
    scores: Difference | None = None
    a: tuple[str, float] | None = None
    b: tuple[str, float] | None = None
    error: str = ""

    @property
    def first(self) -> Stage | None:
        """The first stage that differs."""
        for stage in ARRAYS:
            if getattr(self, stage) is not None:
                return stage
        return "label" if self.labels_differ else None

    @property
    def labels_differ(self) -> bool:
        """Whether both variants have a label, and they differ."""
        return self.a is not None and self.b is not None and self.a[0] != self.b[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = {stage: getattr(self, stage) for stage in ARRAYS}
        return {
            "source": self.source,
            "first": self.first,
            **{stage: one and one.to_dict() for stage, one in found.items()},
            "a": self.a and {"label": self.a[0], "score": self.a[1]},
            "b": self.b and {"label": self.b[0], "score": self.b[1]},
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All images through both variants.

    Args:
        a: The first variant, in words.
        b: The second.
        images: Each image.
        note: How the variants' class names, or when they are unsure, differ; "" where they do not.
        warnings: What was assumed or noticed of the variants, A's first.
    """

    a: str
    b: str
    images: tuple[ImageComparison, ...]
    note: str = ""
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: the variants, and on how many images their labels differ."""
        changed = sum(one.labels_differ for one in self.images)
        labels = f"{changed:,} of {len(self.images):,} labels differ"
        return f"<Comparison of {self.a} and {self.b}: {labels}>"

    @property
    def firsts(self) -> Counter[Stage]:
        """How many images differ first at each stage."""
        return Counter(one.first for one in self.images if one.first is not None)

    @property
    def first(self) -> Stage | None:
        """The earliest stage at which any image differs."""
        return next((stage for stage in STAGES if self.firsts[stage]), None)

    @property
    def same(self) -> bool:
        """Whether nothing differs anywhere, and all images could be compared."""
        return not self.note and self.first is None and not any(one.error for one in self.images)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "note": self.note or None,
            "warnings": list(self.warnings),
            "first": self.first,
            "firsts": dict(self.firsts),
            "labels_changed": sum(one.labels_differ for one in self.images),
            "images": [one.to_dict() for one in self.images],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """What a variant makes of an image.

    Args:
        pixels: uint8 (H, W, C) as decoded; None where the user's function reads the file.
        tensor: float32 (C, h, w), the model's input.
        logits: float32 (K,).
        scores: float64 (K,), in [0, 1], as in predictions.
        label: The best class's name.
        score: The best class's score.
    """

    pixels: NDArray[np.uint8] | None
    tensor: NDArray[np.float32]
    logits: NDArray[np.float32]
    scores: NDArray[np.float64]
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A model and how it is run.

    Args:
        predictor: The model.
        preprocess: The user's own preprocessing: a function of a PIL image, opened as
            `Image.open(path).convert("RGB")`, or of the path where its first parameter has a name
            such as `path`; it returns (C, h, w) or (1, C, h, w).
        name: For people.
    """

    predictor: Predictor
    preprocess: Callable[..., Any] | None = None
    name: str = ""

    def stages(self, source: object) -> Stages:
        """What each stage makes of an image.

        Raises:
            ImageError: It cannot be read or labelled, or the user's function fails on it.
            UsageError: The user's function returns an array of another shape.
        """
        try:
            return self._predict(source) if self.preprocess is None else self._call(source)
        except ToplabelError:
            raise
        except Exception as error:
            raise image_error(error) from error

    def _predict(self, source: object) -> Stages:
        """By the code of every prediction; of an image that is read twice, the second reading."""
        predictor = self.predictor
        recorder = _Recorder(predictor.open_engine())
        settings = PredictOptions(
            top_k=1, exact=predictor.exact, keep_logits=True, read=predictor.read
        )
        (prediction,) = label_batch([(0, source)], recorder, predictor.classifier, settings)
        if prediction.error is not None:
            raise ImageError(prediction.error.code, prediction.error.message)
        in_full = predictor.exact or recorder.calls > 1
        sizes = None if in_full else predictor.preprocess.resized_size
        pixels = read_image(source, options=predictor.read, resized_size=sizes).pixels
        assert recorder.tensor is not None
        assert prediction.logits is not None
        scores = predictor.classifier.scores(prediction.logits)
        label, score = prediction.label or "", prediction.score or 0.0
        return Stages(pixels, recorder.tensor, prediction.logits, scores, label, score)

    def _call(self, source: object) -> Stages:
        """By the user's function."""
        assert self.preprocess is not None
        pixels, argument = self._argument(source)
        tensor = np.asarray(self.preprocess(argument), np.float32)
        tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
        if tensor.ndim != 3:
            raise UsageError(
                f"{self.name} returns an array of shape {tensor.shape}; expected (C, h, w) or"
                " (1, C, h, w)"
            )
        logits = self.predictor.open_engine()(np.ascontiguousarray(tensor[None]))[0]
        scores = self.predictor.classifier.scores(logits)
        best = int(logits.argmax())
        label = self.predictor.labels[best]
        return Stages(pixels, tensor, logits, scores, label, float(scores[best]))

    def _argument(self, source: object) -> tuple[NDArray[np.uint8] | None, object]:
        """The pixels where they are known, and what the user's function is called with."""
        assert self.preprocess is not None
        try:
            first = next(iter(inspect.signature(self.preprocess).parameters), "")
        except (TypeError, ValueError):  # written in C
            first = ""
        if first in _PATH_NAMES:
            return None, source
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(source) as opened:  # type: ignore[arg-type]
                image = opened.convert("RGB")
        except Exception as error:
            failure = from_decoder(error, format_name="image")
            message = f"Pillow cannot read {source!r}: {failure.message}"
            code = "not_an_image" if isinstance(error, UnidentifiedImageError) else failure.code
            raise ImageError(code, message) from error
        return np.asarray(image), image


class _Recorder:
    """An engine that keeps its last input for one image, and counts its calls."""

    def __init__(self, engine: Engine) -> None:
        self.name: EngineName = engine.name
        self.device = engine.device
        self.normalises = None  # what it keeps is a tensor
        self._engine = engine
        self.calls = 0
        self.tensor: NDArray[np.float32] | None = None

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """The engine's logits."""
        self._record(batch)
        return self._engine(batch)

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The engine's logits and features."""
        self._record(batch)
        return self._engine.answer(batch)

    def _record(self, batch: Batch) -> None:
        self.calls += 1
        self.tensor = np.array(batch[0], np.float32)


ModelLike = Predictor | str | os.PathLike[str] | None


@suggests_names
def compare(
    a: ModelLike | Variant,
    b: ModelLike | Variant,
    images: Sequence[object],
    *,
    a_preprocess: Callable[..., Any] | None = None,
    b_preprocess: Callable[..., Any] | None = None,
) -> Comparison:
    """Where two ways to run a model start to differ: pixels, tensor, logits, scores or label.

    >>> import toplabel
    >>> toplabel.compare("a.toplabel", "b.toplabel", ["cat.jpg"]).first
    'logits'

    Args:
        a: A predictor, or what `load` takes.
        b: The other.
        images: At least one path, or anything else that a predictor takes.
        a_preprocess: The user's own preprocessing function for the first: a PIL image, or a path,
            in; float32 (C, h, w) out.
        b_preprocess: The same for the second.

    Raises:
        UsageError: There are no images, or a function returns an array of another shape for the
            first one; for a later one, that is the image's error.
    """
    if not images:
        raise UsageError("got no images to compare; expected at least one")
    first, second = _variant(a, a_preprocess), _variant(b, b_preprocess)
    found = tuple(_compare(source, number, first, second) for number, source in enumerate(images))
    warnings = tuple(
        f"{letter}: {text}"
        for letter, variant in (("A", first), ("B", second))
        for text in variant.predictor.warnings
    )
    notes = "; ".join(filter(None, (_compare_labels(first, second), _thresholds(first, second))))
    return Comparison(first.name, second.name, found, notes, warnings)


def _variant(given: ModelLike | Variant, preprocess: Callable[..., Any] | None) -> Variant:
    if isinstance(given, Variant):
        return given
    predictor = given if isinstance(given, Predictor) else shared_predictor(given)
    own = "" if preprocess is None else f" after {getattr(preprocess, '__name__', 'a function')}"
    exact = ", exact" if predictor.exact else ""
    return Variant(predictor, preprocess, f"{described(predictor)}{exact}{own}")


def described(predictor: Predictor) -> str:
    """A model, its engine and its calibration: what tells two with one name apart."""
    calibration = predictor.classifier.calibration
    fitted = f", {calibration}" if calibration is not None else ""
    return f"{predictor.name} by {predictor.engine}{fitted}"


def _thresholds(first: Variant, second: Variant) -> str:
    """Whether one of them is unsure where the other is not, in words."""
    one, other = (variant.predictor.classifier.threshold for variant in (first, second))
    if one == other:
        return ""
    words = [
        f"{letter} is {'never unsure' if below is None else f'unsure below {below:.3g}'}"
        for letter, below in (("A", one), ("B", other))
    ]
    return ", ".join(words)


def _compare_scores(
    a: Stages, b: Stages, logits: Difference | None, first: Variant, second: Variant
) -> Difference | None:
    """How scores (K,) differ, and why where the logits are the same."""
    if a.scores.shape != b.scores.shape:
        return Difference(np.inf, np.inf, 1.0)
    if float(np.abs(a.scores - b.scores).max()) <= _SAME_SCORE:
        return None
    one, other = (variant.predictor.classifier for variant in (first, second))
    words = ""
    if logits is None and one.activation != other.activation:
        words = f"A makes scores by {one.activation}, B by {other.activation}"
    elif logits is None and one.temperature != other.temperature:
        words = (
            f"calibration: A divides the logits by a temperature of {one.temperature:.3g}, B by"
            f" {other.temperature:.3g}"
        )
    return _measured(a.scores, b.scores, words)


def _compare_labels(first: Variant, second: Variant) -> str:
    """How the class names of both variants differ, in words."""
    a, b = first.predictor.labels, second.predictor.labels
    if len(a) != len(b):
        return f"A has {number_of(len(a), 'class', 'classes')}, B {len(b)}"
    other = [index for index, (one, two) in enumerate(zip(a, b, strict=True)) if one != two]
    if not other:
        return ""
    index = other[0]
    return (
        f"{len(other)} of {len(a)} class names differ: class {index} is {a[index]!r} in A,"
        f" {b[index]!r} in B"
    )


def _compare(source: object, number: int, first: Variant, second: Variant) -> ImageComparison:
    name, found = source_name(source, number), []
    for letter, variant in (("A", first), ("B", second)):
        try:
            found.append(variant.stages(source))
        except ToplabelError as error:
            if number == 0 and not isinstance(error, ImageError):
                raise  # not of this image alone: a function that returns another shape
            return ImageComparison(name, error=f"{letter}: {error}")
    a, b = found
    pixels = None
    if a.pixels is not None and b.pixels is not None:
        pixels = compare_pixels(a.pixels, b.pixels)
    logits = compare_logits(a.logits, b.logits)
    return ImageComparison(
        name,
        pixels,
        compare_tensors(a.tensor, b.tensor),
        logits,
        _compare_scores(a, b, logits, first, second),
        (a.label, a.score),
        (b.label, b.score),
    )


def compare_pixels(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Difference | None:
    """How images (H, W, C) differ; None where they are equal."""
    if np.array_equal(a, b):
        return None
    words = _orientation(a, b)
    if not words and _channels_reversed(a, b):
        words = "B has the channels in the opposite order"
    if a.shape == b.shape:
        return _measured(a, b, words)
    if not words:
        words = f"A is {a.shape[1]}x{a.shape[0]}, B {b.shape[1]}x{b.shape[0]} pixels"
        if abs(a.shape[0] / b.shape[0] - a.shape[1] / b.shape[1]) < 0.02:
            words += " (one is decoded at a smaller scale)"
    return Difference(np.inf, np.inf, 1.0, words)


_TRANSFORMS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "rotated by 180 degrees": lambda p: p[::-1, ::-1],
    "rotated by 90 degrees": lambda p: np.rot90(p, 1),
    "rotated by 270 degrees": lambda p: np.rot90(p, -1),
    "mirrored": lambda p: p[:, ::-1],
    "flipped upside down": lambda p: p[::-1],
    "mirrored along a diagonal": lambda p: p.transpose(1, 0, 2),
    "mirrored along the other diagonal": lambda p: p[::-1, ::-1].transpose(1, 0, 2),
}


def _orientation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> str:
    for words, transform in _TRANSFORMS.items():
        turned = transform(a)
        if turned.shape == b.shape and np.abs(turned.astype(np.int16) - b).mean() < 2:
            return f"B is A {words}: one of them ignores the EXIF orientation"
    return ""


def _channels_reversed(a: NDArray[Any], b: NDArray[Any]) -> bool:
    same = a.shape == b.shape and a.shape[-1] == 3
    return same and float(np.abs(a[..., ::-1].astype(np.float64) - b).mean()) < 1e-3 * 255


def compare_tensors(a: NDArray[np.float32], b: NDArray[np.float32]) -> Difference | None:
    """How inputs (C, h, w) differ; None where it is by rounding at most."""
    if a.shape != b.shape:
        return Difference(np.inf, np.inf, 1.0, f"A has the shape {a.shape}, B {b.shape}")
    spread = max(float(np.ptp(a)), float(np.ptp(b)), 1e-12)
    if float(np.abs(a - b).max()) <= 1e-6 * spread:
        return None
    return _measured(a, b, _explain(a, b))


def _explain(a: NDArray[np.float32], b: NDArray[np.float32]) -> str:
    """A change of channels or values that turns A into B, or that none so simple does."""
    if _relative(a, b) < _SMALL:
        return "small: another decoder, filter or rounding"
    if len(a) == 3 and _relative(a[::-1], b) < _EXPLAINED:
        return "B has the channels in the opposite order"
    for source, words in ((a, ""), (a[::-1], " of the channels in the opposite order")):
        fits = [np.polyfit(one.ravel(), two.ravel(), 1) for one, two in zip(source, b, strict=True)]
        made = np.stack(
            [scale * one + shift for one, (scale, shift) in zip(source, fits, strict=True)]
        )
        if _relative(made, b) < _EXPLAINED:
            scales = "/".join(f"{scale:.3g}" for scale, _ in fits)
            shifts = "/".join(f"{shift:+.3g}" for _, shift in fits)
            return (
                f"B is A x {scales} {shifts}{words}: another range, mean or std, or the channels"
                " are normalised in another order"
            )
    return "not explained by the values alone: another resizing, crop or filter"


def _relative(made: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(made - b).mean()) / max(float(b.std()), 1e-12)


def compare_logits(a: NDArray[np.float32], b: NDArray[np.float32]) -> Difference | None:
    """How outputs (K,) differ; None where they agree as two engines do (1e-4 of their spread)."""
    if a.shape != b.shape:
        classes = number_of(len(a), "class", "classes")
        return Difference(np.inf, np.inf, 1.0, f"A has {classes}, B {len(b)}")
    allowed = 1e-4 * max(1.0, float(np.ptp(a)))
    return None if float(np.abs(a - b).max()) <= allowed else _measured(a, b, "")


def _measured(a: NDArray[Any], b: NDArray[Any], words: str) -> Difference:
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return Difference(float(apart.max()), float(apart.mean()), float((apart > 0).mean()), words)
