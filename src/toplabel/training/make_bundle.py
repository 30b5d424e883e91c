"""A model and a head in; the bundle of the model with that head out."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.onnxruntime import open_session, ort
from toplabel._version import __version__
from toplabel.bundle import cache
from toplabel.bundle.bundle import Bundle, with_doubts
from toplabel.bundle.features import LOGITS_NAME, find_features, with_head
from toplabel.bundle.onnx_header import map_file, read_onnx_header
from toplabel.bundle.program import PROGRAM_NAME, REFERENCE_NAME, NotCompiled, Program
from toplabel.bundle.reference import ReferenceOutputs, checked_program, replay_once
from toplabel.errors import BundleError
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from toplabel.bundle.calibration import Calibration
    from toplabel.bundle.unknown import Memory, UnknownDetector
    from toplabel.labels.labels import Labels
    from toplabel.training.head import Head

_KEY_SCHEME = "trained 1"
_NOT_INHERITED = ("labels", "multi_label", "outputs")
"""What doubts of the base model are about that the new head does not have."""


def make_bundle(
    base: Bundle,
    head: Head,
    *,
    name: str,
    labels: Labels,
    calibration: Calibration,
    unknown: UnknownDetector | None,
    examples: Memory | None,
    training: Mapping[str, Any],
) -> Bundle:
    """The bundle that gives head.logits(features) of the base model's features.

    Args:
        base: The model that the features come from.
        head: K classes.
        name: What it is called in records; the start of a hash is added.
        labels: K names.
        calibration: Temperature and prior.
        unknown: Tells images that are unlike those it was trained on; None: nothing does.
        examples: Of further images, to train on them again.
        training: What `inspect` says of how it was made, as plain data for JSON.

    Raises:
        BundleError: The program cannot be written, or does not give the head's logits.
    """
    key = _key(base.program, head)
    program = cache.store_program(key, lambda folder: _build(base.program, head, key, folder))
    if isinstance(program, NotCompiled):
        raise BundleError(f"cannot write the trained model: {program.reason}")
    notices = [one for one in base.warnings if one.about not in _NOT_INHERITED]
    return Bundle(
        name=f"{name}@{key[:8]}",
        program=program,
        preprocess=base.preprocess,
        labels=labels,
        provenance=with_doubts({**base.provenance, "trained on": base.name}, notices),
        calibration=calibration,
        unknown=unknown,
        examples=examples,
        training=training,
    )


def _key(base: Program, head: Head) -> str:
    digest = hashlib.sha256(f"{_KEY_SCHEME} {base.key} {head.weight.shape} ".encode())
    digest.update(np.ascontiguousarray(head.weight).tobytes() + head.bias.tobytes())
    return digest.hexdigest()


def _build(base: Program, head: Head, key: str, folder: Path) -> Program | NotCompiled:
    """The program, made in the folder, and checked against features x head in numpy."""
    features = find_features(base)
    path = folder / PROGRAM_NAME
    path.write_bytes(with_head(map_file(base.path), features, head.weight, head.bias))
    for weights in read_onnx_header(path).weights:
        shutil.copyfile(base.path.parent / weights, folder / weights)
    given = ReferenceOutputs.load(base.reference_path)
    engine = OnnxRuntimeEngine(base, features=True)
    rows = [engine.answer(one[None])[1] for one in given.inputs()]
    reference = replace(given, logits=head.logits(np.concatenate(rows)))
    session = open_session(path)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run([LOGITS_NAME], {base.input_name: batch})
        return np.asarray(logits, np.float32)

    agreement = replay_once(reference, run, fixed_batch=base.fixed_batch)
    if not agreement.agrees:
        return NotCompiled(f"its program does not give the head's logits: {agreement.reason}")
    reference.save(folder / REFERENCE_NAME)
    return checked_program(
        folder,
        reference,
        agreement,
        key=key,
        input_name=base.input_name,
        output_name=LOGITS_NAME,
        fixed_batch=base.fixed_batch,
        exporter=f"toplabel {__version__}, on {base.exporter}",
        checked_with=f"onnxruntime {ort.__version__}, against features x head in numpy",
    )
