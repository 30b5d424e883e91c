"""A frozen head's result in; that of the whole network, where training it was better, out.

A fifth of the images is held out, copies together. They decide when to stop, and whether all of
the network or the frozen head is kept. The accuracy that is told is measured on them, too, but so
that no image has a say in what predicts it: they are halved, and either half is predicted by the
epoch which the other half chooses.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from toplabel._internal import platform
from toplabel._internal.notices import collect_warnings, warn
from toplabel._version import __version__
from toplabel.bundle import cache
from toplabel.bundle.model import Model
from toplabel.errors import ModelError
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines.torch import find_device
from toplabel.inference.predictor import Predictor
from toplabel.inference.scoring import probabilities
from toplabel.models.build import build
from toplabel.models.compile.fingerprint import weights_sha256
from toplabel.models.options import InferenceOptions
from toplabel.training.assess import balanced_accuracy, class_results, find_mistakes
from toplabel.training.features import compute_features
from toplabel.training.fine_tune import (
    EPOCHS,
    LEARNING_RATE,
    FineTuned,
    FineTuneSettings,
    Parts,
    fine_tune,
)
from toplabel.training.folds import divide
from toplabel.training.out_of_fold import accuracy_interval, temperature_of
from toplabel.training.result import CurvePoint, FineTuningFacts, TrainingResult
from toplabel.training.torch_data import Photos, check_preprocess, example_of
from toplabel.training.torch_network import (
    check_trainable,
    plain_network,
    save_weights,
    with_fitted_head,
)
from toplabel.training.unknown import fit_unknown, threshold_for

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle
    from toplabel.bundle.calibration import Calibration
    from toplabel.bundle.unknown import UnknownDetector
    from toplabel.image.options import ReadOptions
    from toplabel.preprocess.preprocess import Preprocess
    from toplabel.training.head import Head
    from toplabel.training.options import TrainOptions
    from toplabel.training.out_of_fold import Examples
    from toplabel.training.torch_network import HeadedNetwork

FOLDER = "training"
"""Of the cache: how far networks are."""

_OF_WEIGHTS = re.compile("[.:@ ]")
"""Begins what is not of the network in a name: `resnet50:IMAGENET1K_V2@0f1e2d3c`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuning:
    """What is known before anything takes time.

    Args:
        classifier: Whose network is trained.
        module: That network, in eval mode.
        preprocess: Its preprocessing.
        options: What the training is to do.
        device: Where.
        read: Limits and choices in reading images.
        threads: That read and change images.
    """

    classifier: Classifier
    module: torch.nn.Module
    preprocess: Preprocess
    options: TrainOptions
    device: str
    read: ReadOptions
    threads: int


def open_fine_tuning(
    predictor: Predictor, options: TrainOptions, inference: InferenceOptions
) -> FineTuning:
    """All that can be checked before the features of images are computed.

    Raises:
        ModelError: There is no network to train, or it cannot be trained; says why.
        EngineError: The device is not to be had here.
    """
    classifier = predictor.classifier
    if classifier.lazy_module is None:
        raise ModelError(
            f"{classifier.name} cannot be fine-tuned: it is a compiled program, without the network"
            " that it was made from; pass model=... a name of torchvision's, timm's or Hugging"
            " Face's (the built-in model's network is 'timm/tf_efficientnet_lite0.in1k'), a"
            " checkpoint, or your own network by toplabel.wrap"
        )
    preprocess = check_preprocess(classifier.preprocess, name=classifier.name)
    device = inference.device
    if device == "auto" and torch.cuda.is_available():
        device = "cuda"
    find_device(device)
    module = classifier.lazy_module.get()
    check_trainable(module, example_of(preprocess), name=classifier.name)
    return FineTuning(
        classifier=classifier,
        module=module,
        preprocess=preprocess,
        options=options,
        device=device,
        read=predictor.read,
        threads=inference.threads or platform.available_cpus(),
    )


