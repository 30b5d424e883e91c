"""One batch of sources through the stages: image -> tensor -> logits -> prediction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from toplabel._internal.text import first_line
from toplabel.errors import ImageError, ToplabelError, UsageError
from toplabel.image.files import UnknownSource
from toplabel.image.options import ReadOptions
from toplabel.image.reading import is_tensor, read_image, source_name
from toplabel.inference.prediction import Prediction
from toplabel.inference.scoring import is_close, rank
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.image.decoded_image import DecodedImage
    from toplabel.inference.checks import SanityChecks
    from toplabel.inference.classifier import Classifier
    from toplabel.inference.engines import Batch, Engine
    from toplabel.preprocess.custom import AnyPreprocess

logger = logging.getLogger(__name__)

Numbered = tuple[int, object]
"""A source and its place in the order of inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """Options of every prediction; a run's fingerprint has their names."""

    top_k: int = 5
    threshold: float | None = None
    exact: bool = False
    all_scores: bool = False
    keep_logits: bool = False
    keep_features: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        top_k, threshold = self.top_k, self.threshold
        if isinstance(top_k, bool) or not isinstance(top_k, SupportsIndex) or top_k < 1:
            raise UsageError(f"got top_k={top_k!r}; expected a whole number, at least 1")
        if threshold is not None and not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise UsageError(f"got threshold={threshold!r}; expected a score from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLabeller:
    """How to label many images, batch after batch.

    Args:
        label: Batch in, predictions in its order out; for `workers` threads to call at once.
        batch_size: The best number of images in a batch.
        workers: The number of these threads.
    """

    label: Callable[[Sequence[Numbered]], list[Prediction]]
    batch_size: int
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
    features: NDArray[np.float32] | None = None  # (D,)
    distance: float | None = None  # from the training images, where the model knows of these
    error: ImageError | None = None


def label_batch(
    batch: Sequence[Numbered],
    engine: Engine,
    classifier: Classifier,
    options: PredictOptions,
    *,
    checks: SanityChecks | None = None,
) -> list[Prediction]:
    """One prediction for each source, in order, whatever happens to it.

    Each has the warnings of the model, of its image, and what `checks` has noticed by now.
    """
    items = [_Item(source, source_name(source, index)) for index, source in batch]
    _run(items, engine, classifier, options, exact=options.exact, checks=checks)
    close = [item for item in items if _is_close(item, classifier, options)]
    if close:  # a scaled decode and a close answer: read again in full
        _run(close, engine, classifier, options, exact=True)
    noticed = () if checks is None else checks.found
    return [_predict(item, classifier, options, noticed) for item in items]


def label_tensors(
    tensors: NDArray[np.float32],
    engine: Engine,
    classifier: Classifier,
    options: PredictOptions,
    *,
    first: int = 0,
    warnings: tuple[str, ...] = (),
    checks: SanityChecks | None = None,
) -> list[Prediction]:
    """One prediction for each input of the network, in order, whatever happens to it.

    Args:
        tensors: float32 (N, C, H, W).
        engine, classifier, options: As of `label_batch`.
        first: The number of the first, in records: "<tensor 0>".
        warnings: What each record says beside what the model has.
        checks: Look at the outputs; each record says what they have noticed by now.
    """
    size = (int(tensors.shape[2]), int(tensors.shape[3]))
    items = [
        _Item(None, f"<tensor {first + place}>", warnings=warnings, size=size)
        for place in range(len(tensors))
    ]
    finite: list[bool] = [bool(np.isfinite(one).all()) for one in tensors]
    for item, is_finite in zip(items, finite, strict=True):
        if not is_finite:
            item.error = ImageError("non_finite", "the tensor has values that are NaN or infinite")
    ready = [item for item in items if item.error is None]
    if ready:
        _infer(ready, tensors[finite], engine, features=needs_features(classifier, options))
        _measure(ready, classifier)
        if checks is not None and checks.active:
            _check(ready, tensors[finite], engine, checks)
    noticed = () if checks is None else checks.found
    return [_predict(item, classifier, options, noticed) for item in items]


def image_error(error: Exception) -> ImageError:
    """What becomes of an exception that a single image caused: its code and text, nothing else.

    It has no traceback, which would keep the pixels in memory. What nobody expected is `internal`.
    """
    if isinstance(error, ImageError):
        return ImageError(error.code, error.message)
    if isinstance(error, UnknownSource):
        return ImageError("not_an_image", str(error))
    if isinstance(error, MemoryError):
        return ImageError("out_of_memory", "there was not enough memory for this image")
    logger.debug("unexpected error on an image", exc_info=error)
    return ImageError("internal", f"unexpected error: {_text(error)}")


def _text(error: Exception) -> str:
    try:
        return first_line(error, named=not isinstance(error, ToplabelError))
    except Exception:  # its own __str__ fails
        return type(error).__name__


def _run(
    items: Sequence[_Item],
    engine: Engine,
    classifier: Classifier,
    options: PredictOptions,
    *,
    exact: bool,
    checks: SanityChecks | None = None,
) -> None:
    """Fill in each item's logits, or its error."""
    preprocess = classifier.preprocess
    slots = _Slots(len(items), preprocess, engine)
    ready: list[_Item] = []
    for item in items:
        try:
            resized_size = None if exact else preprocess.resized_size
            image = read_image(item.source, options=options.read, resized_size=resized_size)
            slots.fill(len(ready), image, max_pixels=options.read.max_pixels)
        except Exception as error:
            item.error = image_error(error)
        else:
            item.scale, item.warnings = image.scale, image.warnings
            item.size = image.height, image.width
            ready.append(item)
    if checks is not None and checks.watches_sizes:
        checks.look_at_sizes(item.size for item in ready if item.size is not None)
    if ready:
        batch = slots.batch[: len(ready)]
        _infer(ready, batch, engine, features=needs_features(classifier, options))
        _measure(ready, classifier)
        if checks is not None and checks.active:
            _check(ready, slots.tensors(len(ready)), engine, checks)


class _Slots:
    """A batch with a place for each image: of pixels for an engine that normalises them itself.

    Args:
        count: N, the places.
        preprocess: What fills them; code of the user's gives tensors alone.
        engine: What the batch is for.
    """

    def __init__(self, count: int, preprocess: AnyPreprocess, engine: Engine) -> None:
        self._preprocess = preprocess
        self.batch: Batch
        if engine.normalises is not None and engine.normalises == preprocess:
            planes = 1 if engine.normalises.channels == "grey" else preprocess.num_channels
            self.batch = np.empty((count, *preprocess.input_size, planes), np.uint8)
        else:
            shape = count, preprocess.num_channels, *preprocess.input_size
            self.batch = np.empty(shape, np.float32)

    def fill(self, place: int, image: DecodedImage, *, max_pixels: int) -> None:
        """Put what the model sees of an image into its place.

        Raises:
            ImageError: It cannot be made.
        """
        size, slot = (image.height, image.width), self.batch[place]
        if slot.dtype == np.uint8:
            assert isinstance(self._preprocess, Preprocess)
            slot[...] = self._preprocess.resize_and_crop(
                image.pixels, original_size=size, scale=image.scale, max_pixels=max_pixels
            )
            return
        self._preprocess(
            image.pixels,
            original_size=size,
            scale=image.scale,
            max_pixels=max_pixels,
            out=slot,
        )

    def tensors(self, count: int) -> NDArray[np.float32]:
        """The first of them as tensors, float32 (N, C, H, W)."""
        if self.batch.dtype != np.uint8:
            return np.asarray(self.batch[:count], np.float32)
        return np.stack([self._preprocess.normalise(one) for one in self.batch[:count]])


def _check(
    items: Sequence[_Item], batch: NDArray[np.float32], engine: Engine, checks: SanityChecks
) -> None:
    """Let the sanity checks look at the first outputs."""
    try:
        for place, item in enumerate(items):
            if item.logits is not None:
                is_array = isinstance(item.source, np.ndarray) or is_tensor(item.source)
                checks.look(batch[place], item.logits, engine=engine if is_array else None)
    except Exception as error:  # no prediction is lost for it
        logger.debug("the sanity checks failed", exc_info=error)
        checks.active = False


def needs_features(classifier: Classifier, options: PredictOptions) -> bool:
    """Whether the engine is asked for features, too: it has to be opened with them."""
    return options.keep_features or classifier.unknown is not None


def _infer(items: Sequence[_Item], batch: Batch, engine: Engine, *, features: bool) -> None:
    """Run the engine on the batch; if that fails, on each alone, so that only the guilty fail."""
    try:
        if not features:
            for item, logits in zip(items, engine(batch), strict=True):
                item.logits = logits
            return
        for item, logits, row in zip(items, *engine.answer(batch), strict=True):
            item.logits, item.features = logits, row
    except Exception as error:
        if len(items) > 1:
            for place, item in enumerate(items):
                _infer([item], batch[place : place + 1], engine, features=features)
        else:
            code = image_error(error).code
            items[0].error = ImageError(code, f"the model failed on this image: {_text(error)}")


def _measure(items: Sequence[_Item], classifier: Classifier) -> None:
    """Fill in how far each is from the training images, of a model that knows of these."""
    if classifier.unknown is None:
        return
    for item in items:
        if item.features is None:
            continue
        try:
            item.distance = float(classifier.unknown.distance(item.features[None])[0])
        except Exception as error:
            item.error = image_error(error)


def _is_close(item: _Item, classifier: Classifier, options: PredictOptions) -> bool:
    if item.scale == 1 or item.logits is None:
        return False
    unknown = classifier.unknown
    if unknown is not None and item.distance is not None and unknown.is_close(item.distance):
        return True
    try:
        return is_close(
            item.logits,
            activation=classifier.activation,
            multi_label=classifier.multi_label,
            threshold=_threshold(classifier, options),
            temperature=classifier.temperature,
        )
    except Exception as error:
        item.error = image_error(error)
        return False


def _threshold(classifier: Classifier, options: PredictOptions) -> float | None:
    """What is asked for, else what the model's calibration says."""
    return classifier.threshold if options.threshold is None else options.threshold


def _predict(
    item: _Item, classifier: Classifier, options: PredictOptions, noticed: tuple[str, ...]
) -> Prediction:
    warnings = (*classifier.warnings, *item.warnings, *noticed)
    if item.error is not None:
        return Prediction.failed(item.name, classifier.name, item.error, warnings=warnings)
    try:
        return _rank(item, classifier, options, warnings)
    except Exception as error:
        failure = image_error(error)
        return Prediction.failed(item.name, classifier.name, failure, warnings=warnings)


def _rank(
    item: _Item, classifier: Classifier, options: PredictOptions, warnings: tuple[str, ...]
) -> Prediction:
    assert item.logits is not None
    ranking = rank(
        item.logits,
        classifier.labels,
        activation=classifier.activation,
        multi_label=classifier.multi_label,
        top_k=options.top_k,
        threshold=_threshold(classifier, options),
        temperature=classifier.temperature,
    )
    height, width = item.size or (None, None)
    return Prediction(
        source=item.name,
        label=ranking.best.label if ranking.top else None,
        index=ranking.best.index if ranking.top else None,
        score=ranking.best.score,
        top=ranking.top,
        unsure=ranking.unsure,
        warnings=warnings,
        model=classifier.name,
        width=width,
        height=height,
        multi_label=classifier.multi_label,
        scores=classifier.scores(item.logits).astype(np.float16) if options.all_scores else None,
        logits=item.logits.copy() if options.keep_logits else None,  # not the whole batch's
        features=_features(item, options),
        unknown=_is_unknown(item, classifier),
    )


def _is_unknown(item: _Item, classifier: Classifier) -> bool | None:
    if classifier.unknown is None or item.distance is None:
        return None
    return classifier.unknown.is_unknown(item.distance)


def _features(item: _Item, options: PredictOptions) -> NDArray[np.float32] | None:
    """The features that were asked for.

    Raises:
        ImageError: `non_finite`, where one is NaN or infinite.
    """
    if not options.keep_features or item.features is None:
        return None
    if not np.isfinite(item.features).all():
        raise ImageError(
            "non_finite",
            "the model's features for this image are NaN or infinite; its weights or input are"
            " broken",
        )
    return item.features.copy()
