"""What users call: a model's name or module in, a predictor out; an image in, its label out."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from toplabel._internal.notices import collect_warnings, warn
from toplabel._internal.options import given_options, takes_options
from toplabel._internal.platform import fork_safe
from toplabel.bundle.cache import (
    FileSignature,
    find_failed_compile,
    remember_failed_compile,
)
from toplabel.bundle.program import A_DAY, NotCompiled
from toplabel.errors import ToplabelError
from toplabel.inference.classifier import Classifier, Lazy
from toplabel.inference.predictor import Predictor
from toplabel.models.open import open_classifier, with_gpu, with_module
from toplabel.models.options import InferenceOptions, ModelOptions
from toplabel.models.ref import ModelRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from toplabel.image.options import ReadOptions
    from toplabel.inference.classifier import PendingClassifier
    from toplabel.inference.prediction import Prediction
    from toplabel.labels.given import LabelsLike

_SHARING = fork_safe(threading.Lock())


@takes_options(ModelOptions, InferenceOptions)
def load(
    model: str | os.PathLike[str] | None = None,
    *,
    model_options: ModelOptions,
    inference_options: InferenceOptions,
) -> Predictor:
    """A predictor for a model.

    >>> import toplabel
    >>> model = toplabel.load()
    >>> len(model.labels)
    1000
    >>> from nets import MyCNN, val_transform
    >>> model = toplabel.load(
    ...     "best.pth", arch=MyCNN, labels=["cat", "dog"], preprocess=val_transform
    ... )

    Args:
        model: Nothing for the built-in model; a torchvision name (`resnet50`,
            `resnet50:IMAGENET1K_V2`), `timm/NAME.TAG`, `hf/ORG/NAME[@REVISION]`; or the path of a
            local Hugging Face folder, a checkpoint (.pth, .safetensors), a bundle or an ONNX file.

    Raises:
        CheckpointError, BundleError: The file cannot be read, would run code, fits no network.
        LabelsError, PreprocessError: What is given does not fit, or has to be given.
        ModelNotFound, ModelError: No source knows the name, or it is no classifier.
        DownloadError, MissingDependency: Its weights, or its library, are not here.
        EngineError: The engine or device is not available here.
    """
    return load_predictor(model, model_options, inference_options)


@overload
def label(source: list[Any] | tuple[Any, ...], **options: Any) -> list[str | None]: ...


@overload
def label(source: object, **options: Any) -> str: ...


@takes_options(ModelOptions, InferenceOptions, as_load=(ModelOptions, InferenceOptions))
def label(
    source: object,
    *,
    model: str | os.PathLike[str] | None = None,
    model_options: ModelOptions,
    inference_options: InferenceOptions,
) -> str | list[str | None]:
    """The label of one image; for several images, a list of labels.

    >>> import toplabel
    >>> toplabel.label("examples/coffee.jpg")
    'espresso'

    Args:
        source: As `Predictor` takes it: a path, URL, bytes, PIL image or array; several images: a
            list of such, a folder, or a pattern.
        model: As `load` takes it; by default the built-in model.

    Raises:
        ImageError: The one image could not be labelled; `.code` says why. In a list its label is
            None, with a warning, so that the others are not lost.
    """
    predictor = shared_predictor(model, model_options, inference_options)
    found = predictor(source, top_k=1)
    return [_label_of(one) for one in found] if isinstance(found, list) else str(found)


def _label_of(prediction: Prediction) -> str | None:
    if prediction.error is None:
        return str(prediction)
    warn(f"{prediction.source} has no label: {prediction.error.message}")
    return None


def shared_predictor(
    model: str | os.PathLike[str] | None,
    model_options: ModelOptions | None = None,
    inference_options: InferenceOptions | None = None,
) -> Predictor:
    """One predictor for all calls with the same arguments, where they can be compared."""
    name = None if model is None else os.fspath(model)
    options, inference = model_options or ModelOptions(), inference_options or InferenceOptions()
    keys = tuple(given_options(options).items()), tuple(given_options(inference).items())
    stamp = FileSignature.of(name) if name is not None and os.path.exists(name) else None
    try:
        hash(keys)
    except TypeError:  # a list or dict among them
        return load_predictor(name, options, inference)
    with _SHARING:  # not while it is loaded: who asks for another model need not wait for that
        shared = _lazy_predictor(stamp, os.getcwd(), name, *keys)
    return shared.get()


Given = tuple[tuple[str, Any], ...]


@functools.lru_cache(maxsize=4)
def _lazy_predictor(
    _stamp: FileSignature | None, _folder: str, model: str | None, options: Given, inference: Given
) -> Lazy[Predictor]:
    """The predictor, for as long as the model's file and the current folder are the same."""
    groups = ModelOptions(**dict(options)), InferenceOptions(**dict(inference))
    return Lazy(lambda: load_predictor(model, *groups))


