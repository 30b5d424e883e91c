"""The OpenVINO engine: a program on the CPU, in float32 or with products in bfloat16."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.platform import available_cpus
from toplabel.errors import EngineError
from toplabel.inference.engines.program import (
    KeptCopy,
    Rows,
    add_features,
    check_outputs,
    failure,
    run_program,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.program import Program
    from toplabel.inference.engines import Batch, EngineName, FloatPrecision

_TELEMETRY = "openvino_telemetry"


def _import_openvino() -> Any:
    """OpenVINO, kept from reporting to its makers that it was imported.

    It does so by a library that comes with it, and makes do with a stub where that is missing.

    Raises:
        MissingDependency: It is not installed.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return require("openvino", extra="openvino", purpose="the engine openvino")
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]


openvino = _import_openvino()

_VERSION = openvino.get_version().partition("-")[0]  # 2026.4.1-22982-0123456789a-releases/2026/4


class OpenVinoEngine:
    """Runs a program with OpenVINO.

    The first time that a program meets this version of OpenVINO on this kind of processor, its
    reference outputs are compared. What OpenVINO compiled is kept in the cache and opened from then
    on. OpenVINO's own default is bfloat16 where the processor has it, with other logits; here it is
    computed in what is asked for. The int8 parts of a quantised program are int8 either way.

    As many calls run side by side as there are processors for the threads of one.

    Args:
        program: What to run.
        threads: Threads that one call computes with.
        features: It is asked for its features, too (`answer`).
        precision: What products of floats are computed in. "bfloat16" is for programs whose
            `tolerance` has room for it.

    Raises:
        ModelError: It gives no features, and is asked for them.
        BundleError: The program no longer gives the logits it was checked with.
        EngineError: OpenVINO cannot run it, or this processor does not compute in bfloat16.
    """

    name: EngineName = "openvino"
    device = "cpu"
    normalises = None

    def __init__(
        self,
        program: Program,
        *,
        threads: int = 1,
        features: bool = False,
        precision: FloatPrecision = "float32",
    ) -> None:
        self._program = program
        self._own = threading.local()  # a request at a time runs one batch
        self._core = openvino.Core()
        self._options = self._settings(threads, precision)
        library = f"openvino-{_VERSION}-{precision}"
        kept = KeptCopy.of(program, library, features=features, suffix=".blob")
        compiled = kept.open(self._import)
        if compiled is None:
            self._compile_and_check(kept, features)
        else:
            self._use(compiled)

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of shape (N, C, H, W), float32."""
        (logits,) = self._run(batch, self._ports[:1])
        return logits

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for a batch (N, C, H, W), float32."""
        logits, features = self._run(batch, self._ports)
        return logits, features

    def _run(self, batch: Batch, ports: list[Any]) -> Rows:
        def run(piece: Batch) -> Rows:
            inputs = {0: np.require(piece, np.float32, ["C"])}
            try:
                outputs = self._request().infer(inputs, share_inputs=True)
            except Exception as error:  # a RuntimeError with many lines
                raise failure(error, f"openvino failed: {_reason(error)}") from error
            return [outputs[port] for port in ports]

        return run_program(run, batch, fixed_batch=self._program.fixed_batch)

    def _request(self) -> Any:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        return self._own.request

    def _settings(self, threads: int, precision: FloatPrecision) -> dict[str, Any]:
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in capabilities:
            raise EngineError("this processor does not compute in bfloat16; use float32")
        streams = max(1, available_cpus() // threads)
        return {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "float32" else "PERFORMANCE",
            "INFERENCE_NUM_THREADS": streams * threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # the workers of a run would share the first processors
        }

    def _import(self, path: Path) -> Any:
        content = openvino.Tensor(np.fromfile(path, np.uint8))
        return self._core.import_model(content, "CPU", self._options)

    def _use(self, compiled: Any) -> None:
        self._compiled = compiled
        self._ports = [compiled.output(self._program.output_name), compiled.outputs[-1]]

    def _compile_and_check(self, kept: KeptCopy, features: bool) -> None:
        """Compile the program, compare its reference outputs, and keep what was compiled."""
        found, content = add_features(self._program) if features else (None, None)
        try:
            model = self._core.read_model(self._program.path if content is None else content)
            self._use(self._core.compile_model(model, "CPU", self._options))
        except Exception as error:
            raise EngineError(
                f"openvino cannot open {self._program.path}: {_reason(error)}"
            ) from error
        check_outputs(self, self._program, found, library=f"openvino {_VERSION}")
        if (written := kept.aside) is not None:
            try:
                written.write_bytes(self._compiled.export_model().getbuffer())
                kept.keep(written)
            except OSError:  # a full disk must not cost the label
                written.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message: what is wrong; those before say where in its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
