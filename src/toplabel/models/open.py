"""Opening: a model's name and what is said of it in, a classifier out, from the cache where it is.

A model that this machine has compiled before opens without torch. A new one comes from its source,
answers its first image in eager PyTorch, and is compiled later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from toplabel._internal.optional import require
from toplabel.bundle.bundle import (
    BUILT_IN_NAME,
    DOUBTS,
    Bundle,
    built_in_bundle,
    cached_bundle,
    is_bundle,
)
from toplabel.errors import ModelNotFound, UsageError
from toplabel.inference.classifier import Classifier, Live
from toplabel.models.options import Stated
from toplabel.models.sources import check_file, is_path, tell_nobody

if TYPE_CHECKING:
    from torch import nn

    from toplabel.inference.options import Running
    from toplabel.labels.labels import Labels


Opened = tuple[Classifier, Callable[[], Classifier] | None]
"""A classifier, and what compiles it later, where that is wanted."""


def open_classifier(name: str | None, running: Running, stated: Stated) -> Opened:
    """The classifier of this name; None is the embedded model. Raises what `load` raises."""
    opener = _open_embedded if name is None else _OPENERS.get(_kind(name), _open_named)
    return opener(name or "", running, stated)


def _kind(name: str) -> str:
    """What a model's name stands for: "bundle", "onnx" or "checkpoint" for a file, or "name"."""
    if name.partition("@")[0] == BUILT_IN_NAME:
        return "embedded"
    check_file(name)
    if not is_path(name) or not os.path.isfile(name):
        return "name"
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _KINDS:
        return _KINDS[suffix]
    return "bundle" if is_bundle(name) else "checkpoint"


_KINDS = {".toplabel": "bundle", ".onnx": "onnx"}


def _open_embedded(name: str, running: Running, stated: Stated) -> Opened:
    stated.demand_no_checkpoint("the embedded model")
    _demand_onnxruntime("the embedded model", running, "'timm/tf_efficientnet_lite0'")
    bundle = built_in_bundle()
    if "@" in name and name != bundle.name:
        raise ModelNotFound(f"got the model {name!r}; this version of toplabel has {bundle.name}")
    return Classifier.of_bundle(_restated(bundle, running, stated)), None


def _open_bundle(path: str, running: Running, stated: Stated) -> Opened:
    stated.demand_no_checkpoint(path)
    _demand_onnxruntime(path, running, "the checkpoint that it was packed from")
    bundle = cached_bundle(os.path.realpath(path))  # as `open_packed` keeps it
    if bundle is None:
        from toplabel.bundle.file import open_packed  # 50 ms

        bundle = open_packed(Path(path))
    return Classifier.of_bundle(_restated(bundle, running, stated)), None


def _open_onnx(path: str, running: Running, stated: Stated) -> Opened:
    stated.demand_no_checkpoint(path)
    _demand_onnxruntime(path, running, "the checkpoint that it was exported from")
    from toplabel.bundle.onnx_import import open_onnx

    bundle = open_onnx(
        Path(path),
        labels=stated.read_labels(),
        preprocess=stated.read_preprocess(),
        multi_label=stated.multi_label,
    )
    tell_order(bundle.labels, running)
    return Classifier.of_bundle(bundle), None


def _open_checkpoint(path: str, running: Running, stated: Stated) -> Opened:
    """A checkpoint: from the cache where it, its class and what is said of it are the same."""

    def revive() -> nn.Module:
        from toplabel.models.sources.checkpoint import load as load_checkpoint

        return load_checkpoint(Path(path), stated=stated, notify=tell_nobody).module

    entry = _checkpoint_entry(path, stated)
    if entry is not None and not running.needs_torch and not stated.recompile:
        bundle = cached_bundle(entry)
        if bundle is not None:
            for doubt in bundle.provenance.get(DOUBTS, "").splitlines():
                running.notify(doubt)
            return with_live((Classifier.of_bundle(bundle), None), revive)
    require("torch", extra="torch", purpose=f"the checkpoint {path!r}")
    from toplabel.models.build import build
    from toplabel.models.fit.class_spec import is_fresh
    from toplabel.models.sources.checkpoint import load as load_checkpoint

    own = isinstance(stated.arch, str) and ":" in stated.arch
    if own and not is_fresh(str(stated.arch)):  # what runs may not be what stands in the file
        entry = None
    model = load_checkpoint(Path(path), stated=stated, notify=running.notify)
    return with_live(build(model, running, entry=entry), revive)


