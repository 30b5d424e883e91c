"""Compile: a model in, a program out that agrees with eager PyTorch, or why there is none."""

from __future__ import annotations

import copy
import logging
import math
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel._internal import platform
from toplabel._internal.onnxruntime import ort
from toplabel.bundle.cache import COPIES
from toplabel.bundle.model import Model
from toplabel.bundle.program import A_DAY, REFERENCE_NAME, NotCompiled, Program
from toplabel.bundle.reference import (
    Agreement,
    ReferenceOutputs,
    checked_program,
    compare,
    replay_once,
)
from toplabel.errors import ModelError
from toplabel.inference.engines.onnxruntime import open_new
from toplabel.models.compile.child import (
    Report,
    can_have_children,
    describe,
    run_here,
    run_in_child,
)
from toplabel.models.compile.eager import FirstAnswers, is_no_room, reference_outputs
from toplabel.models.compile.export import (
    INPUT_NAME,
    OPSET,
    OUTPUT_NAME,
    Exporter,
    export,
    exporters,
)
from toplabel.models.compile.fingerprint import program_key

TIME_LIMIT_SECONDS = 300.0

logger = logging.getLogger(__name__)


def compile_model(
    model: Model,
    folder: Path,
    *,
    first: FirstAnswers | None = None,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Program | NotCompiled:
    """The model's program, written into `folder`, or why there is none.

    The work is done in a child process where that is safe: on Linux, before CUDA is in use. Its
    memory, prints and crashes stay there, and it ends with the time limit or with this process.

    Args:
        model: As its source gave it.
        folder: Empty; on failure it is left so.
        first: What the network gave before its first label, where it was asked.
        time_limit_seconds: For all of it, where there is a child process.

    Raises:
        ModelError: The model cannot be trusted: it fails, gives no (N, K) scores, answers
            differently the second time, or lets the rest of the batch change an answer.
        OSError: The folder cannot be written to, or its disk is full.
    """
    log = folder / "compile.log"
    key = program_key(model)  # before any forward, which may change the module's attributes
    try:
        result = _run(model, folder, log, first, time_limit_seconds)
        log.unlink(missing_ok=True)
        if isinstance(result, Program):
            program = replace(result, key=key)
            program.write(folder)
            return program
    except BaseException:
        _empty(folder)
        raise
    _empty(folder)
    return result


def _run(
    model: Model,
    folder: Path,
    log: Path,
    first: FirstAnswers | None,
    time_limit_seconds: float,
) -> Program | NotCompiled:
    deadline = time.monotonic() + time_limit_seconds
    logger.info("compiling %s", model.name)
    if not can_have_children() or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        module = copy.deepcopy(model.module)  # forward may keep what it saw while traced
        return run_here(
            lambda report: _compile(model, module, folder, first, deadline, report), log=log
        )

    def work(report: Report) -> Program | NotCompiled:
        platform.keep_memory()
        torch.set_num_threads(1)  # the threads of the OpenMP library do not survive a fork
        return _compile(model, model.module, folder, first, deadline, report)

    return run_in_child(work, log=log, time_limit_seconds=time_limit_seconds, report=logger.info)


def _compile(
    model: Model,
    module: nn.Module,
    folder: Path,
    first: FirstAnswers | None,
    deadline: float,
    report: Report,
) -> Program | NotCompiled:
    reference, fixed_batch = reference_outputs(model, module, first)
    usable = compare(reference.logits, reference.logits)
    if not usable.agrees:
        return NotCompiled(usable.reason)
    reference.save(folder / REFERENCE_NAME)
    failures: dict[str, Exporter] = {}  # each reason, and who gave it first
    for exporter in exporters(fixed_batch=fixed_batch):
        if failures:
            report(f"compiling {model.name}: trying another way ({exporter})")
        agreement = _try(module, reference, folder, exporter)
        if isinstance(agreement, Agreement) and agreement.agrees:
            return checked_program(
                folder,
                reference,
                agreement,
                key="",  # the parent knows it
                input_name=INPUT_NAME,
                output_name=OUTPUT_NAME,
                fixed_batch=exporter.fixed_batch,
                exporter=f"torch {torch.__version__}, {exporter.name}, opset {OPSET}",
                checked_with=f"onnxruntime {ort.__version__}",
            )
        failures.setdefault(agreement.reason, exporter)
        if late := time.monotonic() > deadline:
            break
    reasons = "; ".join(f"{exporter}: {reason}" for reason, exporter in failures.items())
    return NotCompiled(reasons, seconds=A_DAY if late else math.inf)


def _try(
    module: nn.Module, reference: ReferenceOutputs, folder: Path, exporter: Exporter
) -> Agreement | NotCompiled:
    """Export and check; the program's files are in `folder` where they agree."""
    aside = folder / "attempt"
    aside.mkdir()
    try:
        example = torch.from_numpy(reference.inputs()[:2])
        path = export(module, example, aside, exporter=exporter)
        agreement = _replay(path, reference, exporter)
        if agreement.agrees:
            for file in aside.iterdir():
                file.rename(folder / file.name)
        return agreement
    except Exception as error:
        if is_no_room(error):
            raise
        return NotCompiled(str(error) if isinstance(error, ModelError) else describe(error))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replay(path: Path, reference: ReferenceOutputs, exporter: Exporter) -> Agreement:
    session = open_new(path, path.parent / COPIES)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        return np.asarray(logits, np.float32)

    return replay_once(reference, run, fixed_batch=exporter.fixed_batch)


def _empty(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
