"""Engines: batch -> logits. One file per library; this one names them and chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toplabel.bundle.program import Program
    from toplabel.preprocess.preprocess import Preprocess

    Batch = NDArray[np.float32 | np.uint8]
    """What engines take: tensors, float32 (N, C, H, W), or where they normalise these themselves,
    pixels, uint8 (N, H, W, P); P is 1 for `grey`, else C."""

EngineName = Literal["onnxruntime", "openvino", "torch"]

ProgramEngine = Literal["onnxruntime", "openvino"]
"""What runs a program; on the CPU."""

FloatPrecision = Literal["float32", "bfloat16"]
"""What a program's products of floats are computed in."""


class Engine(Protocol):
    """Runs a model on batches. Its `device` is "cpu", "cuda:0" or "mps"."""

    name: EngineName
    device: str

    @property
    def normalises(self) -> Preprocess | None:
        """The preprocessing whose last step it can do itself; None: it takes tensors alone.

        It takes what `resize_and_crop` of an equal one gives, too.
        """
        ...

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of N tensors, or of pixels.

        Raises:
            EngineError: The library failed.
            MemoryError: There was not enough memory for this batch, not even in halves.
        """
        ...

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for such a batch.

        The features are what the last linear layer takes (`toplabel.bundle.features`). Only an
        engine that was opened with features has them.

        Raises:
            ModelError: It has none.
            EngineError, MemoryError: As of a call.
        """
        ...


class OpenEngine(Protocol):
    """Opens an engine for a model."""

    def __call__(self, threads: int, *, features: bool = False) -> Engine:
        """The engine.

        Args:
            threads: Threads that one call of it computes with.
            features: It is asked for `answer`, too.

        Raises:
            ModelError: With features: the model gives none; says why.
            EngineError: The library cannot run it here.
            BundleError: It no longer gives what it was checked with.
        """
        ...


def open_program(
    name: ProgramEngine,
    program: Program,
    *,
    threads: int,
    features: bool = False,
    precision: FloatPrecision = "float32",
) -> Engine:
    """The engine of that name for a program.

    Args:
        name: Of the engine.
        program: What to run.
        threads, features: As of `OpenEngine`.
        precision: Other than float32 for "openvino" alone.

    Raises:
        MissingDependency: Its library is not installed.
        ModelError, EngineError, BundleError: As of `OpenEngine`.
    """
    if name == "openvino":
        from toplabel.inference.engines.openvino import OpenVinoEngine  # 370 ms

        return OpenVinoEngine(program, threads=threads, features=features, precision=precision)
    from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine  # 100 ms

    assert precision == "float32", precision
    return OnnxRuntimeEngine(program, threads=threads, features=features)
