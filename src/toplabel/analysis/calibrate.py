"""A model and held-out images in; the model with calibrated scores and a threshold out.

Or a model and a class prior in, without images; the model with that prior out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.options import suggests_names
from toplabel._internal.text import number_of
from toplabel.analysis.data.dataset import Dataset, match_classes, read_dataset
from toplabel.analysis.evaluate.evaluation import Outputs, run_model
from toplabel.analysis.evaluate.metrics import calibration_error, log_losses
from toplabel.analysis.prior import AS_TRAINED, PriorLike, read_prior
from toplabel.analysis.temperature import fit_temperature, has_best_temperature
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
    from toplabel.labels.labels import Labels

_MIN_IMAGES = 40
"""That could be labelled; half of them fit, half check."""

_SEED = 0
_FAR_OFF = 1.5
"""Times what the prior says: a class that is so much more often among the images is told of."""


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
        calibration: The temperature, the threshold and the class prior.
        fitted_on: How many images the first two were fitted on; 0 where only the prior was set.
        checked_on: How many other images what follows was measured on.
        accuracy: Of all predictions; None without images, as `before` and `after`.
        before: Without the temperature.
        after: With it.
        curve: (threshold, coverage, precision), the highest threshold first, at most 200.
        notes: What to know about it, one sentence each.
    """

    model: str
    calibration: Calibration
    fitted_on: int
    checked_on: int
    accuracy: float | None
    before: Quality | None
    after: Quality | None
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
            "before": self.before and asdict(self.before),
            "after": self.after and asdict(self.after),
            "curve": [list(point) for point in self.curve],
            "notes": list(self.notes),
        }


