"""One batch of sources through the stages: image -> tensor -> logits -> prediction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from toplabel._internal.options import refuse_both
from toplabel._internal.text import first_line
from toplabel.errors import ImageError, ToplabelError, UsageError
from toplabel.image.files import UnknownSource
from toplabel.image.options import ReadOptions
from toplabel.image.reading import is_tensor, read_image, source_name
from toplabel.inference.cascade import ReducedWay, Way, is_audited, ways
from toplabel.inference.prediction import Audit, Prediction
from toplabel.inference.scoring import Question, rank
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.reduced import Precision
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
    fast: bool = False
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
        refuse_both(fast=self.fast, exact=self.exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLabeller:
    """How to label many images, batch after batch.

    Args:
        label: Batch in, predictions in its order out; for `workers` threads to call at once.
        batch_size: The best number of images in a batch.
        workers: The number of these threads.
        device: What the engine computes on: "cpu", "cuda:0".
    """

    label: Callable[[Sequence[Numbered]], list[Prediction]]
    batch_size: int
    workers: int
    device: str = "cpu"


@dataclass(slots=True)
class _Item:
    """One source on its way through the stages."""

    source: object
    name: str
    place: int = 0  # in the order of inputs, for the audit
    warnings: tuple[str, ...] = ()
    scale: int = 1
    size: tuple[int, int] | None = None  # (height, width)
    slot: Batch | None = None  # what the model sees of it: a row of a batch
    logits: NDArray[np.float32] | None = None  # (K,)
    features: NDArray[np.float32] | None = None  # (D,)
    distance: float | None = None  # from the training images, where the model knows of these
    precision: Precision | None = None  # of what it was answered by, where that is reduced
    claim: _Claim | None = None
    audit: Audit | None = None
    error: ImageError | None = None


@dataclass(frozen=True, slots=True)
class _Claim:
    """A reduced answer that is audited: what it says, by what, and how far from its boundaries."""

    answer: tuple[object, ...]
    by: ReducedWay
    logits: float
    distance: float | None


def label_batch(
    batch: Sequence[Numbered],
    engine: Engine,
    classifier: Classifier,
    options: PredictOptions,
    *,
    reduced: ReducedWay | None = None,
    place: int | None = None,
    checks: SanityChecks | None = None,
) -> list[Prediction]:
    """One prediction for each source, in order, whatever happens to it.

    Each has the warnings of the model, of its image, and what `checks` has noticed by now.

    Args:
        batch: The sources, numbered.
        engine: Computes exactly.
        classifier, options: The model, and what is asked of it.
        reduced: May answer where that is clear, unless the options are `exact`.
        place: That of the first source among all inputs, for the audit; None: its number.
        checks: Look at the outputs.
    """
    items = [
        _Item(source, source_name(source, index), index if place is None else place + at)
        for at, (index, source) in enumerate(batch)
    ]
    _answer(items, ways(engine, reduced, exact=options.exact), classifier, options, checks)
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
    reduced: ReducedWay | None = None,
    place: int = 0,
    checks: SanityChecks | None = None,
) -> list[Prediction]:
    """One prediction for each input of the network, in order, whatever happens to it.

    Args:
        tensors: float32 (N, C, H, W).
        engine, classifier, options: As of `label_batch`.
        first: The number of the first, in records: "<tensor 0>".
        warnings: What each record says beside what the model has.
        reduced: May answer where that is clear, unless the options are `exact`.
        place: That of the first among all inputs, for the audit.
        checks: Look at the outputs; each record says what they have noticed by now.
    """
    size = (int(tensors.shape[2]), int(tensors.shape[3]))
    items = [
        _Item(None, f"<tensor {first + at}>", place + at, warnings, size=size, slot=tensors[at])
        for at in range(len(tensors))
    ]
    for item, tensor in zip(items, tensors, strict=True):
        if not np.isfinite(tensor).all():
            item.error = ImageError("non_finite", "the tensor has values that are NaN or infinite")
    _answer(items, ways(engine, reduced, exact=options.exact), classifier, options, checks)
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


def _answer(
    items: Sequence[_Item],
    cascade: Sequence[Way],
    classifier: Classifier,
    options: PredictOptions,
    checks: SanityChecks | None,
) -> None:
    """Fill in each item's logits, or its error, by the first of the ways that is believed."""
    left = [item for item in items if item.error is None]
    for way in cascade:
        fresh = [item for item in left if item.slot is None or way.reads_more(item.scale)]
        batch = _read(fresh, way, classifier, options)
        left = [item for item in left if item.error is None]
        if checks is not None and checks.watches_sizes:
            checks.look_at_sizes(item.size for item in left if item.size is not None)
        if not left:
            break
        if len(batch) != len(left):  # some were read for an earlier way
            batch = np.stack([item.slot for item in left if item.slot is not None])
        _infer(left, batch, way.engine, features=needs_features(classifier, options))
        _measure(left, classifier)
        if checks is not None and checks.active:
            _check(left, _tensors(batch, classifier), way.engine, checks)
        checks = None  # they look at the first outputs
        left = [item for item in left if not _is_believed(item, way, classifier, options)]
    for item in items:
        if item.claim is not None and item.error is None:
            _audit(item, item.claim, classifier, options)


