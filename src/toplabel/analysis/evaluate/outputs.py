"""Answers: labelled images through a predictor, and what it said of each, one row an image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.ordered_map import chunked, ordered_map
from toplabel.inference.prediction import Failure, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from toplabel.analysis.data import LabelledImages, Matching
    from toplabel.inference.predictor import Predictor


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model said of N labelled images.

    Args:
        images: They.
        truth: int (N,): the class index of each by the model's labels.
        read: bool (N,): False where an image could not be labelled.
        logits: float32 (M, K): the model's outputs for the M that could be, in order.
        scores: float64 (M, K): the same as scores, as predictions have them.
        failures: Index of an image -> why it could not.
    """

    images: LabelledImages
    truth: NDArray[np.int64]
    read: NDArray[np.bool_]
    logits: NDArray[np.float32]
    scores: NDArray[np.float64]
    failures: dict[int, Failure]

    @property
    def known(self) -> NDArray[np.int64]:
        """The class indices of the images that could be labelled: int (M,)."""
        return self.truth[self.read]

    @property
    def best(self) -> NDArray[np.int64]:
        """The predicted class of each of them: int (M,)."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image is labelled rightly; one that could not be is not: bool (N,)."""
        right = np.zeros(len(self.truth), np.bool_)
        right[self.read] = self.best == self.known
        return right

    @property
    def codes(self) -> Counter[str]:
        """How many images failed with each code."""
        return Counter(failure.code for failure in self.failures.values())


def answer_all(
    predictor: Predictor,
    images: LabelledImages,
    matching: Matching,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Label all images by the same code as every prediction, large JPEGs always in full.

    Holds the outputs of all: 4 K bytes an image, 200 MB for 50,000 of 1,000 classes.

    Args:
        predictor: The model.
        images: N of them.
        matching: Their classes among the model's.
        progress: Called with the number of images done, and of those that failed.
    """
    many = predictor.many(top_k=1, exact=True, keep_logits=True)
    rows = np.empty((len(images), len(predictor.labels)), np.float32)
    read = np.zeros(len(images), np.bool_)
    failures: dict[int, Failure] = {}
    done = 0
    numbered = enumerate(images.sources)
    chunks = chunked(numbered, many.chunk_size, singles=many.workers)
    for predictions in ordered_map(many.label, chunks, workers=many.workers):
        predictor.pass_warnings_on()
        for prediction in predictions:
            _keep(prediction, done, rows, read, failures)
            done += 1
        if progress is not None:
            progress(done, len(failures))
    truth = np.array([matching.indices[name] for name in images.names], np.int64)
    logits = rows[read]
    classifier = predictor.classifier
    return Answers(images, truth, read, logits, classifier.scores(logits), failures)


def _keep(
    prediction: Prediction,
    place: int,
    rows: NDArray[np.float32],
    read: NDArray[np.bool_],
    failures: dict[int, Failure],
) -> None:
    if prediction.error is not None:
        failures[place] = prediction.error
        return
    assert prediction.logits is not None
    rows[place] = prediction.logits
    read[place] = True
