"""What the engines of programs share: the check at first use, and the copy kept from then on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from toplabel._internal.platform import processor_name
from toplabel.bundle.cache import optimised_folder
from toplabel.errors import BundleError, EngineError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.features import Features
    from toplabel.bundle.program import Program
    from toplabel.inference.engines import Batch, Engine

Opened = TypeVar("Opened")
Rows = list["NDArray[np.float32]"]


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """A program as a library has optimised it for this processor, in the cache.

    Only what gave the reference outputs is kept, and only a file of the size and time that it was
    kept with is opened again.

    Args:
        path: Where it lies or will lie; None: there is nowhere to keep it.
    """

    path: Path | None

    @classmethod
    def of(cls, program: Program, library: str, *, features: bool, suffix: str) -> Self:
        """The copy of a program.

        Args:
            program: The program.
            library: What optimised it, with its version and what else the copy depends on.
            features: It gives features, too.
            suffix: Of its file.
        """
        folder = optimised_folder(program.key)
        if folder is None:
            return cls(None)
        return cls.within(folder, library, features=features, suffix=suffix)

    @classmethod
    def within(cls, folder: Path, library: str, *, features: bool, suffix: str) -> Self:
        """The copy of the program whose copies are in the folder; the rest as for `of`."""
        kind = "-features" if features else ""
        return cls(folder / f"{library}-{_processor()}{kind}{suffix}")

    def open(self, open_: Callable[[Path], Opened]) -> Opened | None:
        """What `open_` makes of it; None where there is none that can be trusted and opened."""
        if self.path is None:
            return None
        try:
            expected = json.loads(self.path.with_suffix(".json").read_bytes())
            return open_(self.path) if expected == _size_and_time(self.path) else None
        except Exception:  # missing or damaged: the original is opened, checked and copied again
            return None

    @property
    def aside(self) -> Path | None:
        """Where to write it before it is checked."""
        return None if self.path is None else self.path.with_suffix(f".{os.getpid()}.tmp")

    def keep(self, written: Path) -> None:
        """Move what was written aside to its place; without room for it, go without."""
        assert self.path is not None
        try:
            aside = self.path.with_suffix(f".{os.getpid()}.aside")
            aside.write_text(json.dumps(_size_and_time(written)))
            os.replace(written, self.path)
            os.replace(aside, self.path.with_suffix(".json"))
        except OSError:
            written.unlink(missing_ok=True)


def _size_and_time(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _processor() -> str:
    """A short name of this processor's kind: an optimised program fits its vector width."""
    import zlib

    return f"{zlib.crc32(processor_name().encode()):08x}"


def check_outputs(
    engine: Engine,
    program: Program,
    features: Features | None,
    *,
    library: str,
) -> None:
    """Compare what an engine gives for the reference inputs of its program.

    Args:
        engine: The engine.
        program: Its program.
        features: Those that it is asked for, too.
        library: What runs it, with its version, for people.

    Raises:
        BundleError: It no longer gives the logits it was checked with.
        ModelError: Its features are more than one row for each input.
    """
    from toplabel.bundle.reference import ReferenceOutputs, replay_once  # Pillow and zipfile

    def run(batch: Batch) -> NDArray[np.float32]:
        if features is None:
            return engine(batch)
        logits, rows = engine.answer(batch)
        _check_features(features, rows)
        return logits

    reference = ReferenceOutputs.load(program.reference_path)
    agreement = replay_once(reference, run, tolerance=program.tolerance)
    if not agreement.agrees:
        raise BundleError(
            f"with {library} on this processor the model no longer gives the logits it was checked"
            f" with: {agreement.reason}"
        )


def add_features(program: Program) -> tuple[Features, bytes]:
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


def failure(error: Exception, text: str) -> Exception:
    """What a library's error in a call becomes: `MemoryError` where there was no room for it."""
    return MemoryError(str(error)) if "alloc" in str(error).lower() else EngineError(text)


def run_program(run: Callable[[Batch], Rows], batch: Batch, *, fixed_batch: bool) -> Rows:
    """What `run` gives for a batch, rows (N, any) each; where N is fixed, an input at a time."""
    size = 1 if fixed_batch else len(batch)
    return in_pieces(lambda piece: _run_piece(run, piece), batch, size=size)


def in_pieces(run: Callable[[Batch], Rows], batch: Batch, *, size: int) -> Rows:
    """The rows that `run` gives for a batch, asked for so many inputs at a time."""
    if len(batch) <= size:
        return run(batch)
    pieces = [run(batch[at : at + size]) for at in range(0, len(batch), size)]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _run_piece(run: Callable[[Batch], Rows], piece: Batch) -> Rows:
    arrays = [np.asarray(output, dtype=np.float32) for output in run(piece)]
    return [rows if rows.ndim == 2 else rows.reshape(len(piece), -1) for rows in arrays]
