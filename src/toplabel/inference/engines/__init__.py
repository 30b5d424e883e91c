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