def load_predictor(
    model: str | os.PathLike[str] | None,
    model_options: ModelOptions,
    inference_options: InferenceOptions,
) -> Predictor:
    """What `load` returns, of options that stand in their groups already."""
    pending = open_classifier(ModelRef.parse(model), inference_options, model_options)
    return _predictor(pending, inference_options)


@takes_options(InferenceOptions)
def wrap(
    module: nn.Module,
    *,
    preprocess: object,
    labels: LabelsLike | None = None,
    multi_label: bool = False,
    output: str | int | None = None,
    name: str | None = None,
    inference_options: InferenceOptions,
) -> Predictor:
    """A predictor for your own network.

    >>> import toplabel
    >>> from nets import MyCNN, val_transform
    >>> toplabel.wrap(MyCNN(), labels=["cat", "dog"], preprocess=val_transform).labels.names
    ('cat', 'dog')

    Args:
        module: The network, weights loaded. It is put into eval mode.
        preprocess: What makes its input from an image: your validation transform (a torchvision
            `Compose` or preset), a timm config, a Hugging Face image processor, or a
            `Preprocess`.
        labels: The class names in output order (`dataset.classes`), a `class_to_idx`, an
            `id2label`, a file of them, or the name of a known list ("imagenet", "cifar10", ...).
            Without them, those that a network of transformers or timm brings; else indices. Of a
            network of one output: two names, that of no first, or the name of yes.
        multi_label: Classes are independent: those apply whose score reaches the threshold (0.5).
        output: Which output of a network that gives several holds the scores of the classes: its
            name (a key, an attribute), or its place from 0.
        name: What to call it in records; by default the name of its class.

    Raises:
        ModelError: Its outputs differ from one call to the next, or depend on the other images of
            a batch, or are no (N, K) scores.
        PreprocessError: The transform does something that no preprocessing expresses.
        LabelsError: The labels do not fit its outputs.
    """
    from toplabel.models.build import build  # imports torch
    from toplabel.models.sources.module import from_module
    from toplabel.models.sources.own_labels import warn_of_no_names

    with collect_warnings() as notices:
        model = from_module(
            module,
            labels=labels,
            preprocess=preprocess,
            multi_label=multi_label,
            output=output,
            name=name,
        )
        warn_of_no_names(module, model.labels, model.name)
        pending = build(model, inference_options, entry=None, checked=True)
    # the user's own module: it stays, with what makes its scores of what it gives
    pending = with_module(pending.with_warnings(notices), lambda: model.module)
    return _predictor(with_gpu(pending, inference_options), inference_options)


def _predictor(pending: PendingClassifier, options: InferenceOptions) -> Predictor:
    return Predictor(
        pending,
        threads=options.threads,
        batch_size=options.batch_size,
        exact=options.exact,
        fast=options.fast,
        reduce=functools.partial(_reduce, options.read) if options.fast else None,
        read=options.read,
    )


def _reduce(
    read: ReadOptions, classifier: Classifier, images: Sequence[object]
) -> Classifier | str:
    """The classifier with the reduced program that is made from the images; or why without.

    What did not work is not tried again for a day, with the same ONNX Runtime on this processor.
    """
    from toplabel._internal.onnxruntime import ort
    from toplabel._internal.platform import processor_name
    from toplabel.models.optimize import optimize  # onnx

    bundle = classifier.bundle
    assert bundle is not None
    key = f"reduced-{bundle.program.key}"
    tried_by = f"onnxruntime {ort.__version__}, {processor_name()}"
    if (reason := find_failed_compile(key, exporter=tried_by)) is not None:
        return reason
    try:
        found = optimize(Predictor(classifier, read=read, sanity_checks=False), list(images))
    except ToplabelError as error:
        return f"no reduced program of {classifier.name} can be made: {error}"
    made = Classifier.of_bundle(bundle, engine=classifier.program_engine, fast=True)
    if made.bundle is None or made.bundle.reduced is None:
        why = "; ".join(one.reason for one in found.candidates if one.reason)
        reason = f"{classifier.name} has no reduced program: {why or 'none is faster'}"
        remember_failed_compile(key, NotCompiled(reason, seconds=A_DAY), exporter=tried_by)
        return reason
    return replace(classifier, bundle=made.bundle, open_reduced=made.open_reduced)
