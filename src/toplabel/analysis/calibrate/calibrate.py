"""Calibrating: a model and held-out images in, the model with scores that mean something out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.optional import require
from toplabel.analysis.calibrate.temperature_scaling import (
    check_threshold,
    choose_threshold,
    fit_temperature,
)
from toplabel.analysis.data import LabelledImages, match_classes, read_labelled
from toplabel.analysis.evaluate.metrics import calibration_error, surprises
from toplabel.analysis.evaluate.outputs import Answers, answer_all
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.file import check_target, pack
from toplabel.errors import ModelError, UsageError
from toplabel.inference.predictor import Predictor
from toplabel.inference.scoring import probabilities
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle

LEAST = 40
"""Images that could be labelled; half of them choose, half check."""

_SEED = 0


@dataclass(frozen=True, slots=True)
class Quality:
    """How well scores mean what they say, on images that fitted nothing.

    `ece`: expected calibration error of the best score, 15 bins. `nll`: mean negative log
    likelihood of the true class.
    """

    ece: float
    nll: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A model's calibration, and what it is worth.

    Args:
        model: Its name, in full.
        calibration: It.
        fitted_on: Images that chose the temperature and the threshold.
        checked_on: The others, which say what follows.
        accuracy: Of all answers.
        before: With the outputs as they were.
        after: With the temperature.
        curve: (threshold, coverage, precision), the highest threshold first, at most 200.
        notes: What to know, a sentence each.
    """

    model: str
    calibration: Calibration
    fitted_on: int
    checked_on: int
    accuracy: float
    before: Quality
    after: Quality
    curve: tuple[tuple[float, float, float], ...]
    notes: tuple[str, ...]
    _bundle: Bundle

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model with its calibration into one file, as `Predictor.save` does."""
        check_target(path)
        pack(self._bundle, path)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model,
            "calibration": self.calibration.to_dict(),
            "fitted_on": self.fitted_on,
            "checked_on": self.checked_on,
            "accuracy": self.accuracy,
            "before": {"ece": self.before.ece, "nll": self.before.nll},
            "after": {"ece": self.after.ece, "nll": self.after.nll},
            "curve": [list(point) for point in self.curve],
            "notes": list(self.notes),
        }


def calibrate(
    model: Predictor | str | os.PathLike[str] | None,
    data: LabelledImages | str | os.PathLike[str],
    *,
    precision: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Fit a temperature, and a threshold for a wished precision.

    One half of the images, class by class, chooses; the other says what that is worth. They must
    not be images that the model was trained on: its scores for those are higher than for others.

    Args:
        model: A predictor, or what `load` takes.
        data: Labelled images, or what `read_labelled` takes.
        precision: Of the answers that are not `unsure`, in (0, 1); None: no threshold.
        progress: Called with the number of images done, and of those that failed.

    Raises:
        UsageError: There are too few images, or no threshold reaches the precision.
        LabelsError: Their classes match no labels of the model.
        ModelError: Its outputs are no logits of exclusive classes, or it runs in PyTorch only.
        MissingDependency: `toplabel[evaluate]` is not installed.
    """
    require("sklearn", extra="evaluate", purpose="calibrating a model")
    if precision is not None and not 0 < precision < 1:
        raise UsageError(f"got precision {precision!r}; expected a share between 0 and 1")
    predictor = model if isinstance(model, Predictor) else shared_predictor({"model": model})
    images = data if isinstance(data, LabelledImages) else read_labelled(data)
    bundle = _calibratable(predictor)
    matching = match_classes(images.classes, predictor.labels, model=predictor.name)
    answers = answer_all(predictor, images, matching, progress=progress)
    if len(answers.known) < LEAST:
        raise UsageError(
            f"{len(answers.known)} of {len(images)} images could be labelled; calibrating needs at"
            f" least {LEAST}, better a thousand"
        )
    return _calibrated(answers, images, bundle, predictor.name, precision)


def _calibratable(predictor: Predictor) -> Bundle:
    """What the calibration is kept in."""
    predictor.compile()
    classifier = predictor.classifier
    if classifier.activation != "softmax":
        kind = {"sigmoid": "a multi-label model", "none": "a model of ready probabilities"}
        raise ModelError(
            f"{predictor.name} is {kind[classifier.activation]}; a temperature is fitted to the"
            " logits of exclusive classes"
        )
    if classifier.bundle is None:
        raise ModelError(
            f"{predictor.name} cannot be calibrated, as it runs only in PyTorch and no bundle can"
            f" keep it: {classifier.unsaved or 'it could not be compiled'}"
        )
    return classifier.bundle


def _calibrated(
    answers: Answers, images: LabelledImages, bundle: Bundle, name: str, precision: float | None
) -> Calibrated:
    choosing = _half(answers.known)
    temperature = fit_temperature(answers.logits[choosing], answers.known[choosing])
    scores = probabilities(answers.logits / temperature, "softmax")
    best, right = scores.max(axis=1), answers.best == answers.known
    calibration = Calibration(
        temperature=temperature,
        images=len(answers.known),
        digest=images.digest,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    notes: list[str] = []
    if precision is not None:
        calibration = _with_threshold(calibration, best, right, choosing, precision)
        if calibration.low is not None and calibration.low < precision:
            notes.append(
                f"the checking half is too small to prove {precision:g}: the interval begins at"
                f" {calibration.low:.3f}; more images narrow it"
            )
    if bundle.calibration is not None:
        notes.append("the calibration that the model had is replaced")
    checking, raw = ~choosing, probabilities(answers.logits, "softmax")
    return Calibrated(
        model=name,
        calibration=calibration,
        fitted_on=int(choosing.sum()),
        checked_on=int(checking.sum()),
        accuracy=float(right[checking].mean()),
        before=_quality(raw[checking], answers.known[checking]),
        after=_quality(scores[checking], answers.known[checking]),
        curve=_curve(best[checking], right[checking]),
        notes=tuple(notes),
        _bundle=replace(bundle, calibration=calibration),
    )


def _half(known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for half of the images of each class, by a fixed series of random numbers."""
    chance = np.random.default_rng(_SEED)
    order = chance.permutation(len(known))
    order = order[np.argsort(known[order], kind="stable")]  # class by class, mixed within
    half = np.zeros(len(known), np.bool_)
    half[order[::2]] = True
    return half


def _with_threshold(
    calibration: Calibration,
    best: NDArray[np.float64],
    right: NDArray[np.bool_],
    choosing: NDArray[np.bool_],
    precision: float,
) -> Calibration:
    threshold = choose_threshold(best[choosing], right[choosing], precision=precision)
    if threshold is None:
        raise UsageError(
            f"no threshold surely reaches a precision of {precision:g} on these"
            f" {int(choosing.sum())} images, {right[choosing].mean():.1%} of which are right; wish"
            " for less, or give more images"
        )
    checked = check_threshold(best[~choosing], right[~choosing], threshold=threshold)
    return replace(
        calibration,
        threshold=threshold,
        wished=precision,
        precision=checked.value,
        low=checked.low,
        high=checked.high,
        coverage=checked.coverage,
    )


def _quality(scores: NDArray[np.float64], known: NDArray[np.int64]) -> Quality:
    error = calibration_error(scores.max(axis=1), scores.argmax(axis=1) == known)
    return Quality(error, float(surprises(scores, known).mean()))


def _curve(
    best: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[tuple[float, float, float], ...]:
    order = np.argsort(-best, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    points = np.unique(np.linspace(0, len(order) - 1, 200).astype(np.int64))
    return tuple(
        (float(best[order][i]), (int(i) + 1) / len(order), float(precision[i])) for i in points
    )
