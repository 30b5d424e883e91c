"""A model's reference and options in, a classifier out, from the cache where it is.

A model that this machine has compiled before opens without torch. A new one comes from its source,
answers its first image in eager PyTorch, and is compiled later.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from toplabel._internal.notices import About, collect_warnings, warn
from toplabel._internal.optional import require
from toplabel._internal.options import given_options
from toplabel._internal.platform import fork_safe, gpu_count
from toplabel.bundle.bundle import Bundle, built_in_bundle, cached_bundle
from toplabel.errors import ModelNotFound, UsageError
from toplabel.inference.classifier import Classifier, Lazy, PendingClassifier
from toplabel.models.options import is_plain
from toplabel.models.ref import ModelRef, folder_of_weights
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from toplabel.bundle.model import Model
    from toplabel.models.options import InferenceOptions, ModelOptions
    from toplabel.models.ref import Kind
    from toplabel.preprocess.custom import AnyPreprocess

logger = logging.getLogger(__name__)

SOURCES = {
    "torchvision": "toplabel.models.sources.torchvision:load",
    "timm": "toplabel.models.sources.timm:load",
    "hf": "toplabel.models.sources.huggingface:load",
    "folder": "toplabel.models.sources.huggingface:load_folder",
}
"""What loads a model of a library, by the first part of its canonical name, or a folder."""

LOADING = fork_safe(threading.RLock())
"""Held while a source is read, which changes what a process has once, such as its environment."""


def open_classifier(
    ref: ModelRef, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    """The classifier that `ref` names; each of its records has the warnings of opening it.

    Raises:
        ToplabelError: As `load` raises it.
    """
    ref = _whole(ref, options)
    with collect_warnings() as notices:
        pending = _OPENERS[ref.kind](ref, inference, options)
    return with_gpu(pending.with_warnings(notices), inference)


def _whole(ref: ModelRef, options: ModelOptions) -> ModelRef:
    """A Hugging Face folder instead of its weights alone, unless it is said how to open these."""
    if ref.kind != "checkpoint" or options.of_checkpoint:
        return ref
    folder = folder_of_weights(ref.given)
    if folder is None:
        return ref
    logger.info("%s is opened with the config.json beside it", ref.given)
    return ModelRef(folder, "folder")


def load_model(
    ref: ModelRef, *, offline: bool = False, preprocess: AnyPreprocess | None = None
) -> Model:
    """The model of a library, the hub or a folder; weights go into that library's own cache.

    Args:
        ref: Of the kind "name" or "folder".
        offline: Never ask the network.
        preprocess: Instead of the preprocessing that comes with the weights.

    Raises:
        ModelNotFound: No source knows the name.
        ModelError: It is not a classifier that can be used.
        PreprocessError: It has no preprocessing, or one that cannot be expressed.
        CheckpointError: Its weights cannot be read, or do not fit.
        DownloadError: Its weights are not here and cannot be fetched.
        MissingDependency: Its library is not installed.
    """
    from importlib import import_module  # brings importlib.util and more; rarely needed

    name = ref.canonical()
    require("torch", extra="torch", purpose=f"the model {name!r}")
    kind, rest = ("folder", name) if ref.kind == "folder" else name.split("/", 1)
    module, function = SOURCES[kind].split(":")
    load = getattr(import_module(module), function)
    with LOADING:
        model: Model = load(rest, offline=offline, preprocess=preprocess)
    return model


@dataclass(frozen=True)
class NetworkSource:
    """Loads a model's network again, once only its program is in memory.

    Args:
        ref: A checkpoint, a folder or a library's name.
        options: It was loaded with.
    """

    ref: ModelRef
    options: ModelOptions

    def __call__(self) -> nn.Module:
        """The network, in eval mode, on the CPU."""
        if self.ref.kind == "checkpoint":
            return _load_checkpoint(self.ref, self.options).module
        return load_model(self.ref, preprocess=self.options.read_preprocess()).module

    @property
    def is_plain(self) -> bool:
        """Whether another process in this folder can do so, too: nothing in it is a live object."""
        return all(map(is_plain, given_options(self.options).values()))


def _load_checkpoint(ref: ModelRef, options: ModelOptions) -> Model:
    from toplabel.models.sources.checkpoint import load

    with LOADING:
        return load(Path(ref.given), options=options)


def _open_built_in(
    ref: ModelRef, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    options.check_no_checkpoint_options("the built-in model")
    _check_program_suffices("the built-in model", inference, "'timm/tf_efficientnet_lite0'")
    bundle = built_in_bundle()
    if "@" in ref.given and ref.given != bundle.name:
        raise ModelNotFound(
            f"got the model {ref.given!r}; this version of toplabel has {bundle.name}"
        )
    return _of_bundle(_with_options(bundle, options), inference, options)


def _open_bundle(
    ref: ModelRef, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    options.check_no_checkpoint_options(ref.given)
    _check_program_suffices(ref.given, inference, "the checkpoint that it was packed from")
    bundle = cached_bundle(ref.real_path)  # as `open_packed` keeps it
    if bundle is None:
        from toplabel.bundle.file import open_packed  # 50 ms

        bundle = open_packed(Path(ref.given))
    bundle = _with_options(bundle, options)
    _warn_again(bundle)
    return _of_bundle(bundle, inference, options)


def _open_onnx(
    ref: ModelRef, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    replace(options, output=None).check_no_checkpoint_options(ref.given)
    _check_program_suffices(ref.given, inference, "the checkpoint that it was exported from")
    from toplabel.bundle.onnx_import import open_onnx

    given = options.read_preprocess()
    bundle = open_onnx(
        Path(ref.given),
        labels=options.labels,
        preprocess=given if given is None or isinstance(given, Preprocess) else given.stand_in,
        multi_label=options.multi_label,
        output=options.output,
    )
    return _of_bundle(bundle, inference, options)


def _of_bundle(
    bundle: Bundle, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    """What runs a bundle, after the preprocessing that the user gives as code, if so."""
    classifier = Classifier.of_bundle(bundle, engine=inference.program_engine, fast=inference.fast)
    given = options.read_preprocess()
    if given is not None and not isinstance(given, Preprocess):
        classifier = classifier.with_custom_preprocess(given)
    return PendingClassifier(classifier)


def _open_checkpoint(
    ref: ModelRef, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    """A checkpoint: from the cache where it, its class and its options are the same."""
    source, entry = NetworkSource(ref, options), _checkpoint_entry(ref, options)
    if entry is not None and not inference.needs_torch and not options.recompile:
        bundle = cached_bundle(entry)
        if bundle is not None:
            _warn_again(bundle)
            if options.script is not None and "script" in bundle.provenance:
                logger.info("%s", bundle.provenance["script"])
            classifier = Classifier.of_bundle(
                bundle, engine=inference.program_engine, fast=inference.fast
            )
            return with_module(PendingClassifier(classifier), source)
    require("torch", extra="torch", purpose=f"the checkpoint {ref.given!r}")
    from toplabel.models.build import build
    from toplabel.models.fit.class_spec import is_fresh
    from toplabel.preprocess.custom import CustomPreprocess

    own = isinstance(options.arch, str) and ":" in options.arch
    if own and not is_fresh(str(options.arch)):  # what runs may not be what stands in the file
        entry = None
    model = _load_checkpoint(ref, options)
    if isinstance(model.preprocess, CustomPreprocess):  # of a script: no manifest has its steps
        entry = None
    return with_module(build(model, inference, entry=entry), source)


def _checkpoint_entry(ref: ModelRef, options: ModelOptions) -> str | None:
    """What the cache knows a checkpoint by: its path, and a digest of its options."""
    code = None
    if isinstance(options.arch, str) and ":" in options.arch:
        from toplabel.models.fit.class_spec import locate_class_file

        code = locate_class_file(options.arch)
    digest = options.fingerprint(code=None if code is None else os.path.realpath(code))
    return None if digest is None else f"{ref.cache_name} {digest}"


def _open_named(
    ref: ModelRef, inference: InferenceOptions, options: ModelOptions
) -> PendingClassifier:
    """A model of a library or the hub; or a local Hugging Face folder."""
    options.check_no_checkpoint_options(ref.given)

    entry = entry_name(ref, options)
    bundle = None if inference.needs_torch or entry is None else cached_bundle(entry)
    if bundle is not None:
        _warn_again(bundle)
        classifier = Classifier.of_bundle(
            bundle, engine=inference.program_engine, fast=inference.fast
        )
        pending = PendingClassifier(classifier)
    else:
        model = load_model(ref, preprocess=options.read_preprocess())
        from toplabel.models.build import build

        pending = build(options.apply_to(model), inference, entry=entry)
    if not ref.is_path and pending.now.name.rpartition("@")[0] != ref.given:
        logger.info("%s is %s", ref.given, pending.now.name)
    return with_module(pending, NetworkSource(ref, options))


def with_module(pending: PendingClassifier, load: Callable[[], nn.Module]) -> PendingClassifier:
    """The same, with a way to have the network itself again once only its program is in memory."""
    lazy_module = Lazy(load)

    def add(classifier: Classifier) -> Classifier:
        if classifier.lazy_module is not None:
            return classifier
        return replace(classifier, lazy_module=lazy_module)

    return pending.changed(add)


def with_gpu(pending: PendingClassifier, inference: InferenceOptions) -> PendingClassifier:
    """The same, with many images on a GPU where one is there and nothing else was asked for."""
    if pending.now.lazy_module is None or not inference.leaves_device_open or not gpu_count():
        return pending

    def add(classifier: Classifier) -> Classifier:
        return replace(classifier, gpu="cuda")

    return pending.changed(add)


_OPENERS: dict[Kind, Callable[[ModelRef, InferenceOptions, ModelOptions], PendingClassifier]] = {
    "built-in": _open_built_in,
    "bundle": _open_bundle,
    "onnx": _open_onnx,
    "checkpoint": _open_checkpoint,
    "folder": _open_named,
    "name": _open_named,
}


def _check_program_suffices(name: str, inference: InferenceOptions, other: str) -> None:
    """Stop where PyTorch is asked for, and there is only a compiled program.

    Raises:
        UsageError: It says which model to name instead.
    """
    if inference.needs_torch:
        raise UsageError(
            f"{name} runs with onnxruntime or openvino, on the CPU, in float32; for PyTorch or a"
            f" GPU, load {other}"
        )


def _with_options(bundle: Bundle, options: ModelOptions) -> Bundle:
    """The bundle with the labels, preprocessing and activation that the user gives instead."""
    labels = options.labels_for(len(bundle.labels), own=bundle.labels)
    preprocess = options.read_preprocess()
    calibration = bundle.calibration
    if calibration is not None and (preprocess is not None or options.multi_label):
        kept = None if options.multi_label else calibration.of_prior
        if kept != calibration:
            fitted = "its calibration, which was fitted with other options"
            warn(f"{bundle.name} is used without {fitted}")
        calibration = kept
    unknown = bundle.unknown if preprocess is None else None
    if unknown is not bundle.unknown:
        warn(f"{bundle.name} does not tell unknown images with another preprocessing")
    given: dict[About | None, bool] = {
        "labels": labels is not None,
        "preprocess": preprocess is not None,
        "multi_label": options.multi_label,
    }
    still = [notice for notice in bundle.warnings if not given.get(notice.about)]
    if len(still) < len(bundle.warnings):
        bundle = bundle.with_warnings(still)
    multi_label = bundle.multi_label or options.multi_label
    sigmoid = multi_label and bundle.activation != "none"
    return replace(
        bundle,
        calibration=calibration,
        unknown=unknown,
        examples=bundle.examples if preprocess is None else None,
        reduced=None if preprocess is not None or options.multi_label else bundle.reduced,
        labels=labels or bundle.labels,
        preprocess=preprocess if isinstance(preprocess, Preprocess) else bundle.preprocess,
        activation="sigmoid" if sigmoid else bundle.activation,
        multi_label=multi_label,
    )


def _warn_again(bundle: Bundle) -> None:
    """Warn of what was assumed when the bundle was made, at each opening."""
    for notice in bundle.warnings:
        warn(notice)


def entry_name(ref: ModelRef, options: ModelOptions) -> str | None:
    """What the cache knows a named model or a folder by; None: it keeps none of its options."""
    from toplabel.models.options import ModelOptions

    if options == ModelOptions():
        return ref.cache_name
    digest = options.fingerprint(code=None)
    return None if digest is None else f"{ref.cache_name} {digest}"
