"""The result of a training: the model, how good it is on photos it has not seen, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.text import percent
from toplabel.errors import CheckpointError, UsageError

_MOST_SHOWN = 20
"""Classes in a notebook."""

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle
    from toplabel.bundle.calibration import Calibration
    from toplabel.inference.predictor import Predictor


WEIGHTS_MARK = "toplabel"
"""In the metadata of the weights that a training writes: by which version."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningFacts:
    """What came of training all of the network.

    Args:
        kept: Whether it is the model; else the frozen head is, because nothing was better.
        epoch: The best one, from 1; 0: the frozen head.
        epochs: How many there were.
        accuracy: Of the best epoch on the held-out images, which chose it.
        frozen_accuracy: Of the frozen head on the same images.
        learned: Images that the network learned from.
        held_out: Images that decided.
        device: That it ran on.
        seconds: That it took.
    """

    kept: bool
    epoch: int
    epochs: int
    accuracy: float
    frozen_accuracy: float
    learned: int
    held_out: int
    device: str
    seconds: float

    def __str__(self) -> str:
        frozen = f"{100 * self.frozen_accuracy:.1f} %"
        if not self.epochs:
            return (
                f"the frozen head is kept: it predicts all of {self.held_out:,} held-out images"
                " right, so that training all of the network had nothing to gain"
            )
        if not self.kept:
            return (
                f"the frozen head is kept: it predicts {frozen} of {self.held_out:,} held-out"
                f" images right, and {self.epochs} epochs of training all of the network came to no"
                " more"
            )
        return (
            f"all of the network was trained on {self.learned:,} images;"
            f" {self.held_out:,} others, of which the accuracy is told, chose epoch {self.epoch} of"
            f" {self.epochs}: {100 * self.accuracy:.1f} % of them right, {frozen} by the frozen"
            " head"
        )


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Whether mirrored and cropped copies helped, by images that no head was fitted on.

    Args:
        copies: How many there were.
        kept: Whether the model was fitted on them, too.
        accuracy: Out of fold, with the copies and the prior as trained.
        accuracy_without: The same without them.
        loss: The mean negative log likelihood of the true class with them, calibrated.
        loss_without: The same without them.
    """

    copies: int
    kept: bool
    accuracy: float
    accuracy_without: float
    loss: float
    loss_without: float

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "not kept, as they do not clearly help"
        return (
            f"{self.copies:,} mirrored and cropped copies: {verdict} (accuracy"
            f" {percent(self.accuracy)} with them, {percent(self.accuracy_without)} without; log"
            f" loss {self.loss:.3f} and {self.loss_without:.3f})"
        )


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
        sources: The N images, as they were named; "<kept image 0>" and so on stand for what the
            bundle that was gone on from kept.
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
        unknown: What tells images that are unlike these: its threshold, its rates; None where
            nothing does.
        augmentation: Whether mirrored and cropped copies helped; None where none were tried.
        seconds: What it took.
        notices: What to know about it, one sentence each.
        fine_tuning: What came of training all of the network, where that was asked for. Where it
            was better, the N images, and all that is measured on them, are those that were held
            out; of these, either half is predicted by the epoch that the other half chose.
        network: Then the network that was trained, a `torch.nn.Module` in eval mode.
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
    fine_tuning: FineTuningFacts | None = None
    network: Any = field(default=None, repr=False)
    augmentation: Augmentation | None = None

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

        Where all of the network was trained, its weights are written beside it, as safetensors:
        `mine.safetensors` beside `mine.toplabel`. They have the temperature and the prior in their
        last layer, and say class names and preprocessing.

        Raises:
            UsageError: There is a folder at `path`, or a file that is no bundle; or other weights
                stand beside it.
            BundleError: The file cannot be written.
        """
        from toplabel.bundle.file import pack

        if self.network is None:
            pack(self.bundle, path)
            return
        from toplabel.training.fine_tune_result import save_network  # imports torch

        check_weights_target(path)
        pack(self.bundle, path)
        save_network(self, weights_path(path))

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
            "fine_tuning": None if self.fine_tuning is None else asdict(self.fine_tuning),
            "augmentation": None if self.augmentation is None else asdict(self.augmentation),
            "seconds": self.seconds,
            "notices": list(self.notices),
        }

    def __repr__(self) -> str:
        return (
            f"<TrainingResult {self.name}, {len(self.classes)} classes, accuracy"
            f" {self.accuracy:.1%} ({self.low:.1%} to {self.high:.1%})>"
        )

    def _repr_html_(self) -> str:
        """HTML for a notebook, escaped: each class with its images, and what to do next."""
        from toplabel.inference.notebook import table_html  # only there
        from toplabel.training.advice import advise

        classes = [
            (one.name, f"{one.images:,} images, recall {percent(one.recall)}")
            for one in self.classes[:_MOST_SHOWN]
        ]
        return table_html(repr(self)[1:-1], [*classes, *(("next", text) for text in advise(self))])


def weights_path(path: str | os.PathLike[str]) -> Path:
    """Where the weights of a trained network stand, beside its bundle."""
    bundle = Path(path)
    stem = bundle.stem if bundle.suffix == ".toplabel" else bundle.name
    return bundle.with_name(f"{stem}.safetensors")


def check_weights_target(path: str | os.PathLike[str]) -> None:
    """Stop where weights that no training has written stand beside a bundle.

    Raises:
        UsageError: It names the file.
    """
    from toplabel.models.checkpoint.header import read_checkpoint_info  # where one is fine-tuned

    weights = weights_path(path)
    if not weights.exists():
        return
    try:
        is_own = WEIGHTS_MARK in read_checkpoint_info(weights).metadata
    except CheckpointError:
        is_own = False
    if not is_own:
        raise UsageError(
            f"cannot write {str(weights)!r}, beside the bundle: a file that is not of a training"
            " exists there; choose another name for the bundle"
        )