def _checkpoint_entry(path: str, stated: Stated) -> str | None:
    """Under what the cache knows a checkpoint: its path, and what was said of it."""
    code = None
    if isinstance(stated.arch, str) and ":" in stated.arch:
        from toplabel.models.fit.class_spec import locate_class_file

        code = locate_class_file(stated.arch)
    said = stated.fingerprint(code=None if code is None else os.path.realpath(code))
    return None if said is None else f"{os.path.realpath(path)} {said}"


def _open_named(name: str, running: Running, stated: Stated) -> Opened:
    """A model of a zoo, by its name; or a local Hugging Face folder."""
    stated.demand_no_checkpoint(name)

    def revive() -> nn.Module:
        from toplabel.models.sources import load_model

        return load_model(name, preprocess=stated.read_preprocess()).module

    entry = entry_name(name, stated)
    if not running.needs_torch:
        bundle = cached_bundle(entry)
        if bundle is not None:
            _tell_name(name, bundle.name, running)
            return with_live((Classifier.of_bundle(bundle), None), revive)
    from toplabel.models.sources import load_model

    model = load_model(name, notify=running.notify, preprocess=stated.read_preprocess())
    from toplabel.models.build import build

    classifier, compile_ = build(stated.restate(model), running, entry=entry)
    _tell_name(name, classifier.name, running)
    return with_live((classifier, compile_), revive)


def with_live(opened: Opened, revive: Callable[[], nn.Module]) -> Opened:
    """The same, with a way to have the network itself again once only its program is in memory."""
    classifier, compile_ = opened
    live = Live(revive)

    def compile_and_revive() -> Classifier:
        compiled = compile_() if compile_ is not None else classifier
        return compiled if compiled.live is not None else replace(compiled, live=live)

    if classifier.live is None:
        classifier = replace(classifier, live=live)
    return classifier, None if compile_ is None else compile_and_revive


_OPENERS: dict[str, Callable[[str, Running, Stated], Opened]] = {
    "embedded": _open_embedded,
    "bundle": _open_bundle,
    "onnx": _open_onnx,
    "checkpoint": _open_checkpoint,
}


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
        tell_order(labels, running)
    calibration = bundle.calibration
    if calibration is not None and (recipe is not None or stated.multi_label):
        running.notify("its calibration is left out: it was made with another preprocessing")
        calibration = None
    return replace(
        bundle,
        calibration=calibration,
        labels=labels or bundle.labels,
        preprocess=recipe or bundle.preprocess,
        activation=(
            "sigmoid" if stated.multi_label and bundle.activation != "none" else bundle.activation
        ),
    )


def tell_order(labels: Labels, running: Running) -> None:
    """Say where the order of the names may be that of text, not of the network."""
    from toplabel.labels.files import order_warning

    if warning := order_warning(labels):
        running.notify(warning)


def entry_name(name: str, stated: Stated) -> str:
    """Under what the cache knows a model: local folders by their real path, others as typed."""
    path = os.path.realpath(name) if is_path(name) else name
    return path if stated == Stated() else f"{path} {stated.fingerprint(code=None)}"


def _tell_name(given: str, name: str, running: Running) -> None:
    """Say once what a short name became; `name` ends in @ and the start of its weights' sha256."""
    if name.rpartition("@")[0] != given and not is_path(given):
        running.notify(f"{given} is {name}")
