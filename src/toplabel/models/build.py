"""A source's model in, a classifier that labels at once and is compiled later out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from toplabel._internal.notices import collected, warn
from toplabel._internal.platform import available_cpus
from toplabel.bundle import cache
from toplabel.bundle.bundle import Bundle, with_doubts
from toplabel.bundle.cache import find_failed_compile, remember_failed_compile
from toplabel.bundle.program import NotCompiled
from toplabel.bundle.reference import ReferenceOutputs, replay
from toplabel.errors import BundleError, EngineError
from toplabel.inference.classifier import Classifier, Lazy, PendingClassifier
from toplabel.inference.engines.torch import TorchEngine
from toplabel.inference.engines.torch_pixels import PixelEngine
from toplabel.models.compile import background
from toplabel.models.compile.eager import FirstAnswers, first_answers
from toplabel.models.compile.fingerprint import model_sha256, program_key
from toplabel.preprocess.custom import CustomPreprocess
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from toplabel.bundle.model import Model
    from toplabel.bundle.program import Program
    from toplabel.inference.engines import Engine, OpenEngine
    from toplabel.models.options import InferenceOptions

_EXPORTER = f"torch {torch.__version__}"

logger = logging.getLogger(__name__)


def build(
    model: Model, inference: InferenceOptions, *, entry: str | None, checked: bool = False
) -> PendingClassifier:
    """A classifier for `model`: in eager PyTorch now, compiled later where that is wanted.

    What an earlier attempt in the background has found is told, and heeded, before any label.

    Args:
        model: As its source gave it; the warnings collected so far go into its provenance.
        inference: How it is to be run.
        entry: What the cache keeps it under for later starts; None: not at all.
        checked: Its answers are known to be the same twice and in any batch; else it is asked
            before its first label.

    Raises:
        ModelError: Compiling has failed in the background, and the model's answers are not to be
            trusted.
        EngineError: The engine or device is not available here.
    """
    name = f"{model.name}@{model_sha256(model)[:8]}"
    model = replace(model, name=name, provenance=with_doubts(model.provenance, collected()))
    eager = _eager(model, inference)
    if inference.needs_torch:
        reason = "it was loaded with an engine, device or dtype that needs PyTorch; load it without"
        return PendingClassifier(replace(eager, unsaved=reason))
    key, first = program_key(model), list[FirstAnswers]()
    if not checked:
        eager = replace(eager, open_engine=_checked_first(model, eager.open_engine, first))

    def compile_() -> Classifier:
        bundle = _bundle(model, inference, key, first[0] if first else None)
        if isinstance(bundle, NotCompiled):
            return replace(eager, unsaved=f"it runs only in PyTorch: {bundle.reason}")
        classifier = Classifier.of_bundle(
            bundle, engine=inference.program_engine, fast=inference.fast
        )
        if isinstance(model.preprocess, CustomPreprocess):
            classifier = classifier.with_custom_preprocess(model.preprocess)
        classifier.open_engine(available_cpus())  # checks it and makes the copy later starts open
        if entry is not None:
            cache.store_entry(entry, bundle.to_manifest(), weights_files=model.weights_files)
        return classifier

    pending = PendingClassifier(eager, compile_)
    error, said = background.read_findings(name)
    for text in said:
        warn(text)
    if error:
        logger.info("compiling %s in the background failed: %s", name, error)
    if error or find_failed_compile(key, exporter=_EXPORTER):
        pending.compile()  # where the model cannot be trusted still, the findings stay
    background.forget_findings(name)
    return pending


def _checked_first(
    model: Model, open_engine: OpenEngine, answers: list[FirstAnswers]
) -> OpenEngine:
    """The same, which asks the network for its first answers and leaves them there.

    Its engine raises a `ModelError` where they cannot be trusted: there is no label then.
    """

    def open_checked(threads: int, *, features: bool = False) -> Engine:
        engine = open_engine(threads, features=features)
        if not answers:
            torch.set_num_threads(threads)
            answers.append(first_answers(model))
        return engine

    return open_checked


def _eager(model: Model, inference: InferenceOptions) -> Classifier:
    pixels = inference.device.startswith("cuda") and isinstance(model.preprocess, Preprocess)

    def open_engine(threads: int, *, features: bool = False) -> Engine:
        engine = PixelEngine if pixels else TorchEngine
        return engine(
            model,
            device=inference.device,
            dtype=inference.dtype,
            threads=threads,
            features=features,
        )

    return Classifier(
        name=model.name,
        preprocess=model.preprocess,
        labels=model.labels,
        activation=model.activation,
        multi_label=model.multi_label,
        open_engine=open_engine,
        parallel=pixels,
        lazy_module=Lazy(lambda: model.module),
    )


def _bundle(
    model: Model, inference: InferenceOptions, key: str, first: FirstAnswers | None
) -> Bundle | NotCompiled:
    """The model's bundle, or why eager PyTorch must do.

    Raises:
        ModelError: The model's answers are not to be trusted, compiled or not.
        EngineError: An engine of programs was demanded, and there is no program.
    """
    program = _program(model, key, first)
    if isinstance(program, NotCompiled):
        warn(f"{model.name} stays in PyTorch: {program.reason}")
        if inference.demands_program:
            raise EngineError(f"{model.name} cannot run with {inference.engine}: {program.reason}")
        return program
    return Bundle(
        name=model.name,
        program=program,
        preprocess=(
            model.preprocess.stand_in
            if isinstance(model.preprocess, CustomPreprocess)
            else model.preprocess
        ),
        labels=model.labels,
        activation=model.activation,
        multi_label=model.multi_label,
        provenance=model.provenance,
    )


def _program(model: Model, key: str, first: FirstAnswers | None) -> Program | NotCompiled:
    """The model's program from the cache, or made now; the reason where it cannot be made."""
    refusal = find_failed_compile(key, exporter=_EXPORTER)
    if refusal is not None:
        return NotCompiled(refusal)
    found = cache.find_program(key)
    if found is not None and not _still_agrees(found, model) and not cache.forget_program(key):
        return NotCompiled(
            "the cached program no longer agrees with PyTorch, and the cache cannot be written to"
        )

    def compile_into(folder: Path) -> Program | NotCompiled:
        from toplabel.models.compile.compile import (  # onnx, after the first label
            TIME_LIMIT_SECONDS,
            compile_model,
        )

        limit = background.TIME_LIMIT_SECONDS if background.is_detached() else TIME_LIMIT_SECONDS
        return compile_model(model, folder, first=first, time_limit_seconds=limit)

    program = cache.store_program(key, compile_into, or_here=not background.is_detached())
    if isinstance(program, NotCompiled) and program.seconds:
        remember_failed_compile(key, program, exporter=_EXPORTER)
    return program


def _still_agrees(program: Program, model: Model) -> bool:
    """Whether eager PyTorch gives today what it gave when the program was made.

    The key covers weights, settings and the code of classes, but not the functions they call.
    """
    try:
        reference = ReferenceOutputs.load(program.reference_path)
    except BundleError:  # another process cleared the cache a moment ago
        return False
    return replay(reference, TorchEngine(model, device="cpu"), batch_sizes=(1,)).agrees
