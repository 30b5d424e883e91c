"""A folder of images by class in; a model that labels such images, and how good it is, out."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.notebook import bar_in_notebook
from toplabel._internal.notices import collect_warnings, warn
from toplabel._internal.optional import require
from toplabel._internal.options import takes_options
from toplabel._version import __version__
from toplabel.analysis.data.dataset import Dataset
from toplabel.analysis.prior import AS_TRAINED, read_prior
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.unknown import Memory
from toplabel.errors import ModelError, UsageError
from toplabel.inference.predictor import Predictor
from toplabel.inference.scoring import probabilities
from toplabel.models.load import load_predictor
from toplabel.models.options import InferenceOptions, ModelOptions
from toplabel.training.assess import (
    balanced_accuracy,
    class_results,
    find_copies,
    find_mistakes,
    find_suspects,
)
from toplabel.training.augment import announce, compute_variants, try_variants
from toplabel.training.copies import group_copies
from toplabel.training.data import check_counts, read_training_data
from toplabel.training.features import compute_features
from toplabel.training.folds import count_folds, divide
from toplabel.training.make_bundle import make_bundle
from toplabel.training.options import TrainOptions
from toplabel.training.out_of_fold import (
    Examples,
    OutOfFold,
    Variants,
    accuracy_interval,
    learning_curve,
    predict_out_of_fold,
    project,
)
from toplabel.training.photos import Photos, tell_of_images
from toplabel.training.previous import Previous
from toplabel.training.result import Copies, CurvePoint, Mistake, TrainingResult
from toplabel.training.unknown import choose_kept, fit_unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle
    from toplabel.bundle.unknown import UnknownDetector
    from toplabel.training.fine_tune_result import FineTuning

logger = logging.getLogger(__name__)

BALANCED = "balanced"
_UNBALANCED = 1.5
"""Times as many images in the largest class as in the smallest: above, each class is taken to be
equally frequent where the model is used."""

_SHOWN = 3
_MOST_EXAMPLES = 20_000
"""Images that a bundle keeps beyond those that tell unknown ones: 26 MB of 1,280 features."""


@takes_options(
    TrainOptions, ModelOptions, InferenceOptions, as_load=(ModelOptions, InferenceOptions)
)
def train(
    data: Dataset | str | os.PathLike[str],
    *,
    model: Predictor | str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    train_options: TrainOptions,
    model_options: ModelOptions,
    inference_options: InferenceOptions,
) -> TrainingResult:
    """Train a model on your own images, and say how good it is.

    The network of `model` describes each image; a linear head is fitted to these features. That
    takes seconds, and no PyTorch. No images need to be set apart: accuracy is measured out of fold.
    With `fine_tune` all of the network is trained from there on, in PyTorch.

    >>> import toplabel
    >>> result = toplabel.train("photos/")
    >>> result.accuracy, round(result.low, 2), result.high  # the interval of 12 photos is wide
    (1.0, 0.76, 1.0)
    >>> result.save("mine.toplabel")

    Args:
        data: A folder with one sub-folder per class, a folder of files whose names start with a
            WordNet synset, or a .csv or .tsv file of paths and labels; at least 3 images a class.
        model: Whose features are used: as `load` takes it, or a predictor; by default the built-in
            model.
        progress: Called with the numbers of images done and failed. By default a bar in notebooks,
            where tqdm is installed.

    Raises:
        UsageError: There is one class, one with too few images, or no labelled images at all.
        LabelsError: A class name is not valid text.
        ModelError: The model gives no features, or cannot be saved as a bundle.
        BundleError: The trained model cannot be written.
        ToplabelError: The model cannot be loaded; as for `load`.
    """
    if inference_options.fast:
        raise UsageError("got fast=True; training always computes exactly: leave it out")
    started, previous = time.perf_counter(), None
    with collect_warnings() as notices:
        dataset = read_training_data(data)
    if train_options.previous is None:
        check_counts(Counter(dataset.names), what="images")
    elif model is not None:
        raise UsageError(
            "got model=... and previous=...; expected one of them: a training goes on with the"
            " features of the bundle that it goes on from"
        )
    if train_options.fine_tune:
        require("torch", extra="torch", purpose="fine-tuning")
    named = train_options.previous if model is None else model
    predictor, base = _open_base(named, model_options, inference_options)
    if train_options.previous is not None:
        previous = Previous.of(base)
    tuning = _open_fine_tuning(predictor, train_options, inference_options)
    with collect_warnings() as more, predictor:
        if train_options.augment:
            announce(len(dataset))
        with bar_in_notebook(progress, what="features", total=len(dataset)) as update:
            images = compute_features(predictor, dataset.sources, progress=update)
        photos = Photos.of(dataset, images, previous)
        tell_of_images(dataset, images, photos)
        variants = None
        if train_options.augment:
            variants = compute_variants(predictor, photos.sources, progress=progress)
        predictor.close()  # its memory is needed
        result = _Work(photos, base, train_options, _name_of(data), variants, tuning).result()
    return replace(
        result, seconds=time.perf_counter() - started, notices=(*map(str, notices), *map(str, more))
    )


def _open_fine_tuning(
    predictor: Predictor, options: TrainOptions, inference: InferenceOptions
) -> FineTuning | None:
    """What is needed to train all of the network; None where that is not asked for."""
    if not options.fine_tune:
        return None
    from toplabel.training.fine_tune_result import open_fine_tuning  # imports torch

    return open_fine_tuning(predictor, options, inference)


def _open_base(
    model: Predictor | str | os.PathLike[str] | None,
    options: ModelOptions,
    inference: InferenceOptions,
) -> tuple[Predictor, Bundle]:
    """What gives the features, and the bundle that gets the head.

    Raises:
        ModelError: There is no such bundle.
    """
    found = model if isinstance(model, Predictor) else load_predictor(model, options, inference)
    found.compile()
    classifier = found.classifier
    if classifier.bundle is None and inference.needs_torch and not isinstance(model, Predictor):
        plain = load_predictor(model, options, InferenceOptions(read=inference.read))
        plain.compile()
        classifier = plain.classifier
    if classifier.bundle is None:
        raise ModelError(
            f"cannot train on {found.name}: a trained model is saved as a bundle, and"
            f" {classifier.unsaved or 'it could not be compiled'}"
        )
    # of the model's own classes nothing is asked: no checks of its labels
    quiet = Predictor(
        found.classifier,
        threads=found.threads,
        batch_size=found.batch_size,
        read=found.read,
        sanity_checks=False,
    )
    return quiet, classifier.bundle


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """From features to a result."""

    photos: Photos
    base: Bundle
    options: TrainOptions
    name: str
    variants: Variants | None = None
    tuning: FineTuning | None = None

    def result(self) -> TrainingResult:
        photos = self.photos
        examples = self._examples()
        found, augmentation = predict_out_of_fold(examples), None
        if self.variants is not None:
            examples, found, augmentation = try_variants(examples, found, self.variants)
        calibration = self._calibration(found, examples)
        shift = log_ratio(calibration)
        calibrated = found.logits / np.float32(found.temperature)
        scores = probabilities(calibrated + shift, "softmax").astype(np.float32)
        plain, predicted = calibrated.argmax(axis=1), scores.argmax(axis=1)
        right = predicted == photos.targets
        accuracy = accuracy_interval(right, examples.groups)
        last = CurvePoint(len(right), accuracy.value, accuracy.low, accuracy.high)
        curve = (*learning_curve(examples, found, shift, seed=self.options.seed), last)
        mistakes = self._mistakes(scores)
        balanced = balanced_accuracy(photos.targets, predicted)
        facts = self._facts(found, examples, accuracy=last, balanced=balanced)
        bundle = self._bundle(found, examples, calibration, facts)
        result = TrainingResult(
            bundle=bundle,
            classes=class_results(photos.labels.names, photos.targets, predicted),
            accuracy=accuracy.value,
            low=accuracy.low,
            high=accuracy.high,
            balanced_accuracy=balanced,
            plain_accuracy=float((plain == photos.targets).mean()),
            plain_balanced_accuracy=balanced_accuracy(photos.targets, plain),
            sources=photos.all_sources,
            targets=photos.targets,
            scores=scores,
            copies=self._copies(examples),
            mistakes=mistakes,
            suspects=find_suspects(mistakes),
            curve=curve,
            twice=project(curve),
            unreadable=photos.unreadable,
            calibration=calibration,
            strength=found.strength,
            folds=int(examples.folds.max()) + 1,
            unknown=None if bundle.unknown is None else bundle.unknown.to_dict(),
            augmentation=augmentation,
        )
        if self.tuning is None:
            return result
        from toplabel.training.fine_tune_result import fine_tuned_result  # imports torch

        return fine_tuned_result(self.tuning, result, examples, found.heads[0])

    def _mistakes(self, scores: NDArray[np.float32]) -> tuple[Mistake, ...]:
        """Those among the images that are at hand; of others there is nothing to look at."""
        photos = self.photos
        here = slice(len(photos.sources))
        return find_mistakes(
            photos.sources, photos.labels.names, photos.targets[here], scores[here]
        )

    def _copies(self, examples: Examples) -> tuple[Copies, ...]:
        """Groups of copies; those of several classes are warned of."""
        photos = self.photos
        names = photos.labels.names
        found = find_copies(photos.all_sources, names, photos.targets, examples.groups)
        _warn_of_contradictions(found)
        return found

    def _bundle(
        self,
        found: OutOfFold,
        examples: Examples,
        calibration: Calibration,
        facts: dict[str, Any],
    ) -> Bundle:
        """The model, with a head that is fitted to all images."""
        unknown = self._unknown(examples)
        return make_bundle(
            self.base,
            examples.fit(found.strength, start=found.heads[0]),
            name=self.name,
            labels=self.photos.labels,
            calibration=calibration,
            unknown=unknown,
            examples=None if unknown is None else self._rest(examples),
            training=facts,
        )

    def _unknown(self, examples: Examples) -> UnknownDetector | None:
        """What tells images that are unlike these; None where it is not wished."""
        if self.options.no_unknown:
            return None
        return fit_unknown(
            examples.features,
            examples.targets,
            false_alarm=self.options.unknown,
            seed=self.options.seed,
            groups=examples.groups,
        )

    def _rest(self, examples: Examples) -> Memory | None:
        """What is kept to go on from, of images that tell no unknown ones; None where all do."""
        seed, size = self.options.seed, examples.features.shape[1]
        kept = choose_kept(examples.targets, examples.groups, size, seed)
        rest = np.setdiff1d(np.arange(len(examples.targets)), kept)
        if len(rest) > _MOST_EXAMPLES:
            rest = np.sort(np.random.default_rng(seed).permutation(rest)[:_MOST_EXAMPLES])
        return Memory.of(examples.features[rest], examples.targets[rest]) if len(rest) else None

    def _examples(self) -> Examples:
        """The images with their groups and folds."""
        photos, seed = self.photos, self.options.seed
        groups = group_copies(photos.features, photos.targets, photos.labels.names)
        folds = count_folds(photos.targets, groups)
        chosen = divide(photos.targets, groups, folds=folds, seed=seed)
        return Examples(
            photos.features, photos.targets, groups, chosen, len(photos.labels), photos.weights
        )

    def _calibration(self, found: OutOfFold, examples: Examples) -> Calibration:
        counts = examples.counts
        trained = tuple(float(count) for count in counts / counts.sum())
        given = self.options.prior
        if given is None:
            given = BALANCED if counts.max() > _UNBALANCED * counts.min() else AS_TRAINED
        plain = isinstance(given, str) and given == AS_TRAINED
        return Calibration(
            temperature=found.temperature,
            images=len(examples.targets),
            digest=self.photos.digest,
            date=_today(),
            trained_prior=trained,
            prior=None if plain else read_prior(given, self.photos.labels, model="the data"),
        )

    def _facts(
        self, found: OutOfFold, examples: Examples, *, accuracy: CurvePoint, balanced: float
    ) -> dict[str, Any]:
        """What the bundle says of its training; of the images nothing but their number."""
        counts = examples.counts.round().astype(int).tolist()
        return {
            "images": sum(counts),
            "classes": dict(zip(self.photos.labels.names, counts, strict=True)),
            "method": "logistic regression on the features of a network that stays as it is",
            "base": self.base.name,
            "features": int(examples.features.shape[1]),
            "strength": found.strength,
            "augmented": examples.variants is not None,
            "folds": int(examples.folds.max()) + 1,
            "accuracy": round(accuracy.accuracy, 4),
            "low": round(accuracy.low, 4),
            "high": round(accuracy.high, 4),
            "balanced_accuracy": round(balanced, 4),
            "seed": self.options.seed,
            "date": _today(),
            "toplabel": __version__,
        }


def _name_of(data: Dataset | str | os.PathLike[str]) -> str:
    """What the model is called: as the folder or table it was trained on."""
    if isinstance(data, Dataset):
        return "trained"
    stem = Path(os.path.abspath(data)).stem
    return "".join(c if c.isprintable() and c not in "@/" else "_" for c in stem) or "trained"


def log_ratio(calibration: Calibration) -> NDArray[np.float32]:
    """What the prior adds to calibrated logits: float32 (K,)."""
    trained = np.array(calibration.trained_prior, np.float64)
    wanted = trained if calibration.prior is None else np.array(calibration.prior, np.float64)
    return (np.log(wanted) - np.log(trained)).astype(np.float32)


def _warn_of_contradictions(copies: tuple[Copies, ...]) -> None:
    found = [one for one in copies if one.contradictory]
    if found:
        pairs = [
            ", ".join(f"{s} ({c})" for s, c in zip(one.sources[:4], one.classes, strict=False))
            for one in found[:_SHOWN]
        ]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        warn(
            f"{len(found)} image{'s stand' if len(found) > 1 else ' stands'} under several classes,"
            f" as copies or near-copies: {'; '.join(pairs)}{more}; keep each under one class"
        )


def _today() -> str:
    """The date, or that of SOURCE_DATE_EPOCH, which reproducible builds set."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(given), UTC) if given.isdecimal() else datetime.now(UTC)
    return f"{now:%Y-%m-%d}"
