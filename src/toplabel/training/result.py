"""The result of a training: the model, how good it is on photos it has not seen, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle
    from toplabel.bundle.calibration import Calibration
    from toplabel.inference.predictor import Predictor


@dataclass(frozen=True, slots=True)
class TrainedClass:
    """One class: its images, and how well they are told from the others, out of fold.

    `recall`: the share of its images that are predicted as it. `precision`: the share of what is
    predicted as it that is; 0 where nothing is. `low` and `high`: the 95 % interval of the recall.
    All with the prior that was chosen.
    """

    name: str
    images: int
    recall: float
    precision: float
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The accuracy, with its 95 % interval, that so many images reach, or would reach."""

    images: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image whose out-of-fold prediction is not the class that it was given.

    `score`: of the predicted class, in [0, 1]. `margin`: the score of its own class less that of
    the predicted one, in [-1, 0]: at -1 the model is certain of the other.
    """

    source: str
    actual: str
    predicted: str
    score: float
    margin: float


@dataclass(frozen=True, slots=True)
class Copies:
    """Images that are copies or near-copies of one another: they were kept in one fold.

    `classes` are those of the images, each in place: more than one differs where the same image
    stands under two classes.
    """

    sources: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def contradictory(self) -> bool:
        """Whether they are of different classes."""
        return len(set(self.classes)) > 1


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that could not be used: its error's code and message."""

    source: str
    code: str
    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingResult:
    """A trained model, and how good it is on photos that it was not fitted on.

    Everything is measured out of fold: the images are divided into folds, copies together, and each
    is predicted by a head that was fitted without its fold. N images could be read; K classes.

    Args:
        bundle: The model, ready to be packed.
        classes: Each class with its images, recall and precision, in the order of the outputs.
        accuracy: The share of the N images that are predicted right, with the prior that was
            chosen; `low` and `high` are its 95 % interval for other photos of the same kind.
        balanced_accuracy: The mean recall of the classes.
        plain_accuracy, plain_balanced_accuracy: The same with the prior as trained.
        sources: The N images, as they were named.
        targets: int (N,), their classes.
        scores: float32 (N, K), out of fold, calibrated, with the prior that was chosen.
        copies: Groups of two images or more that are copies or near-copies.
        mistakes: All images that are predicted wrong, the worst first.
        suspects: Those of them whose given class is probably wrong: the model is sure of another.
        curve: Accuracy at an eighth, a quarter, half and all of the images, where there are enough.
        twice: What twice the images would reach if the curve goes on as it does; None where it is
            too short to tell.
        unreadable: Images that could not be used.
        calibration: Temperature and prior.
        strength: C of the head.
        folds: How many.
        seconds: What it took.
        notices: What to know about it, one sentence each.
    """

    bundle: Bundle
    classes: tuple[TrainedClass, ...]
    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    plain_accuracy: float
    plain_balanced_accuracy: float
    sources: tuple[str, ...] = field(repr=False)
    targets: NDArray[np.int64] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    copies: tuple[Copies, ...]
    mistakes: tuple[Mistake, ...]
    suspects: tuple[Mistake, ...]
    curve: tuple[CurvePoint, ...]
    twice: CurvePoint | None
    unreadable: tuple[Unreadable, ...]
    calibration: Calibration
    strength: float
    folds: int
    seconds: float = 0.0
    notices: tuple[str, ...] = ()
    unknown: Mapping[str, Any] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class that each image is predicted as, out of fold: int (N,)."""
        return np.asarray(self.scores.argmax(axis=1))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How many images of class row are predicted as class column: int (K, K)."""
        count = len(self.classes)
        pairs = self.targets * count + self.predicted
        return np.bincount(pairs, minlength=count * count).reshape(count, count)

    @property
    def confusions(self) -> tuple[tuple[int, int, int], ...]:
        """(class, predicted class, images) of all mistakes, the most frequent first."""
        wrong = self.targets != self.predicted
        pairs = zip(self.targets[wrong].tolist(), self.predicted[wrong].tolist(), strict=True)
        return tuple((*pair, count) for pair, count in Counter(pairs).most_common())

    @property
    def name(self) -> str:
        """The model's full name."""
        return self.bundle.name

    @cached_property
    def predictor(self) -> Predictor:
        """The model, ready to label: `result.predictor("cat.jpg")`."""
        from toplabel.inference.classifier import Classifier
        from toplabel.inference.predictor import Predictor

        return Predictor(Classifier.of_bundle(self.bundle))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into one file, as `Predictor.save` does.

        Raises:
            UsageError: There is a folder at `path`, or a file that is no bundle.
            BundleError: The file cannot be written.
        """
        from toplabel.bundle.file import pack

        pack(self.bundle, path)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the training's report: one HTML page with what to do next, needing nothing else.

        Raises:
            RunError: The page cannot be written.
        """
        from toplabel.training.report.report import write_training_report  # not needed to train

        write_training_report(path, self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; without the scores of each image."""
        return {
            "model": self.name,
            "images": len(self.sources),
            "classes": [asdict(one) for one in self.classes],
            "accuracy": self.accuracy,
            "low": self.low,
            "high": self.high,
            "balanced_accuracy": self.balanced_accuracy,
            "plain_accuracy": self.plain_accuracy,
            "plain_balanced_accuracy": self.plain_balanced_accuracy,
            "confusions": [list(one) for one in self.confusions],
            "folds": self.folds,
            "strength": self.strength,
            "copies": [asdict(one) for one in self.copies],
            "mistakes": [asdict(one) for one in self.mistakes],
            "suspects": [asdict(one) for one in self.suspects],
            "curve": [asdict(one) for one in self.curve],
            "twice": None if self.twice is None else asdict(self.twice),
            "unreadable": [asdict(one) for one in self.unreadable],
            "calibration": self.calibration.to_dict(),
            "unknown": None if self.unknown is None else dict(self.unknown),
            "seconds": self.seconds,
            "notices": list(self.notices),
        }

    def __repr__(self) -> str:
        return (
            f"<TrainingResult {self.name}, {len(self.classes)} classes, accuracy"
            f" {self.accuracy:.1%} ({self.low:.1%} to {self.high:.1%})>"
        )
