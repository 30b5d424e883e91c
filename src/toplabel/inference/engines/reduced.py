"""The engine of a reduced program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toplabel.errors import EngineError

if TYPE_CHECKING:
    from toplabel.bundle.bundle import Bundle
    from toplabel.inference.engines import Engine

OF_MARGIN = 0.1
"""The share of the margin that another ONNX Runtime or processor may use up: the margin was found
with the logits that the program gave where it was made."""


def open_reduced_engine(bundle: Bundle, *, threads: int, features: bool) -> Engine:
    """The engine that a bundle's reduced program asks for.

    Raises:
        BundleError: Here it gives other logits than where its margin was found.
        EngineError: The library cannot run it here.
        ModelError: With features: it gives none.
    """
    reduced = bundle.reduced
    if reduced is None or reduced.engine != "onnxruntime":
        raise EngineError(f"{bundle.name} has no reduced program that can be run here")
    from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        reduced.as_program(bundle.program),
        threads=threads,
        features=features,
        tolerance=OF_MARGIN * reduced.margin.logits,
    )
