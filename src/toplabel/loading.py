"""The one door between the floors: a model's name in, a predictor out.

A model that this machine has compiled before opens from the cache, without torch. A new one comes
from its source, answers its first image in eager PyTorch, and is then compiled.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from toplabel._optional import require
from toplabel.bundle import DOUBTS, EMBEDDED_NAME, Bundle, cached_bundle, embedded_bundle
from toplabel.cache.stamp import FileStamp
from toplabel.classifier import Classifier, Live
from toplabel.errors import ModelNotFound, UsageError
from toplabel.predictor import Predictor
from toplabel.running import Options, Running
from toplabel.sources import check_file, is_path
from toplabel.stated import Stated, Statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from toplabel.labels import Labels


Opened = tuple[Classifier, Callable[[], Classifier] | None]
"""A classifier, and what compiles it later, where that is wanted."""


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
    opener = _open_embedded if name is None else _OPENERS.get(_kind(name), _open_named)
    classifier, compile_ = opener(name or "", running, stated)
    return _predictor(classifier, running, compile=compile_)


def _kind(name: str) -> str:
    """What a model's name stands for: "bundle", "onnx" or "checkpoint" for a file, or "name"."""
    if name.partition("@")[0] == EMBEDDED_NAME:
        return "embedded"
    check_file(name)
    if not is_path(name) or not os.path.isfile(name):
        return "name"
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _KINDS:
        return _KINDS[suffix]
    from toplabel.packed import is_packed

    return "bundle" if is_packed(name) else "checkpoint"


_KINDS = {".toplabel": "bundle", ".onnx": "onnx"}


def _open_embedded(name: str, running: Running, stated: Stated) -> Opened:
    stated.demand_no_checkpoint("the embedded model")
    _demand_onnxruntime("the embedded model", running, "'timm/tf_efficientnet_lite0'")
    bundle = embedded_bundle()
    if "@" in name and name != bundle.name:
        raise ModelNotFound(f"got the model {name!r}; this version of toplabel has {bundle.name}")
    return Classifier.of_bundle(_restated(bundle, running, stated)), None


def _open_bundle(path: str, running: Running, stated: Stated) -> Opened:
    stated.demand_no_checkpoint(path)
    _demand_onnxruntime(path, running, "the checkpoint that it was packed from")
    bundle = cached_bundle(os.path.realpath(path))  # as `open_packed` keeps it
    if bundle is None:
        from toplabel.packed import open_packed  # 50 ms

        bundle = open_packed(Path(path), notify=running.notify)
    return Classifier.of_bundle(_restated(bundle, running, stated)), None


def _open_onnx(path: str, running: Running, stated: Stated) -> Opened:
    stated.demand_no_checkpoint(path)
    _demand_onnxruntime(path, running, "the checkpoint that it was exported from")
    from toplabel.onnx_files import open_onnx

    bundle = open_onnx(
        Path(path),
        labels=stated.read_labels(),
        preprocess=stated.read_preprocess(),
        multi_label=stated.multi_label,
        notify=running.notify,
    )
    _tell_order(bundle.labels, running)
    return Classifier.of_bundle(bundle), None


def _open_checkpoint(path: str, running: Running, stated: Stated) -> Opened:
    """A checkpoint: from the cache where it, its class and what is said of it are the same."""

    def revive() -> nn.Module:
        from toplabel.sources.checkpoint import load as load_checkpoint

        return load_checkpoint(Path(path), stated=stated, notify=_tell_nobody).module

    entry = _checkpoint_entry(path, stated)
    if entry is not None and not running.needs_torch and not stated.recompile:
        bundle = cached_bundle(entry)
        if bundle is not None:
            for doubt in bundle.provenance.get(DOUBTS, "").splitlines():
                running.notify(doubt)
            return _with_live((Classifier.of_bundle(bundle), None), revive)
    require("torch", extra="torch", purpose=f"the checkpoint {path!r}")
    from toplabel.building import build
    from toplabel.fitting.locating import is_fresh
    from toplabel.sources.checkpoint import load as load_checkpoint

    own = isinstance(stated.arch, str) and ":" in stated.arch
    if own and not is_fresh(str(stated.arch)):  # what runs may not be what stands in the file
        entry = None
    model = load_checkpoint(Path(path), stated=stated, notify=running.notify)
    return _with_live(build(model, running, entry=entry), revive)


