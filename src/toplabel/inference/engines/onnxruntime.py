"""The ONNX Runtime engine: a checked program on the CPU."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.onnxruntime import open_session, ort
from toplabel._internal.platform import processor_name
from toplabel.bundle.cache import optimised_folder
from toplabel.errors import BundleError, EngineError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.features import Features
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
        copy = _open_copy(program, threads, features)
        if copy is None:
            self._open_and_check(threads, features)
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

    def _run(self, batch: Batch, names: list[str]) -> list[NDArray[np.float32]]:
        if self._program.fixed_batch and len(batch) != 1:
            pieces = [self._run_at_once(batch[i : i + 1], names) for i in range(len(batch))]
            return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        return self._run_at_once(batch, names)

    def _run_at_once(self, batch: Batch, names: list[str]) -> list[NDArray[np.float32]]:
        try:
            outputs = self._session.run(names, {self._program.input_name: batch})
        except Exception as error:  # the binding raises its own types, all plain Exceptions
            if "alloc" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise EngineError(f"onnxruntime failed: {error}") from error
        arrays = [np.asarray(output, dtype=np.float32) for output in outputs]
        return [rows if rows.ndim == 2 else rows.reshape(len(batch), -1) for rows in arrays]

    def _use(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._both = [*self._logits, session.get_outputs()[-1].name]  # where it has features

    def _open_and_check(self, threads: int, features: bool) -> None:
        """Open the program itself, compare its reference outputs, and keep the optimised copy."""
        # Pillow and zipfile: only this first time
        from toplabel.bundle.reference import ReferenceOutputs, replay_once

        copy = _copy_path(self._program, features)
        written = None if copy is None else copy.with_suffix(f".{os.getpid()}.tmp")
        found, content = _with_features(self._program) if features else (None, None)

        def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            if found is None:
                return self(batch)
            logits, rows = self.answer(batch)
            _check_features(found, rows)
            return logits

        try:
            self._use(_open_original(self._program, content, threads, optimised_copy=written))
            agreement = replay_once(ReferenceOutputs.load(self._program.reference_path), run)
            if not agreement.agrees:
                raise BundleError(
                    f"with onnxruntime {ort.__version__} on this processor the model no longer"
                    f" gives the logits it was checked with: {agreement.reason}"
                )
            if copy is not None and written is not None:
                _keep_copy(written, copy)
        finally:
            if written is not None:
                written.unlink(missing_ok=True)


def _with_features(program: Program) -> tuple[Features, bytes]:
    """The program's features, and its file with them as one more output.

    Raises:
        ModelError: It gives none.
    """
    from toplabel.bundle.features import find_features, with_features  # only this first time
    from toplabel.bundle.onnx_header import map_file

    features = find_features(program)
    return features, with_features(map_file(program.path), features)


def _check_features(features: Features, given: NDArray[np.float32]) -> None:
    """Refuse features that are not one row for each of the inputs.

    Raises:
        ModelError: They are more: a row for each part of an image.
    """
    from toplabel.bundle.features import NO_FEATURES

    if given.shape[1:] != (features.size,):
        raise ModelError(NO_FEATURES)


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


def _open_copy(program: Program, threads: int, features: bool) -> ort.InferenceSession | None:
    """A session from the optimised copy, or None where there is none that can be trusted."""
    copy = _copy_path(program, features)
    if copy is None:
        return None
    try:
        expected = json.loads(copy.with_suffix(".json").read_bytes())
        if expected != _size_and_time(copy):
            return None
        return open_session(copy, threads=threads, optimised=False)  # it is already
    except Exception:  # missing or damaged: the original is opened, checked and copied again
        return None


def _size_and_time(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _keep_copy(written: Path, copy: Path) -> None:
    """Move a checked copy to its place; without room for it, go without."""
    try:
        aside = copy.with_suffix(f".{os.getpid()}.aside")
        aside.write_text(json.dumps(_size_and_time(written)))
        os.replace(written, copy)
        os.replace(aside, copy.with_suffix(".json"))
    except OSError:
        written.unlink(missing_ok=True)


def _copy_path(program: Program, features: bool) -> Path | None:
    """Where the optimised copy for this ONNX Runtime and processor lies; None: nowhere to keep."""
    folder, kind = optimised_folder(program.key), "-features" if features else ""
    return None if folder is None else folder / f"{ort.__version__}-{_processor()}{kind}.onnx"


def _processor() -> str:
    """A short name of this processor's kind: an optimised program fits its vector width."""
    import zlib

    return f"{zlib.crc32(processor_name().encode()):08x}"
