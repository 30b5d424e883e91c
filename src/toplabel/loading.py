"""The one door between the floors: a model's name in, a predictor out.

A model that this machine has compiled before opens from the cache, without torch. A new one comes
from its source, answers its first image in eager PyTorch, and is then compiled.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Unpack

from toplabel import cache
from toplabel.bundle import Bundle, embedded_bundle
from toplabel.classifier import Classifier
from toplabel.errors import BundleError, UsageError
from toplabel.predictor import Predictor
from toplabel.running import Options, Running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from toplabel.labels import Labels


def load(model: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> Predictor:
    """A predictor for a model.

    >>> import toplabel
    >>> model = toplabel.load()
    >>> len(model.labels)
    1000

    Args:
        model: Nothing for the embedded model; a torchvision name (`resnet50`,
            `resnet50:IMAGENET1K_V2`), `timm/NAME.TAG`, `hf/ORG/NAME[@REVISION]`, or the path of a
            local Hugging Face folder.
        options: How to run it; see `Running`.

    Raises:
        ModelNotFound: No source knows the name.
        ModelError: It is no classifier that can be used.
        DownloadError: Its weights are not here and cannot be fetched.
        MissingDependency: Its library is not installed.
        EngineError: The engine or device is not to be had here.
    """
    running = Running(**options)
    if model is None:
        return _load_embedded(running)
    name = os.fspath(model)
    if not running.needs_torch:
        bundle = _cached_bundle(_entry_name(name))
        if bundle is not None:
            _tell_name(name, bundle.name, running)
            return _predictor(Classifier.of_bundle(bundle), running)
    from toplabel.sources import load_model

    loaded = load_model(name, notify=running.notify)  # imports torch: seconds
    from toplabel.building import build

    classifier, compile_ = build(loaded, running, entry=_entry_name(name))
    _tell_name(name, classifier.name, running)
    return _predictor(classifier, running, compile=compile_)


def label(source: object, **options: Any) -> str:
    """The label of one image.

    >>> import toplabel
    >>> toplabel.label("examples/coffee.jpg")
    'espresso'

    Args:
        source: As `Predictor` takes it: a path, URL, bytes, picture or array.
        options: As `load` takes them: `model="resnet50"`; by default the embedded model.

    Raises:
        ImageError: It could not be labelled; `.code` says why.
    """
    return str(_shared_predictor(**options)(source, top_k=1))


@functools.lru_cache(maxsize=4)
def _shared_predictor(**options: Any) -> Predictor:
    """One predictor for all calls of `label` with the same options."""
    return load(**options)


def wrap(
    module: nn.Module,
    *,
    preprocess: object,
    labels: Labels | Sequence[str] | Mapping[str, int] | Mapping[int, str] | None = None,
    multi_label: bool = False,
    name: str | None = None,
    **options: Unpack[Options],
) -> Predictor:
    """A predictor for your own network.

    Args:
        module: The network, weights loaded. It is put into eval mode.
        preprocess: What makes its input from a picture: your validation transform (a torchvision
            `Compose` or preset), a timm config, a Hugging Face image processor, or a
            `Preprocess`.
        labels: The class names in output order (`dataset.classes`), a `class_to_idx` or an
            `id2label`. Without them the answers are indices.
        multi_label: Its outputs are independent of one another: sigmoid, not softmax.
        name: What to call it in records; by default the name of its class.
        options: How to run it; see `Running`.

    Raises:
        ModelError: Its answers differ from one call to the next, or depend on the other images of
            a batch, or are no (N, K) scores.
        PreprocessError: The transform does something that no recipe expresses.
        LabelsError: The labels do not fit its outputs.
    """
    from toplabel.building import build  # imports torch
    from toplabel.sources.module import from_module

    running = Running(**options)
    model = from_module(
        module, labels=labels, preprocess=preprocess, multi_label=multi_label, name=name
    )
    classifier, compile_ = build(model, running, entry=None)
    return _predictor(classifier, running, compile=compile_)


def _load_embedded(running: Running) -> Predictor:
    if running.needs_torch:
        raise UsageError(
            "the embedded model runs with onnxruntime, on the CPU, in float32; for PyTorch or a"
            " GPU name a model, such as 'timm/tf_efficientnet_lite0'"
        )
    return _predictor(Classifier.of_bundle(embedded_bundle()), running)


def _predictor(
    classifier: Classifier,
    running: Running,
    *,
    compile: Callable[[], Classifier | None] | None = None,
) -> Predictor:
    return Predictor(
        classifier,
        threads=running.threads,
        batch_size=running.batch_size,
        exact=running.exact,
        read=running.read,
        compile=compile,
    )


def _cached_bundle(entry: str) -> Bundle | None:
    """The bundle that an earlier start compiled, where it still is and fits."""
    manifest = cache.find_entry(entry)
    if manifest is None or "program" not in manifest:
        return None
    program = cache.find_program(manifest["program"])
    if program is None:
        return None
    try:
        return Bundle.from_manifest(manifest, program)
    except BundleError:  # damaged, or from another version: made again
        return None


def _entry_name(name: str) -> str:
    """Under what the cache knows a model: local folders by their real path, others as typed."""
    return os.path.realpath(name) if os.path.exists(name) else name


def _tell_name(given: str, name: str, running: Running) -> None:
    """Say once what a short name became; `name` ends in @ and the start of its weights' sha256."""
    if name.rpartition("@")[0] != given and not os.path.exists(given):
        running.notify(f"{given} is {name}")
