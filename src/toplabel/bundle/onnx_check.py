"""An ONNX program from elsewhere in; out the program in the cache, checked by running it."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.onnxruntime import open_session, ort
from toplabel._internal.text import first_line
from toplabel.bundle import cache
from toplabel.bundle.outputs import Leaf, choose_leaf, to_rows
from toplabel.bundle.program import PROGRAM_NAME, REFERENCE_NAME, NotCompiled, Program
from toplabel.bundle.reference import ReferenceOutputs, checked_program, compare, replay
from toplabel.bundle.trust import check_repeatability
from toplabel.errors import BundleError, ModelError
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from toplabel.bundle.onnx_import import OnnxSource

_KEY_SCHEME = "onnx file 2"

logger = logging.getLogger(__name__)


def import_program(
    source: OnnxSource,
    preprocess: Preprocess,
    *,
    output: str | int | None = None,
    names: int | None = None,
) -> Program:
    """The program of an ONNX file, from the cache, or copied into it and checked.

    Args:
        source: The file.
        preprocess: What makes its input.
        output: Which of several outputs holds the scores: its name, or its place from 0.
        names: How many class names there are, where they are known.

    Raises:
        ModelError: It cannot be run, is no classifier, or its answers cannot be trusted.
        BundleError: It changes meanwhile, or there is no room for it.
    """
    shape = (preprocess.num_channels, *preprocess.input_size)
    choice = [output, names] if len(source.header.outputs) > 1 else None
    text = json.dumps([_KEY_SCHEME, shape, dict(source.hashes), choice], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()

    def build(folder: Path) -> Program:
        logger.info("checking %s", source.name)
        for name, file in source.files.items():
            shutil.copyfile(file, folder / name)
        now = tuple(cache.FileSignature.of(known.path) for known in source.signatures)
        if now != source.signatures:
            raise BundleError(f"{source.name} changed while it was read; try again")
        plain = _Session(folder / PROGRAM_NAME, source.name, optimised=False)
        plain.choose_output(source.header.outputs, output=output, names=names, shape=shape)
        program = _check(source, preprocess, plain, key, folder)
        program.write(folder)
        return program

    program = cache.store_program(key, build)
    if isinstance(program, NotCompiled):
        raise BundleError(f"cannot copy {source.name} into the cache: {program.reason}")
    return program


def _check(
    source: OnnxSource, preprocess: Preprocess, plain: _Session, key: str, folder: Path
) -> Program:
    """The program in the folder, run on the reference inputs: alone, in batches, optimised or not.

    Raises:
        ModelError: It cannot be run, is no classifier, or its answers cannot be trusted.
    """
    path, name = folder / PROGRAM_NAME, source.name
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

    def choose_output(
        self,
        outputs: Iterable[str],
        *,
        output: str | int | None,
        names: int | None,
        shape: tuple[int, int, int],
    ) -> None:
        """Find the one output that has a row of scores for each image.

        Args:
            outputs: The names of all.
            output: Which one it is, where that is stated.
            names: How many class names there are, where they are known.
            shape: (C, H, W).

        Raises:
            ModelError: It fails, or none of its outputs may be it, or several.
        """
        given = zip(outputs, self._try(None, np.zeros((1, *shape), np.float32)), strict=True)
        leaves = [
            Leaf(name, value.shape, str(value.dtype), value.dtype.kind == "f")
            if isinstance(value, np.ndarray)
            else Leaf(name, (), f"a {type(value).__name__}", floating=False)
            for name, value in given
        ]
        self.output_name = choose_leaf(leaves, output=output, names=names, model=self.name).name

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs (N, K), float32, for a batch (N, C, H, W), float32.

        Raises:
            ModelError: It fails.
        """
        (values,) = self._try([self.output_name], batch)
        rows: NDArray[np.float32] = to_rows(np.asarray(values, np.float32), len(batch))
        return rows

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
