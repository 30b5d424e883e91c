"""The one door between the floors: a model's name in, a predictor out.

`opening.py` says where it comes from.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Unpack

from toplabel.bundle.cache import FileSignature
from toplabel.inference.options import Options, Running
from toplabel.inference.predictor import Predictor
from toplabel.models.open import open_classifier, tell_order, with_live
from toplabel.models.options import Stated, Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from toplabel.inference.classifier import Classifier
    from toplabel.labels.labels import Labels


class LoadOptions(Options, Statements, total=False):
    """Keyword arguments of `load`: how to run a model, and what its file does not say."""


_STATEMENTS = tuple(Statements.__annotations__)


def load(model: str | os.PathLike[str] | None = None, **options: Unpack[LoadOptions]) -> Predictor:
    """A predictor for a model.

    >>> import toplabel
    >>> model = toplabel.load()
    >>> len(model.labels)
    1000

    Args:
        model: Nothing for the embedded model; a torchvision name (`resnet50`,
            `resnet50:IMAGENET1K_V2`), `timm/NAME.TAG`, `hf/ORG/NAME[@REVISION]`; or the path of a
            local Hugging Face folder, a checkpoint (.pth, .safetensors), a bundle or an ONNX file.
        options: How to run it, see `Running`; what its file does not say, see `Stated`:
            `load("best.pth", arch=MyCNN, labels=[...], preprocess=val_transform)`.

    Raises:
        CheckpointError: The file cannot be read, would run code, or fits no network.
        BundleError: The bundle is damaged, or from a newer version.
        LabelsError, PreprocessError: What is stated does not fit, or has to be stated.
        ModelNotFound: No source knows the name.
        ModelError: It is no classifier that can be used.
        DownloadError: Its weights are not here and cannot be fetched.
        MissingDependency: Its library is not installed.
        EngineError: The engine or device is not to be had here.
    """
    said: dict[str, Any] = dict(options)
    stated = Stated(**{name: said.pop(name) for name in _STATEMENTS if name in said})
    running = Running(**said)
    name = None if model is None else os.fspath(model)
    classifier, compile_ = open_classifier(name, running, stated)
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
    return str(shared_predictor(options)(source, top_k=1))


def shared_predictor(options: dict[str, Any]) -> Predictor:
    """One predictor for all calls with the same options of `load`, where they can be compared."""
    model = options.get("model")
    try:
        stamp = FileSignature.of(model) if model is not None and os.path.exists(model) else None
        hash(tuple(options.values()))
    except TypeError:  # a list or dict among them
        return load(**options)
    return _cached_predictor(stamp, os.getcwd(), **options)


@functools.lru_cache(maxsize=4)
def _cached_predictor(_stamp: FileSignature | None, _folder: str, **options: Any) -> Predictor:
    """The predictor, for as long as the model's file and the current folder are the same."""
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
    from toplabel.models.build import build  # imports torch
    from toplabel.models.sources.module import from_module

    running = Running(**options)
    model = from_module(
        module, labels=labels, preprocess=preprocess, multi_label=multi_label, name=name
    )
    tell_order(model.labels, running)
    opened = build(model, running, entry=None)
    classifier, compile_ = with_live(opened, lambda: module)  # the user's own: it stays
    return _predictor(classifier, running, compile=compile_)


def _predictor(
    classifier: Classifier,
    running: Running,
    *,
    compile: Callable[[], Classifier] | None = None,
) -> Predictor:
    return Predictor(
        classifier,
        threads=running.threads,
        batch_size=running.batch_size,
        exact=running.exact,
        read=running.read,
        compile=compile,
        warn=running.warn,
    )