def fine_tuned_result(
    tuning: FineTuning, frozen: TrainingResult, examples: Examples, head: Head
) -> TrainingResult:
    """The result of training all of the network; that of the frozen head where it was no better.

    Args:
        tuning: What is trained, and how.
        frozen: The result with the network as it is.
        examples: The images with their folds: the first is held out.
        head: Fitted without the first fold. Its logits are calibrated before they are learned from:
            where they are too faint or too strong, the first steps would be spent on that.
    """
    held_out = np.flatnonzero(examples.folds == 0)
    photos = Photos(
        sources=frozen.sources,
        targets=examples.targets,
        preprocess=tuning.preprocess,
        read=tuning.read,
        seed=tuning.options.seed,
        threads=tuning.threads,
    )
    headed = with_fitted_head(
        tuning.module,
        photos.example,
        weight=head.weight / np.float32(frozen.calibration.temperature),
        bias=head.bias / np.float32(frozen.calibration.temperature),
        name=tuning.classifier.name,
    )
    parts = Parts(
        learned=np.flatnonzero(examples.folds != 0).tolist(),
        held_out=held_out.tolist(),
        halves=_halves(examples, held_out, seed=tuning.options.seed),
        log_prior=_log_prior(frozen.calibration),
    )
    settings = FineTuneSettings(
        epochs=tuning.options.epochs or EPOCHS,
        learning_rate=tuning.options.learning_rate or LEARNING_RATE,
        minutes=tuning.options.minutes,
        device=tuning.device,
        seed=tuning.options.seed,
    )
    key = _key(frozen, examples, headed, settings)
    with _alone(key):
        progress = cache.cache_dir() / FOLDER / f"{key}.pt"
        found = fine_tune(headed, photos, parts, settings, progress=progress)
    made = _Made(tuning, frozen, examples, found, held_out, settings)
    bundle = made.compiled() if found.epoch else None
    if bundle is None:
        return replace(frozen, fine_tuning=made.facts(kept=False))
    return made.result(bundle)


def save_network(result: TrainingResult, path: Path) -> None:
    """Write the weights of the network that was trained, with all that opening them takes.

    Raises:
        BundleError: They cannot be written.
    """
    bundle, calibration = result.bundle, result.calibration
    metadata = {
        "class_names": json.dumps(list(bundle.labels)),
        "preprocess": json.dumps(bundle.preprocess.to_dict()),
    }
    known = bundle.provenance.get("architecture") or (bundle.training or {}).get("base", "")
    library, _, name = str(known).partition("/")
    if library in ("timm", "torchvision"):
        metadata["architecture"] = _OF_WEIGHTS.split(name)[0]
    save_weights(
        path,
        result.network,
        temperature=calibration.temperature,
        log_prior=_log_prior(calibration),
        metadata=metadata,
    )


def _halves(examples: Examples, held_out: NDArray[np.int64], *, seed: int) -> NDArray[np.bool_]:
    """Which of the held-out images are the first half; copies are in one."""
    halves = divide(examples.targets[held_out], examples.groups[held_out], folds=2, seed=seed)
    return np.asarray(halves == 0)


def _log_prior(calibration: Calibration) -> NDArray[np.float32] | None:
    """What the prior adds to calibrated logits, float32 (K,)."""
    if calibration.shift is None:
        return None
    return np.asarray(calibration.shift, np.float32) / np.float32(calibration.temperature)


