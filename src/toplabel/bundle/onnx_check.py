"""An ONNX program from elsewhere in; out the program in the cache, checked by running it."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.onnxruntime import open_session, ort
from toplabel._internal.text import first_line
from toplabel.bundle import cache
from toplabel.bundle.program import PROGRAM_NAME, REFERENCE_NAME, NotCompiled, Program
from toplabel.bundle.reference import ReferenceOutputs, checked_program, compare, replay
from toplabel.bundle.trust import check_repeatability
from toplabel.errors import BundleError, ModelError
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from toplabel.bundle.onnx_import import OnnxSource

_KEY_SCHEME = "onnx file 1"

logger = logging.getLogger(__name__)


def import_program(source: OnnxSource, preprocess: Preprocess) -> Program:
    """The program of an ONNX file, from the cache, or copied into it and checked.

    Raises:
        ModelError: It cannot be run, is no classifier, or its answers cannot be trusted.
        BundleError: It changes meanwhile, or there is no room for it.
    """
    shape = (preprocess.num_channels, *preprocess.input_size)
    text = json.dumps([_KEY_SCHEME, shape, dict(source.hashes)], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()

    def build(folder: Path) -> Program:
        logger.info("checking %s", source.name)
        for name, file in source.files.items():
            shutil.copyfile(file, folder / name)
        now = tuple(cache.FileSignature.of(known.path) for known in source.signatures)
        if now != source.signatures:
            raise BundleError(f"{source.name} changed while it was read; try again")
        program = _check(source, preprocess, key, folder)
        program.write(folder)
        return program

    program = cache.store_program(key, build)
    if isinstance(program, NotCompiled):
        raise BundleError(f"cannot copy {source.name} into the cache: {program.reason}")
    return program


def _check(source: OnnxSource, preprocess: Preprocess, key: str, folder: Path) -> Program:
    """The program in the folder, run on the reference inputs: alone, in batches, optimised or not.

    Raises:
        ModelError: It cannot be run, is no classifier, or its answers cannot be trusted.
    """
    path, name = folder / PROGRAM_NAME, source.name
    plain = _Session(path, name, optimised=False)
    reference = ReferenceOutputs.draw(preprocess, plain)
    usable = compare(reference.logits, reference.logits)
    if not usable.agrees:
        raise ModelError(f"{name} cannot be used as a classifier: {usable.reason}")
    one_only = source.input.dimensions is not None and source.input.dimensions[0] == 1
    one_at_a_time = check_repeatability(
        plain,
        reference.inputs(),
        reference.logits,
        name=name,
        if_random="export it in eval mode",
        if_batch="export it in eval mode, and without dynamic quantisation",
        batch_sizes=() if one_only else (2, 5),
    )
    fixed_batch = one_only or one_at_a_time
    optimised = _Session(path, name, optimised=True)
    optimised.output_name = plain.output_name
    agreement = replay(reference, optimised, fixed_batch=fixed_batch)
    if not agreement.agrees:
        raise ModelError(
            f"{name} gives different outputs once onnxruntime {ort.__version__} has optimised it:"
            f" {agreement.reason}; if it is quantised, use the float32 model it was made from"
        )
    reference.save(folder / REFERENCE_NAME)
    return checked_program(
        folder,
        reference,
        agreement,
        key=key,
        input_name=source.input.name,
        output_name=plain.output_name,
        fixed_batch=fixed_batch,
        exporter=source.header.producer or "not stated",
        checked_with=f"onnxruntime {ort.__version__}, against itself without optimisations;"
        " without PyTorch to compare with",
    )


class _Session:
    """An ONNX Runtime session of one input and, once chosen, one output."""

    def __init__(self, path: Path, name: str, *, optimised: bool) -> None:
        self.name = name
        self.output_name = ""
        try:
            self._session = open_session(path, optimised=optimised)
        except Exception as error:  # the binding raises its own types, all plain Exceptions
            raise ModelError(
                f"onnxruntime {ort.__version__} cannot run {name}: {first_line(error)}; export the"
                " model again, with standard operators"
            ) from error
        self._input_name = self._session.get_inputs()[0].name

    def _choose_output(self, one: NDArray[np.float32]) -> None:
        """Find the one output that has a row of scores for each image."""
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._try(None, one), strict=True))
        rows = [name for name, value in outputs.items() if _is_row(value)]
        if len(rows) != 1:
            found = ", ".join(f"{name!r} {_described(value)}" for name, value in outputs.items())
            how_many = "none" if not rows else "more than one"
            raise ModelError(
                f"{self.name} gives {found} for one image; expected one output of shape (N, K), a"
                f" score for each class, and found {how_many}; export the model with that one alone"
            )
        (self.output_name,) = rows

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs (N, K), float32, for a batch (N, C, H, W), float32.

        Raises:
            ModelError: It fails, or has not just one output that has a row for each image.
        """
        if not self.output_name:
            self._choose_output(batch[:1])
        return np.asarray(self._try([self.output_name], batch)[0], np.float32)

    def _try(
        self, names: list[str] | None, batch: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(names, {self._input_name: batch})
        except Exception as error:
            raise ModelError(
                f"{self.name} fails on a tensor of shape {batch.shape} ({first_line(error)});"
                " pass the preprocessing that it was exported for"
            ) from error
        return outputs


def _is_row(value: object) -> bool:
    """Whether an output for one image is float (1, K)."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return False
    return value.ndim == 2 and value.shape[0] == 1 and value.shape[1] > 0


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
