"""A model and held-out images in; the model with calibrated scores and a threshold out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.options import suggests_names
from toplabel.analysis.data.dataset import Dataset, match_classes, read_dataset
from toplabel.analysis.evaluate.evaluation import Outputs, run_model
from toplabel.analysis.evaluate.metrics import calibration_error, log_losses
from toplabel.analysis.thresholds import check_threshold, choose_threshold
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.file import check_target, pack
from toplabel.errors import ModelError, UsageError
from toplabel.inference.predictor import Predictor
from toplabel.inference.scoring import probabilities
from toplabel.models.load import shared_predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle

_MIN_IMAGES = 40
"""That could be labelled; half of them fit, half check."""

_SEED = 0
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.02, 50.0


@dataclass(frozen=True, slots=True)
class Quality:
    """How well calibrated scores are, on images that fitted nothing.

    `ece`: expected calibration error of the best score, 15 bins. `nll`: mean negative log
    likelihood of the true class.
    """

    ece: float
    nll: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A model's calibration, and how good it is.

    Args:
        model: Its name, in full.
        calibration: The temperature and the threshold.
        fitted_on: How many images they were fitted on.
        checked_on: How many other images what follows was measured on.
        accuracy: Of all predictions.
        before: Without the temperature.
        after: With it.
        curve: (threshold, coverage, precision), the highest threshold first, at most 200.
        notes: What to know about it, one sentence each.
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
            "before": asdict(self.before),
            "after": asdict(self.after),
            "curve": [list(point) for point in self.curve],
            "notes": list(self.notes),
        }


@suggests_names
def calibrate(
    model: Predictor | str | os.PathLike[str] | None,
    data: Dataset | str | os.PathLike[str],
    *,
    precision: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Calibrate a model's scores, and choose the threshold below which it is unsure.

    Half of the images of each class fit the temperature and choose the threshold; the other half
    measures how good they are. The model must not have been trained on these images: its scores
    for them are higher than for others.

    Args:
        model: A predictor, or what `load` takes.
        data: Images of known classes, as `evaluate` takes them.
        precision: To reach among predictions that are not `unsure`, in (0, 1); None: no threshold.
        progress: Called with the number of images done, and of those that failed.

    Raises:
        UsageError: There are too few images, or no threshold reaches the precision.
        LabelsError: Their classes do not match the model's labels.
        ModelError: Its outputs are not logits of exclusive classes, or it runs in PyTorch only.
        MissingDependency: `toplabel[evaluate]` is not installed.
    """
    require("sklearn", extra="evaluate", purpose="calibrating a model")
    if precision is not None and not 0 < precision < 1:
        raise UsageError(f"got precision {precision!r}; expected a number between 0 and 1")
    predictor = model if isinstance(model, Predictor) else shared_predictor(model)
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    bundle = _bundle_of(predictor)
    matching = match_classes(dataset.classes, predictor.labels, model=predictor.name)
    outputs = run_model(predictor, dataset, matching, progress=progress)
    if len(outputs.known) < _MIN_IMAGES:
        raise UsageError(
            f"{len(outputs.known)} of {len(dataset)} images could be labelled; calibration needs"
            f" at least {_MIN_IMAGES}, and works best with a thousand or more"
        )
    found = _calibrated(outputs, bundle, predictor.name, precision)
    return replace(found, notes=(*found.notes, *predictor.warnings))


def _bundle_of(predictor: Predictor) -> Bundle:
    """The bundle that will hold the calibration."""
    predictor.compile()
    classifier = predictor.classifier
    if classifier.activation != "softmax":
        kind = "is a multi-label model" if classifier.multi_label else "outputs probabilities"
        raise ModelError(
            f"{predictor.name} {kind}; temperature scaling needs logits of exclusive classes"
        )
    if classifier.bundle is None:
        raise ModelError(
            f"cannot calibrate {predictor.name}, which cannot be saved as a bundle:"
            f" {classifier.unsaved or 'it could not be compiled'}"
        )
    return classifier.bundle