def _checkpoint_entry(path: str, stated: Stated) -> str | None:
    """Under what the cache knows a checkpoint: its path, and what was said of it."""
    code = None
    if isinstance(stated.arch, str) and ":" in stated.arch:
        from toplabel.fitting.locating import locate_class_file

        code = locate_class_file(stated.arch)
    said = stated.fingerprint(code=None if code is None else os.path.realpath(code))
    return None if said is None else f"{os.path.realpath(path)} {said}"


def _open_named(name: str, running: Running, stated: Stated) -> Opened:
    """A model of a zoo, by its name; or a local Hugging Face folder."""
    stated.demand_no_checkpoint(name)

    def revive() -> nn.Module:
        from toplabel.sources import load_model

        return load_model(name, preprocess=stated.read_preprocess()).module

    entry = _entry_name(name, stated)
    if not running.needs_torch:
        bundle = cached_bundle(entry)
        if bundle is not None:
            _tell_name(name, bundle.name, running)
            return _with_live((Classifier.of_bundle(bundle), None), revive)
    from toplabel.sources import load_model

    model = load_model(name, notify=running.notify, preprocess=stated.read_preprocess())
    from toplabel.building import build

    classifier, compile_ = build(stated.restate(model), running, entry=entry)
    _tell_name(name, classifier.name, running)
    return _with_live((classifier, compile_), revive)


def _with_live(opened: Opened, revive: Callable[[], nn.Module]) -> Opened:
    """The same, with a way to have the network itself again once only its program is in memory."""
    classifier, compile_ = opened
    live = Live(revive)

    def compile_and_revive() -> Classifier:
        compiled = compile_() if compile_ is not None else classifier
        return compiled if compiled.live is not None else replace(compiled, live=live)

    if classifier.live is None:
        classifier = replace(classifier, live=live)
    return classifier, None if compile_ is None else compile_and_revive


def _tell_nobody(text: str) -> None:
    pass


_OPENERS: dict[str, Callable[[str, Running, Stated], Opened]] = {
    "embedded": _open_embedded,
    "bundle": _open_bundle,
    "onnx": _open_onnx,
    "checkpoint": _open_checkpoint,
}


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
        stamp = FileStamp.of(model) if model is not None and os.path.exists(model) else None
        hash(tuple(options.values()))
    except TypeError:  # a list or dict among them
        return load(**options)
    return _cached_predictor(stamp, os.getcwd(), **options)


@functools.lru_cache(maxsize=4)
def _cached_predictor(_stamp: FileStamp | None, _folder: str, **options: Any) -> Predictor:
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
    from toplabel.building import build  # imports torch
    from toplabel.sources.module import from_module

    running = Running(**options)
    model = from_module(
        module, labels=labels, preprocess=preprocess, multi_label=multi_label, name=name
    )
    _tell_order(model.labels, running)
    opened = build(model, running, entry=None)
    classifier, compile_ = _with_live(opened, lambda: module)  # the user's own: it stays
    return _predictor(classifier, running, compile=compile_)


def _demand_onnxruntime(name: str, running: Running, other: str) -> None:
    """Stop where PyTorch is asked for, and there is only a compiled program.

    Raises:
        UsageError: It says which model to name instead.
    """
    if running.needs_torch:
        raise UsageError(
            f"{name} runs with onnxruntime, on the CPU, in float32; for PyTorch or a GPU name"
            f" {other}"
        )


def _restated(bundle: Bundle, running: Running, stated: Stated) -> Bundle:
    """The bundle with the labels, recipe and activation that the user states instead."""
    labels, recipe = stated.read_labels(), stated.read_preprocess()
    if labels is not None:
        labels.check_count(len(bundle.labels))
        _tell_order(labels, running)
    return replace(
        bundle,
        labels=labels or bundle.labels,
        preprocess=recipe or bundle.preprocess,
        activation=(
            "sigmoid" if stated.multi_label and bundle.activation != "none" else bundle.activation
        ),
    )


def _tell_order(labels: Labels, running: Running) -> None:
    """Say where the order of the names may be that of text, not of the network."""
    from toplabel.label_files import order_warning

    if warning := order_warning(labels):
        running.notify(warning)


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


def _entry_name(name: str, stated: Stated) -> str:
    """Under what the cache knows a model: local folders by their real path, others as typed."""
    path = os.path.realpath(name) if is_path(name) else name
    return path if stated == Stated() else f"{path} {stated.fingerprint(code=None)}"


def _tell_name(given: str, name: str, running: Running) -> None:
    """Say once what a short name became; `name` ends in @ and the start of its weights' sha256."""
    if name.rpartition("@")[0] != given and not is_path(given):
        running.notify(f"{given} is {name}")
