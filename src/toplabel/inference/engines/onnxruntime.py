"""The ONNX Runtime engine: a checked program on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from toplabel._internal.onnxruntime import open_session, ort
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
    import numpy as np
    from numpy.typing import NDArray

    from toplabel.bundle.program import Program
    from toplabel.inference.engines import Batch, EngineName


class OnnxRuntimeEngine:
    """Runs a program with ONNX Runtime.

    The first time a program meets this version of ONNX Runtime on this kind of processor, its
    reference outputs are compared; where they agree, ONNX Runtime's optimised copy is kept in the
    cache and opened from then on, in half the time.

    Args:
        program: What to run.
        threads: Threads that one call computes with.
        features: It is asked for its features, too (`answer`).

    Raises:
        ModelError: It gives no features, and is asked for them.
        BundleError: The program no longer gives the logits it was checked with.
        EngineError: ONNX Runtime cannot open it.
    """

    name: EngineName = "onnxruntime"
    device = "cpu"
    normalises = None

    def __init__(self, program: Program, *, threads: int = 1, features: bool = False) -> None:
        self._program = program
        self._logits = [program.output_name]
        kept = KeptCopy.of(program, ort.__version__, features=features, suffix=".onnx")
        copy = kept.open(lambda path: open_session(path, threads=threads, optimised=False))
        if copy is None:
            self._open_and_check(kept, threads, features)
        else:
            self._use(copy)

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Logits of shape (N, K), float32, for a batch of shape (N, C, H, W), float32."""
        (logits,) = self._run(batch, self._logits)
        return logits

    def answer(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K) and features (N, D), float32, for a batch (N, C, H, W), float32."""
        logits, features = self._run(batch, self._both)
        return logits, features

    def _run(self, batch: Batch, names: list[str]) -> Rows:
        def run(piece: Batch) -> Rows:
            try:
                outputs: Rows = self._session.run(names, {self._program.input_name: piece})
            except Exception as error:  # the binding raises its own types, all plain Exceptions
                raise failure(error, f"onnxruntime failed: {error}") from error
            return outputs

        return run_program(run, batch, fixed_batch=self._program.fixed_batch)

    def _use(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._both = [*self._logits, session.get_outputs()[-1].name]  # where it has features

    def _open_and_check(self, kept: KeptCopy, threads: int, features: bool) -> None:
        """Open the program itself, compare its reference outputs, and keep the optimised copy."""
        written = kept.aside
        found, content = add_features(self._program) if features else (None, None)
        try:
            self._use(_open_original(self._program, content, threads, optimised_copy=written))
            check_outputs(self, self._program, found, library=f"onnxruntime {ort.__version__}")
            if written is not None:
                kept.keep(written)
        finally:
            if written is not None:
                written.unlink(missing_ok=True)


def open_new(path: Path, copies: Path) -> ort.InferenceSession:
    """A session, of one thread, of a program that has just been made.

    Its optimised copy is left in the folder `copies`, which must not exist, where there is room.
    """
    kept = KeptCopy.within(copies, ort.__version__, features=False, suffix=".onnx")
    try:
        copies.mkdir()
        written = copies / "written"
        session = open_session(path, copy_to=written)
        kept.keep(written)
    except Exception:  # a full disk, or weights that do not fit into one file
        shutil.rmtree(copies, ignore_errors=True)
        return open_session(path)
    return session


def _open_original(
    program: Program, content: bytes | None, threads: int, *, optimised_copy: Path | None
) -> ort.InferenceSession:
    try:
        return open_session(program.path, content=content, threads=threads, copy_to=optimised_copy)
    except Exception as error:
        if optimised_copy is not None:  # a full disk must not cost the label
            optimised_copy.unlink(missing_ok=True)
            return _open_original(program, content, threads, optimised_copy=None)
        raise EngineError(f"onnxruntime cannot open {program.path}: {error}") from error