@suggests_names
def calibrate(
    model: Predictor | str | os.PathLike[str] | None,
    data: Dataset | str | os.PathLike[str] | None = None,
    *,
    precision: float | None = None,
    prior: PriorLike | None = None,
    trained_prior: PriorLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Calibrate a model's scores, and choose the threshold below which it is unsure.

    Half of the images of each class fit the temperature and choose the threshold; the other half
    measures how good they are. The model must not have been trained on these images: its scores
    for them are higher than for others. They should hold each class as often as it will come.

    With `prior` the model is told how often each class comes where it is used, if that differs from
    how often it saw it in training; that needs no images:

    >>> import toplabel
    >>> toplabel.calibrate("mine.toplabel", prior="balanced").save("balanced.toplabel")

    Args:
        model: A predictor, or what `load` takes.
        data: Images of known classes, as `evaluate` takes them; None where only the prior is set.
        precision: To reach among predictions that are not `unsure`, in (0, 1); None: no threshold.
        prior: "balanced"; a share for each class, as text ("cat=0.9,dog=0.1"), mapping or sequence
            in the order of the labels, with sum 1, or whole numbers that count; a folder with one
            sub-folder per class, whose images are counted; or "as-trained". None: the model's.
        trained_prior: How often it saw each class in training, stated in the same ways; needed
            where the model does not say it.
        progress: Called with the number of images done, and of those that failed.

    Raises:
        UsageError: There are too few images, no threshold reaches the precision, or a prior is not
            stated as it should be.
        LabelsError: Their classes do not match the model's labels.
        ModelError: Its outputs are not logits of exclusive classes, or it runs in PyTorch only.
        MissingDependency: `toplabel[evaluate]` is not installed, which images need.
    """
    if data is None:
        if prior is None and trained_prior is None:
            raise UsageError("got neither labelled images nor a prior; expected one of them")
        if precision is not None:
            raise UsageError("got a precision, but no labelled images to reach it on")
    else:
        require("sklearn", extra="evaluate", purpose="calibrating a model")
    if precision is not None and not 0 < precision < 1:
        raise UsageError(f"got precision {precision!r}; expected a number between 0 and 1")
    predictor = model if isinstance(model, Predictor) else shared_predictor(model)
    dataset = data if isinstance(data, Dataset) or data is None else read_dataset(data)
    bundle = _bundle_of(predictor)
    priors = _priors(bundle, prior, trained_prior)
    if dataset is None:
        found = _of_prior(bundle, priors)
        return replace(found, notes=(*found.notes, *predictor.warnings))
    matching = match_classes(dataset.classes, predictor.labels, model=predictor.name)
    outputs = run_model(predictor, dataset, matching, progress=progress)
    if len(outputs.known) < _MIN_IMAGES:
        raise UsageError(
            f"{len(outputs.known)} of {number_of(len(dataset), 'image')} could be labelled;"
            f" calibration needs at least {_MIN_IMAGES}, and works best with a thousand or more"
        )
    found = _calibrated(outputs, bundle, priors, precision)
    return replace(found, notes=(*found.notes, *predictor.warnings))


def _priors(
    bundle: Bundle, prior: PriorLike | None, trained_prior: PriorLike | None
) -> Calibration:
    """What the model's priors are from now on, in a calibration that says nothing else.

    Raises:
        UsageError: A prior is asked for, and nobody says what the classes were in training.
    """
    known = bundle.calibration or Calibration(temperature=1.0)
    seen, wanted = known.trained_prior, known.prior
    if trained_prior is not None:
        seen = read_prior(trained_prior, bundle.labels, argument="trained_prior", model=bundle.name)
    if isinstance(prior, str) and prior == AS_TRAINED:
        wanted = None
    elif prior is not None:
        wanted = read_prior(prior, bundle.labels, model=bundle.name)
    if wanted is not None and seen is None:
        raise UsageError(
            f"{bundle.name} does not say how often it saw each class in training, which a prior is"
            " measured against: pass trained_prior='FOLDER' with its training images, or"
            " trained_prior='balanced' if it saw all of them alike"
        )
    return Calibration(temperature=1.0, trained_prior=seen, prior=wanted)


def _of_prior(bundle: Bundle, priors: Calibration) -> Calibrated:
    """The model with these priors, and with the temperature that it has."""
    known = bundle.calibration or Calibration(temperature=1.0)
    calibration = replace(known, trained_prior=priors.trained_prior, prior=priors.prior)
    notes = []
    if known.threshold is not None and known.prior != calibration.prior:
        wished = "" if known.wished is None else f" for a precision of {known.wished:g}"
        notes.append(
            f"the threshold was chosen{wished} with another class prior, and is left out; calibrate"
            " with labelled images to choose it again"
        )
        calibration = _without_threshold(calibration)
    return Calibrated(
        model=bundle.name,
        calibration=calibration,
        fitted_on=0,
        checked_on=0,
        accuracy=None,
        before=None,
        after=None,
        curve=(),
        notes=tuple(notes),
        _bundle=replace(bundle, calibration=calibration),
    )


def _without_threshold(calibration: Calibration) -> Calibration:
    return replace(
        calibration,
        threshold=None,
        wished=None,
        precision=None,
        low=None,
        high=None,
        coverage=None,
    )


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


def _calibrated(
    outputs: Outputs, bundle: Bundle, priors: Calibration, precision: float | None
) -> Calibrated:
    fitting = _half(outputs.known)
    notes: list[str] = []
    logits, shift = outputs.logits - _shift(bundle.calibration), _shift(priors)
    temperature, fitted = 1.0, (logits[fitting], outputs.known[fitting])
    if has_best_temperature(*fitted):
        temperature = fit_temperature(*fitted, shift=shift)
    else:
        notes.append(_without_temperature(outputs, fitting))
    shifted = logits / temperature + shift
    scores = probabilities(shifted, "softmax")
    best, right = scores.max(axis=1), shifted.argmax(axis=1) == outputs.known
    calibration = replace(
        priors,
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
    notes += _of_shares(priors.prior, outputs, bundle.labels)
    if bundle.calibration is not None and bundle.calibration != bundle.calibration.of_prior:
        notes.append("replaced the calibration that the model had")
    checking, raw = ~fitting, probabilities(logits + shift, "softmax")
    return Calibrated(
        model=bundle.name,
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


def _shift(calibration: Calibration | None) -> NDArray[np.float32]:
    """What a calibration adds to logits: float32 (K,), or (1,) of zero."""
    shift = None if calibration is None else calibration.shift
    return np.array((0.0,) if shift is None else shift, np.float32)


def _of_shares(prior: tuple[float, ...] | None, outputs: Outputs, labels: Labels) -> list[str]:
    """That the images' classes are not as often as the prior says, where that is so."""
    if prior is None:
        return []
    shares = np.bincount(outputs.known, minlength=len(prior)) / len(outputs.known)
    ratios = np.maximum(shares, 0.5 / len(outputs.known)) / np.array(prior)
    if ratios.max() < _FAR_OFF:
        return []
    worst = int(ratios.argmax())
    return [
        f"{labels[worst]!r} is {shares[worst]:.0%} of these images, and {prior[worst]:.1%} by"
        " the prior: what is measured here holds where classes come as often as in the images"
    ]


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
