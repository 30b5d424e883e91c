"""A model and labelled photos in; how often it is right on corrupted copies of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.notebook import bar_in_notebook
from toplabel._internal.ordered_map import ordered_map
from toplabel._internal.statistics import wilson_interval
from toplabel.analysis.evaluate.corruptions import (
    CORRUPTIONS,
    SHORTER_SIDE,
    STRENGTHS,
    corrupt,
    corrupt_all,
)
from toplabel.analysis.evaluate.metrics import Estimate
from toplabel.errors import ModelError
from toplabel.image.reading import read_image
from toplabel.inference.predictor import FEW_IMAGES, Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.evaluate.evaluation import Outputs
    from toplabel.image.options import ReadOptions
    from toplabel.inference.batch import BatchLabeller
    from toplabel.inference.prediction import Prediction
    from toplabel.labels.labels import Labels
    from toplabel.preprocess.custom import AnyPreprocess

CLEAN = "clean"
MAX_WORST = 24
_EVERY = [(one, strength) for one in CORRUPTIONS for strength in STRENGTHS]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptedMetrics:
    """Metrics on images that are corrupted in one way, over those that are readable uncorrupted.

    Args:
        corruption: Its name, or "clean".
        strength: 1 to 3; 0 of clean images.
        setting: What that is, in words.
        accuracy: With a 95 % interval (Wilson's); an image that failed counts as wrong.
        balanced_accuracy: The mean recall of the classes that occur.
        labels_kept: Share of images with the label that they have uncorrupted.
        mean_score: Of the predicted labels; None where all images failed.
        unknown: Share of images said to be unknown; None for a model that never says so.
        failed: Images that could not be labelled.
    """

    corruption: str
    strength: int
    setting: str
    accuracy: Estimate
    balanced_accuracy: float
    labels_kept: float
    mean_score: float | None
    unknown: float | None
    failed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LostImage:
    """An image that is labelled correctly, and wrongly once corrupted."""

    source: str
    label: str
    corruption: str
    strength: int
    predicted: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """What corruptions do to a model's labels.

    Args:
        images: Those that are readable uncorrupted; each was corrupted in every way.
        clean: The metrics without corruption.
        corrupted: Each corruption at each strength, in the order of `CORRUPTIONS`.
        worst: Images whose label is lost, the highest score of a wrong label first; each once.
        show: What one of these looks like corrupted: uint8 (H, W, 3); None where it is gone.
    """

    images: int
    clean: CorruptedMetrics
    corrupted: tuple[CorruptedMetrics, ...]
    worst: tuple[LostImage, ...]
    show: Callable[[LostImage], NDArray[np.uint8] | None] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """The mean accuracy over all corruptions and strengths."""
        return float(np.mean([one.accuracy.value for one in self.corrupted]))

    def of(self, corruption: str) -> tuple[CorruptedMetrics, ...]:
        """The metrics of one corruption, by strength."""
        return tuple(one for one in self.corrupted if one.corruption == corruption)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "images": self.images,
            "mean_accuracy": self.accuracy,
            "results": [one.to_dict() for one in (self.clean, *self.corrupted)],
            "worst": [asdict(one) for one in self.worst],
        }


def measure_robustness(
    predictor: Predictor,
    outputs: Outputs,
    labels: Labels,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Label each readable image again in every way it can be corrupted.

    A photo is first resized to what the model itself resizes it to, but not to less than 256 pixels
    on its shorter side; then it is corrupted, and goes through the code of every prediction.

    Args:
        predictor: The model, of exclusive classes.
        outputs: Its outputs for the uncorrupted images, at least one of which is readable.
        labels: What its classes are called.
        progress: Called with the number of corrupted images done, and of those that failed.

    Raises:
        ModelError: It takes arrays that are no photos.
    """
    if isinstance(getattr(predictor.preprocess, "channels", "rgb"), int):
        raise ModelError(
            f"{predictor.name} takes arrays of {predictor.preprocess.num_channels} channels;"
            " corruptions are defined for photos"
        )
    places = np.flatnonzero(outputs.readable)
    sources = [outputs.dataset.sources[place] for place in places]
    many = len(sources) * len(_EVERY) > FEW_IMAGES
    labeller = predictor.batch_labeller(top_k=1, sanity_checks=False, many=many)
    load = partial(load_photo, read=predictor.read, preprocess=predictor.preprocess)
    work = partial(_label_corrupted, labeller=labeller, load=load, bgr=predictor.read.bgr)
    found = _Found.empty(len(sources))
    failed = 0
    total = len(sources) * len(_EVERY)
    with bar_in_notebook(progress, what="corruptions", total=total) as update:
        for row, predictions in enumerate(ordered_map(work, sources, workers=labeller.workers)):
            failed += found.add(row, predictions)
            if update is not None:
                update((row + 1) * len(_EVERY), failed)
    detects = predictor.classifier.unknown is not None
    return Robustness(
        images=len(sources),
        clean=_clean(outputs),
        corrupted=tuple(_corrupted(outputs, found, detects=detects)),
        worst=_worst(outputs, sources, found, labels),
        show=partial(_show, load=load),
    )


def working_size(height: int, width: int, preprocess: AnyPreprocess) -> tuple[int, int]:
    """The (height, width) at which a photo is corrupted, in its shape, never enlarged."""
    rows, columns = preprocess.resized_size(height, width)
    scale = max(rows / height, columns / width, SHORTER_SIDE / min(height, width))
    if scale >= 1:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


def load_photo(
    source: object, *, read: ReadOptions, preprocess: AnyPreprocess
) -> NDArray[np.uint8]:
    """The image as it is corrupted: uint8 (H, W, 3), of `working_size`.

    Raises:
        ImageError: It cannot be read.
    """
    from PIL import Image

    pixels = read_image(source, options=read).pixels
    height, width = working_size(pixels.shape[0], pixels.shape[1], preprocess)
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


Load = Callable[[str], "NDArray[np.uint8]"]


def _show(one: LostImage, *, load: Load) -> NDArray[np.uint8] | None:
    try:
        return corrupt(load(one.source), one.corruption, one.strength)
    except Exception:  # moved or changed: a report never fails for one image
        return None


def _label_corrupted(
    source: str, *, labeller: BatchLabeller, load: Load, bgr: bool
) -> list[Prediction | None]:
    """The prediction for each corruption at each strength; None where it could not be made."""
    try:
        images = list(corrupt_all(load(source)))
    except Exception:  # it was readable before: it has been moved, or memory is short
        return [None] * len(_EVERY)
    if bgr:  # arrays are read in that order
        images = [image[..., ::-1] for image in images]
    predictions: list[Prediction | None] = []
    for first in range(0, len(images), labeller.batch_size):
        batch = images[first : first + labeller.batch_size]
        predictions += [
            None if one.error is not None else one for one in labeller.label([*enumerate(batch)])
        ]
    return predictions


@dataclass(frozen=True, slots=True)
class _Found:
    """Of M images in all W ways: the predicted class, -1 where there is none; score; unknown."""

    index: NDArray[np.int64]
    score: NDArray[np.float64]
    unknown: NDArray[np.bool_]

    @classmethod
    def empty(cls, images: int) -> _Found:
        shape = (images, len(_EVERY))
        return cls(np.full(shape, -1), np.full(shape, np.nan), np.zeros(shape, np.bool_))

    def add(self, row: int, predictions: Sequence[Prediction | None]) -> int:
        """Keep an image's predictions; how many failed."""
        for place, one in enumerate(predictions):
            if one is not None and one.index is not None:
                self.index[row, place], self.score[row, place] = one.index, one.score
                self.unknown[row, place] = one.unknown is True
        return int((self.index[row] < 0).sum())


def _clean(outputs: Outputs) -> CorruptedMetrics:
    unknown = None if outputs.unknown is None else float(outputs.unknown.mean())
    score = outputs.scores.max(axis=1)
    return _metrics(outputs, outputs.best, score, unknown=unknown, way=(CLEAN, 0, ""))


def _corrupted(outputs: Outputs, found: _Found, *, detects: bool) -> Iterator[CorruptedMetrics]:
    for place, (one, strength) in enumerate(_EVERY):
        yield _metrics(
            outputs,
            found.index[:, place],
            found.score[:, place],
            unknown=float(found.unknown[:, place].mean()) if detects else None,
            way=(one.name, strength, one.setting(strength)),
        )


def _metrics(
    outputs: Outputs,
    index: NDArray[np.int64],
    score: NDArray[np.float64],
    *,
    unknown: float | None,
    way: tuple[str, int, str],
) -> CorruptedMetrics:
    known = outputs.known
    right, done = index == known, index >= 0
    low, high = wilson_interval(int(right.sum()), len(right))
    _, classes = np.unique(known, return_inverse=True)
    recalls = np.bincount(classes, right) / np.bincount(classes)
    corruption, strength, setting = way
    return CorruptedMetrics(
        corruption=corruption,
        strength=strength,
        setting=setting,
        accuracy=Estimate(float(right.mean()), low, high),
        balanced_accuracy=float(recalls.mean()),
        labels_kept=float((index == outputs.best).mean()),
        mean_score=float(score[done].mean()) if done.any() else None,
        unknown=unknown,
        failed=int((~done).sum()),
    )


def _worst(
    outputs: Outputs, sources: Sequence[str], found: _Found, labels: Labels
) -> tuple[LostImage, ...]:
    known = outputs.known
    lost = (outputs.best == known)[:, None] & (found.index != known[:, None]) & (found.index >= 0)
    confidence = np.where(lost, found.score, -1.0)
    highest, ways = confidence.max(axis=1), confidence.argmax(axis=1)
    order = np.argsort(-highest, kind="stable")[:MAX_WORST]
    return tuple(
        LostImage(
            source=sources[row],
            label=labels[int(known[row])],
            corruption=_EVERY[ways[row]][0].name,
            strength=_EVERY[ways[row]][1],
            predicted=labels[int(found.index[row, ways[row]])],
            score=float(highest[row]),
        )
        for row in order
        if highest[row] >= 0
    )
