"""The one door to ONNX Runtime, whose official builds report their use unless told not to."""

import os
from pathlib import Path
from typing import Literal

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # heard only before the library is loaded

import onnxruntime as ort

__all__ = ["open_session", "ort"]


def open_session(
    path: Path,
    *,
    content: bytes | None = None,
    threads: int = 1,
    optimised: bool | Literal["basic"] = True,
    copy_to: Path | None = None,
) -> ort.InferenceSession:
    """A session of an ONNX file on the CPU; what the library raises is a plain Exception.

    Args:
        path: The file.
        content: To be opened in its place; weights are still looked for beside it.
        threads: Threads that one call computes with.
        optimised: Let ONNX Runtime optimise the graph; "basic": only by what any other runtime
            computes alike.
        copy_to: Where to write the optimised graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions; its log would dirty stderr
    levels = ort.GraphOptimizationLevel
    if optimised is not True:
        options.graph_optimization_level = (
            levels.ORT_ENABLE_BASIC if optimised else levels.ORT_DISABLE_ALL
        )
    if copy_to is not None:
        options.optimized_model_filepath = str(copy_to)
    if content is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(path.parent))
    return ort.InferenceSession(
        str(path) if content is None else content,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # to the same provider again, after printing to stdout
    )
