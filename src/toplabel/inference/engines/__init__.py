"""Engines: batch -> logits. One file per library; this one names them and chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EngineName = Literal["onnxruntime", "torch"]


class Engine(Protocol):
    """Runs a model on batches. Its `device` is "cpu", "cuda:0" or "mps"."""

    name: EngineName
    device: str

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of shape (N, C, H, W), float32.

        Raises:
            EngineError: The library failed.
            MemoryError: There was not enough memory for this batch, not even in halves.
        """
        ...

    def answer(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for a batch (N, C, H, W), float32.

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
