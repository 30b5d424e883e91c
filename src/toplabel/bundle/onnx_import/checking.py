"""Checking: an ONNX program in, its goldens and what it is out, by running it unoptimised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.onnxruntime import ort
from toplabel._internal.text import first_line
from toplabel.bundle.reference import (
    Agreement,
    Goldens,
    are_probabilities,
    compare,
    draw_inputs,
    pixel_scale,
    replay,
    to_inputs,
)
from toplabel.bundle.trust import check_repeatability
from toplabel.errors import ModelError
from toplabel.preprocess import Preprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What an ONNX program turned out to be.

    Args:
        goldens: With the outputs of ONNX Runtime without any optimisation.
        output_name: The one output that has a row for each image.
        fixed_batch: It takes one image at a time.
        probabilities: Its outputs are scores already.
        agreement: Of ONNX Runtime with its optimisations with that without.
    """

    goldens: Goldens
    output_name: str
    fixed_batch: bool
    probabilities: bool
    agreement: Agreement


def check_onnx(path: Path, *, name: str, preprocess: Preprocess, one_only: bool) -> Checked:
    """Run the program on the golden inputs, alone and in batches, with and without optimisations.

    Args:
        path: The ONNX file, its weights beside it.
        name: What to call it in errors.
        preprocess: Its recipe.
        one_only: The file itself says that it takes one image at a time.

    Raises:
        ModelError: It cannot be run, is no classifier, or its answers cannot be trusted.
    """
    plain = _Session(path, name, optimised=False)
    pixels = draw_inputs((preprocess.num_channels, *preprocess.input_size))
    scale, offset = pixel_scale(preprocess)
    inputs = to_inputs(pixels, scale=scale, offset=offset)
    plain.choose_output(inputs[:1])
    logits = np.concatenate([plain(inputs[i : i + 1]) for i in range(len(inputs))])
    goldens = Goldens(pixels, scale, offset, logits)
    usable = compare(logits, logits)
    if not usable.agrees:
        raise ModelError(f"{name} cannot be used as a classifier: {usable.reason}")
    one_at_a_time = check_repeatability(
        plain,
        inputs,
        logits,
        name=name,
        if_random="export it in eval mode",
        if_batch="export it in eval mode, and without dynamic quantisation",
        batch_sizes=() if one_only else (2, 5),
    )
    fixed_batch = one_only or one_at_a_time
    optimised = _Session(path, name, optimised=True)
    optimised.output_name = plain.output_name
    agreement = replay(goldens, optimised, fixed_batch=fixed_batch)
    if not agreement.agrees:
        raise ModelError(
            f"{name} gives other outputs once onnxruntime {ort.__version__} has optimised it:"
            f" {agreement.reason}; if it is quantised, take the float32 model it was made from"
        )
    return Checked(
        goldens=goldens,
        output_name=plain.output_name,
        fixed_batch=fixed_batch,
        probabilities=are_probabilities(logits),
        agreement=agreement,
    )


class _Session:
    """An ONNX Runtime session of one input and, once chosen, one output."""

    def __init__(self, path: Path, name: str, *, optimised: bool) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.name = name
        self.output_name = ""
        try:
            self._session = ort.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # to the same provider again, after printing to stdout
            )
        except Exception as error:  # the binding raises its own types, all plain Exceptions
            raise ModelError(
                f"onnxruntime {ort.__version__} cannot run {name}: {first_line(error)}; export the"
                " model again, with standard operators"
            ) from error
        self._input_name = self._session.get_inputs()[0].name

    def choose_output(self, one: NDArray[np.float32]) -> None:
        """Find the one output that has a row of scores for each image.

        Raises:
            ModelError: There is none, or there are several.
        """
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._try(None, one), strict=True))
        rows = {name: value.shape for name, value in outputs.items() if _is_row(value)}
        if len(rows) != 1:
            found = ", ".join(f"{name!r} {_described(value)}" for name, value in outputs.items())
            how_many = "none" if not rows else "more than one"
            raise ModelError(
                f"{self.name} gives {found} for one image; expected one output of shape (N, K), a"
                f" score for each class, and found {how_many}; export the model with that one alone"
            )
        (self.output_name,) = rows

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs (N, K), float32, for a batch (N, C, H, W), float32."""
        return np.asarray(self._try([self.output_name], batch)[0], np.float32)

    def _try(
        self, names: list[str] | None, batch: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(names, {self._input_name: batch})
        except Exception as error:
            raise ModelError(
                f"{self.name} fails on a tensor of shape {batch.shape} ({first_line(error)});"
                " state the preprocessing that it was exported for"
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