def _calibrated(outputs: Outputs, bundle: Bundle, name: str, precision: float | None) -> Calibrated:
    fitting = _half(outputs.known)
    notes: list[str] = []
    temperature, fitted = 1.0, (outputs.logits[fitting], outputs.known[fitting])
    if has_best_temperature(*fitted):
        temperature = fit_temperature(*fitted)
    else:
        notes.append(_without_temperature(outputs, fitting))
    scores = probabilities(outputs.logits / temperature, "softmax")
    best, right = scores.max(axis=1), outputs.best == outputs.known
    calibration = Calibration(
        temperature=temperature,
        images=len(outputs.known),
        digest=outputs.dataset.digest,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    if precision is not None:
        calibration = _with_threshold(calibration, best, right, fitting, precision)
        if calibration.low is not None and calibration.low < precision:
            notes.append(
                f"the checking half is too small to confirm a precision of {precision:g}: its"
                f" interval starts at {calibration.low:.3f}; more images narrow it"
            )
    if bundle.calibration is not None:
        notes.append("replaced the calibration that the model had")
    checking, raw = ~fitting, probabilities(outputs.logits, "softmax")
    return Calibrated(
        model=name,
        calibration=calibration,
        fitted_on=int(fitting.sum()),
        checked_on=int(checking.sum()),
        accuracy=float(right[checking].mean()),
        before=_quality(raw[checking], outputs.known[checking]),
        after=_quality(scores[checking], outputs.known[checking]),
        curve=_curve(best[checking], right[checking]),
        notes=tuple(notes),
        _bundle=replace(bundle, calibration=calibration),
    )


def _without_temperature(outputs: Outputs, fitting: NDArray[np.bool_]) -> str:
    """Why the scores stay as they are."""
    count = int(fitting.sum())
    if (outputs.best[fitting] == outputs.known[fitting]).all():
        return (
            f"all of the {count} images that fit the temperature are right, which says nothing of"
            " how sure to be: scores stay as they are; use more images, or harder ones"
        )
    return (
        f"on the {count} images that fit the temperature the true class has no higher output than"
        " the others: scores stay as they are; check the images' classes with toplabel evaluate"
    )


def _half(known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for half of the images of each class, chosen at random with a fixed seed."""
    order = np.random.default_rng(_SEED).permutation(len(known))
    order = order[np.argsort(known[order], kind="stable")]  # class by class, mixed within
    half = np.zeros(len(known), np.bool_)
    half[order[::2]] = True
    return half


def _with_threshold(
    calibration: Calibration,
    best: NDArray[np.float64],
    right: NDArray[np.bool_],
    fitting: NDArray[np.bool_],
    precision: float,
) -> Calibration:
    threshold = choose_threshold(best[fitting], right[fitting], precision=precision)
    if threshold is None:
        raise UsageError(
            f"no threshold reliably reaches a precision of {precision:g} on these"
            f" {int(fitting.sum())} images, of which {right[fitting].mean():.1%} are right; ask for"
            " a lower precision, or use more images"
        )
    checked = check_threshold(best[~fitting], right[~fitting], threshold=threshold)
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
    return Quality(error, float(log_losses(scores, known).mean()))


def _curve(
    best: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[tuple[float, float, float], ...]:
    order = np.argsort(-best, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    points = np.unique(np.linspace(0, len(order) - 1, 200).astype(np.int64))
    return tuple(
        (float(best[order][i]), (int(i) + 1) / len(order), float(precision[i])) for i in points
    )


def has_best_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> bool:
    """Whether one temperature is more likely than all others.

    None is where every image is right: the lower the better, without end; nor where the true class
    has no higher output than others on average: the higher.

    Args:
        logits: float32 (M, K).
        truth: int (M,), the class of each.
    """
    true = logits[np.arange(len(truth)), truth]
    is_true = np.arange(logits.shape[1]) == truth[:, None]
    others = np.where(is_true, -np.inf, logits).max(axis=1)
    return not (true > others).all() and float(true.mean()) > float(logits.mean())


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature that maximises the likelihood of these images, from 0.02 to 50.

    Args:
        logits: float32 (M, K).
        truth: int (M,), the class of each.
    """
    from scipy.optimize import minimize_scalar

    values = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        likely = scaled[np.arange(len(truth)), truth] - np.logaddexp.reduce(scaled, axis=1)
        return float(-likely.mean())

    bounds = (np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