def _read(
    items: Sequence[_Item], way: Way, classifier: Classifier, options: PredictOptions
) -> Batch:
    """Fill in what the model sees of each item, or its error; returns those without."""
    preprocess = classifier.preprocess
    slots = _Slots(len(items), preprocess, way.engine)
    for item in items:
        try:
            resized_size = preprocess.resized_size if way.reads_scaled else None
            image = read_image(item.source, options=options.read, resized_size=resized_size)
            item.slot = slots.fill(image, max_pixels=options.read.max_pixels)
        except Exception as error:
            item.error = image_error(error)
        else:
            item.scale, item.warnings = image.scale, image.warnings
            item.size = image.height, image.width
    return slots.filled


class _Slots:
    """A batch with a place for each image: of pixels for an engine that normalises them itself.

    Args:
        count: N, the places.
        preprocess: What fills them; code of the user's gives tensors alone.
        engine: What the batch is for.
    """

    def __init__(self, count: int, preprocess: AnyPreprocess, engine: Engine) -> None:
        self._preprocess = preprocess
        self._count = 0
        self._batch: Batch
        if engine.normalises is not None and engine.normalises == preprocess:
            planes = 1 if engine.normalises.channels == "grey" else preprocess.num_channels
            self._batch = np.empty((count, *preprocess.input_size, planes), np.uint8)
        else:
            shape = count, preprocess.num_channels, *preprocess.input_size
            self._batch = np.empty(shape, np.float32)

    @property
    def filled(self) -> Batch:
        """Those that are taken."""
        return self._batch[: self._count]

    def fill(self, image: DecodedImage, *, max_pixels: int) -> Batch:
        """Put what the model sees of an image into the next place; returns that.

        Raises:
            ImageError: It cannot be made; the place stays free.
        """
        size = image.height, image.width
        slot = self._batch[self._count]
        if image.is_cropped and slot.dtype == np.uint8:
            slot[...] = image.pixels
        elif image.is_cropped:
            slot[...] = self._preprocess.normalise(image.pixels)
        elif slot.dtype == np.uint8:
            assert isinstance(self._preprocess, Preprocess)
            slot[...] = self._preprocess.resize_and_crop(
                image.pixels, original_size=size, scale=image.scale, max_pixels=max_pixels
            )
        else:
            self._preprocess(
                image.pixels,
                original_size=size,
                scale=image.scale,
                max_pixels=max_pixels,
                out=slot,
            )
        self._count += 1
        filled: Batch = slot
        return filled


def _tensors(batch: Batch, classifier: Classifier) -> NDArray[np.float32]:
    """A batch as tensors, float32 (N, C, H, W)."""
    if batch.dtype != np.uint8:
        return np.asarray(batch, np.float32)
    return np.stack([classifier.preprocess.normalise(one) for one in batch])


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


def _is_believed(item: _Item, way: Way, classifier: Classifier, options: PredictOptions) -> bool:
    """Whether the answer of this way stands, or its error; else the next one has its turn."""
    if way.reduced is not None and item.logits is None:
        item.error = None  # of the reduced program, not of the image
        return False
    if item.error is not None or item.logits is None or way.is_exact(item.scale):
        return True
    logits_margin, distance_margin = way.margins(item.scale)
    try:
        asked, unknown = question(classifier, options), classifier.unknown
        logits, distance = asked.distance(item.logits), None
        if unknown is not None and item.distance is not None:
            distance = abs(item.distance - unknown.threshold)
        near = distance is not None and not distance >= distance_margin
        if near or logits < logits_margin:
            return False
        if way.reduced is None:
            return True
        if item.claim is None and is_audited(item.place):
            answer = _said(item, asked, classifier)
            item.claim = _Claim(answer, way.reduced, logits, distance)
            return False
    except Exception as error:
        item.error = image_error(error)
        return True
    way.reduced.use.believe()
    item.precision = way.reduced.use.program.precision
    return True


def _audit(item: _Item, claim: _Claim, classifier: Classifier, options: PredictOptions) -> None:
    """Compare what the reduced program said with the exact answer, which the item has now."""
    same = _said(item, question(classifier, options), classifier) == claim.answer
    item.audit = "same" if same else "changed"
    if not same:
        claim.by.use.widen(logits=claim.logits, distance=claim.distance)


def _said(item: _Item, asked: Question, classifier: Classifier) -> tuple[object, ...]:
    """What must not change of an answer: the label, and all that is said of it."""
    assert item.logits is not None
    return (*asked.answer(item.logits), _is_unknown(item, classifier))


def question(classifier: Classifier, options: PredictOptions) -> Question:
    """What is asked of the logits."""
    return Question(
        activation=classifier.activation,
        multi_label=classifier.multi_label,
        threshold=_threshold(classifier, options),
        temperature=classifier.temperature,
    )


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
        precision=item.precision,
        audit=item.audit,
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