def _key(
    frozen: TrainingResult, examples: Examples, headed: HeadedNetwork, settings: FineTuneSettings
) -> str:
    """Names all that the course of a training depends on."""
    facts = [
        [__version__, torch.__version__, asdict(settings)],
        weights_sha256(headed),
        frozen.calibration.digest,
        frozen.calibration.prior,
        [*frozen.sources],
        [examples.targets.tolist(), examples.folds.tolist()],
    ]
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _alone(key: str) -> Iterator[None]:
    """Let one process at a time train the same, where the cache can tell."""

    def waiting() -> None:
        logger.info("another process is training the same; waiting for it")

    with ExitStack() as stack:
        with suppress(OSError):  # a cache that cannot be written to
            locks = cache.cache_dir() / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            stack.enter_context(platform.lock_file(locks / key, waiting=waiting))
        yield


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """What the training gave, on its way to a result."""

    tuning: FineTuning
    frozen: TrainingResult
    examples: Examples
    found: FineTuned
    held_out: NDArray[np.int64]
    settings: FineTuneSettings

    def compiled(self) -> Bundle | None:
        """The network as a bundle; None, with a warning, where it cannot be compiled."""
        base = self.frozen.bundle
        network = plain_network(self.found.network, example_of(self.tuning.preprocess))
        with collect_warnings():  # those of the images are not the model's
            model = Model(
                name=base.name.rpartition("@")[0],
                module=network,
                architecture=f"{type(network).__module__}.{type(network).__qualname__}",
                preprocess=self.tuning.preprocess,
                labels=base.labels,
            )
            classifier = build(model, InferenceOptions(), entry=None).compile()
        if classifier.bundle is None:
            warn(
                f"the fine-tuned network cannot be saved: {classifier.unsaved}; the frozen head is"
                " kept"
            )
            return None
        return replace(classifier.bundle, provenance=base.provenance)

    def result(self, bundle: Bundle) -> TrainingResult:
        """The result of the network that was trained, measured on the held-out images."""
        names = [one.name for one in self.frozen.classes]
        targets = self.examples.targets[self.held_out]
        calibration = replace(
            self.frozen.calibration,
            temperature=temperature_of(self.found.logits, targets),
            images=len(targets),
        )
        plain = self.found.logits / np.float32(calibration.temperature)
        log_prior = _log_prior(calibration)
        shifted = plain if log_prior is None else plain + log_prior
        scores = probabilities(shifted, "softmax").astype(np.float32)
        predicted, as_trained = scores.argmax(axis=1), plain.argmax(axis=1)
        accuracy = accuracy_interval(predicted == targets, self.examples.groups[self.held_out])
        sources = tuple(self.frozen.sources[index] for index in self.held_out)
        unknown = self._unknown(bundle)
        facts = self.facts(kept=True)
        result = replace(
            self.frozen,
            bundle=bundle,
            classes=class_results(names, targets, predicted),
            accuracy=accuracy.value,
            low=accuracy.low,
            high=accuracy.high,
            balanced_accuracy=balanced_accuracy(targets, predicted),
            plain_accuracy=float((as_trained == targets).mean()),
            plain_balanced_accuracy=balanced_accuracy(targets, as_trained),
            sources=sources,
            targets=targets,
            scores=scores,
            mistakes=find_mistakes(sources, names, targets, scores),
            curve=(CurvePoint(len(targets), accuracy.value, accuracy.low, accuracy.high),),
            twice=None,
            calibration=calibration,
            unknown=None if unknown is None else unknown.to_dict(),
            fine_tuning=facts,
            network=self.found.network,
        )
        training = self._training(result, facts)
        described = replace(bundle, calibration=calibration, unknown=unknown, training=training)
        return replace(result, bundle=described)

    def facts(self, *, kept: bool) -> FineTuningFacts:
        """What came of it, for people and for JSON."""
        return FineTuningFacts(
            kept=kept,
            epoch=self.found.epoch,
            epochs=self.found.epochs,
            accuracy=self.found.accuracy,
            frozen_accuracy=self.found.frozen_accuracy,
            learned=len(self.examples.targets) - len(self.held_out),
            held_out=len(self.held_out),
            device=self.found.device,
            seconds=self.found.seconds,
        )

    def _training(self, result: TrainingResult, facts: FineTuningFacts) -> dict[str, Any]:
        """What the bundle says of its training."""
        known = dict(self.frozen.bundle.training or {})
        known.pop("folds", None)
        return known | {
            "method": "all of the network, from a logistic regression on its features on (LP-FT)",
            "accuracy": round(result.accuracy, 4),
            "low": round(result.low, 4),
            "high": round(result.high, 4),
            "balanced_accuracy": round(result.balanced_accuracy, 4),
            "held_out": facts.held_out,
            "epochs": facts.epochs,
            "epoch": facts.epoch,
            "learning_rate": self.settings.learning_rate,
            "device": facts.device,
            "frozen_accuracy": round(facts.frozen_accuracy, 4),
        }

    def _unknown(self, bundle: Bundle) -> UnknownDetector | None:
        """What tells images that are unlike these, by features of the network that was trained.

        It has drawn the images that it learned from together, so that the threshold is that of the
        held-out ones. How siblings would be told nobody knows: it was trained on each class.
        """
        options = self.tuning.options
        if options.no_unknown:
            return None
        classifier = Classifier.of_bundle(bundle)
        tuning = self.tuning
        with Predictor(
            classifier, threads=tuning.threads, read=tuning.read, sanity_checks=False
        ) as predictor:
            features = compute_features(predictor, self.frozen.sources).features
        examples, learned = self.examples, self.examples.folds != 0
        detector = fit_unknown(
            features[learned],
            examples.targets[learned],
            false_alarm=options.unknown,
            seed=options.seed,
            groups=examples.groups[learned],
        )
        distances = detector.distance(features[self.held_out])
        threshold = threshold_for(distances, options.unknown)
        return replace(detector, threshold=threshold, images=len(distances), siblings=None)
