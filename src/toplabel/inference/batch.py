"""One chunk of sources through the stages: picture -> tensor -> logits -> prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from toplabel.errors import ErrorCode, ImageError, UsageError
from toplabel.image.arrays import is_tensor
from toplabel.image.decoded_image import DecodedImage
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image, source_name
from toplabel.inference.prediction import Prediction
from toplabel.inference.rescan import is_close
from toplabel.inference.scoring import rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.inference.checks import Suspicion
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Engine

Numbered = tuple[int, object]
"""A source and its place in the order of inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a caller wants of every prediction."""

    top_k: int = 5
    threshold: float | None = None
    exact: bool = False
    all_scores: bool = False
    keep_logits: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        top_k, threshold = self.top_k, self.threshold
        if isinstance(top_k, bool) or not isinstance(top_k, SupportsIndex) or top_k < 1:
            raise UsageError(f"got top_k={top_k!r}; expected a whole number, at least 1")
        if threshold is not None and not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise UsageError(f"got threshold={threshold!r}; expected a score from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """How to label many images.

    Args:
        label: Chunk in, predictions in its order out; for `workers` threads to call at once.
        chunk_size: How many images a chunk has best.
        workers: How many threads that is.
    """

    label: Callable[[Sequence[Numbered]], list[Prediction]]
    chunk_size: int
    workers: int


@dataclass(slots=True)
class _Item:
    """One source on its way through the stages."""

    source: object
    name: str
    warnings: tuple[str, ...] = ()
    scale: int = 1
    size: tuple[int, int] | None = None  # (height, width)
    logits: NDArray[np.float32] | None = None  # (K,)
    error: ImageError | None = None


def label_chunk(
    chunk: Sequence[Numbered],
    engine: Engine,
    classifier: Classifier,
    settings: Settings,
    *,
    watch: Suspicion | None = None,
) -> list[Prediction]:
    """One prediction for each source, in order, whatever happens to it; `watch` sees the first."""
    items = [_Item(source, source_name(source, index)) for index, source in chunk]
    _run(items, engine, classifier, settings, exact=settings.exact, watch=watch)
    doubtful = [item for item in items if _is_doubtful(item, classifier, settings)]
    if doubtful:  # a scaled decode and a close answer: read again in full
        _run(doubtful, engine, classifier, settings, exact=True)
    return [_predict(item, classifier, settings) for item in items]


def _run(
    items: Sequence[_Item],
    engine: Engine,
    classifier: Classifier,
    settings: Settings,
    *,
    exact: bool,
    watch: Suspicion | None = None,
) -> None:
    """Fill in each item's logits, or its error."""
    recipe = classifier.preprocess
    batch = np.empty((len(items), recipe.num_channels, *recipe.input_size), np.float32)
    ready: list[_Item] = []
    for item in items:
        try:
            picture = _read(item.source, classifier, settings, exact=exact)
            recipe(
                picture.pixels,
                original_size=(picture.height, picture.width),
                scale=picture.scale,
                max_pixels=settings.read.max_pixels,
                out=batch[len(ready)],
            )
        except ImageError as error:  # without its traceback, which would keep batch and pixels
            item.error = ImageError(error.code, error.message)
        except MemoryError:
            item.error = ImageError("out_of_memory", "there was not enough memory for this image")
        else:
            item.scale, item.warnings = picture.scale, picture.warnings
            item.size = picture.height, picture.width
            ready.append(item)
    if ready:
        _infer(ready, batch[: len(ready)], engine)
        if watch is not None and watch.watching:
            _observe(ready, batch, engine, watch)


def _observe(
    items: Sequence[_Item], batch: NDArray[np.float32], engine: Engine, watch: Suspicion
) -> None:
    """Show the first answers to the one who looks for the usual mistakes."""
    for place, item in enumerate(items):
        if item.logits is not None:
            is_array = isinstance(item.source, np.ndarray) or is_tensor(item.source)
            watch.observe(batch[place], item.logits, engine=engine if is_array else None)


def _read(
    source: object, classifier: Classifier, settings: Settings, *, exact: bool
) -> DecodedImage:
    resized_size = None if exact else classifier.preprocess.resized_size
    try:
        return read_image(source, options=settings.read, resized_size=resized_size)
    except TypeError as error:  # a source of a kind we do not know: its text lists those we do
        raise ImageError("not_an_image", str(error)) from error


def _infer(items: Sequence[_Item], batch: NDArray[np.float32], engine: Engine) -> None:
    """Run the engine on the batch; if that fails, on each alone, so that only the guilty fail."""
    try:
        for item, logits in zip(items, engine(batch), strict=True):
            item.logits = logits
    except Exception as error:
        if len(items) > 1:
            for place, item in enumerate(items):
                _infer([item], batch[place : place + 1], engine)
        else:
            code: ErrorCode = "out_of_memory" if isinstance(error, MemoryError) else "internal"
            message = str(error) or type(error).__name__
            items[0].error = ImageError(code, f"the model failed on this image: {message}")


def _is_doubtful(item: _Item, classifier: Classifier, settings: Settings) -> bool:
    if item.scale == 1 or item.logits is None:
        return False
    return is_close(
        item.logits,
        activation=classifier.activation,
        threshold=_threshold(classifier, settings),
        temperature=classifier.temperature,
    )


def _threshold(classifier: Classifier, settings: Settings) -> float | None:
    """What is asked for, else what the model's calibration says."""
    return classifier.threshold if settings.threshold is None else settings.threshold


def _predict(item: _Item, classifier: Classifier, settings: Settings) -> Prediction:
    warnings = (*classifier.warnings, *item.warnings)
    if item.error is not None:
        return Prediction.failed(item.name, classifier.name, item.error, warnings=warnings)
    assert item.logits is not None
    try:
        ranking = rank(
            item.logits,
            classifier.labels,
            activation=classifier.activation,
            top_k=settings.top_k,
            threshold=_threshold(classifier, settings),
            temperature=classifier.temperature,
        )
    except ImageError as error:
        return Prediction.failed(item.name, classifier.name, error, warnings=warnings)
    height, width = item.size or (None, None)
    return Prediction(
        source=item.name,
        label=ranking.best.label,
        index=ranking.best.index,
        score=ranking.best.score,
        top=ranking.top,
        unsure=ranking.unsure,
        warnings=warnings,
        model=classifier.name,
        width=width,
        height=height,
        scores=_all_scores(item.logits, classifier) if settings.all_scores else None,
        logits=item.logits.copy() if settings.keep_logits else None,  # not the whole batch's
    )


def _all_scores(logits: NDArray[np.float32], classifier: Classifier) -> NDArray[np.float16]:
    return classifier.scores(logits).astype(np.float16)
