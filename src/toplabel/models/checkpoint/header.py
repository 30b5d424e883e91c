"""Outline: a checkpoint file in, what it is out, without running any of it and without torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from toplabel._internal.zip_directory import Extent
from toplabel.errors import CheckpointError
from toplabel.models.checkpoint import legacy, pickles, safetensors
from toplabel.models.checkpoint.archive import check_structure, read_archive
from toplabel.models.checkpoint.kinds import REFUSALS, Kind, kind_of
from toplabel.models.checkpoint.literals import ByteSource
from toplabel.models.checkpoint.oldtar import find_member
from toplabel.models.checkpoint.storages import Storage
from toplabel.models.checkpoint.tensors import Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a checkpoint file is.

    Args:
        path: The file; the index where there are shards.
        format: How it is written. `torchscript` and `pt2` are programs, whose content is not read.
        content: Nested dicts, lists, tuples, sets, text, numbers, bytes, None, `TensorInfo` and
            `Opaque`; as deep and large as it looks.
        blocked: The globals that `torch.load(weights_only=True)` refuses, in order of appearance.
        whole_module: The class, where it is a whole pickled network; `content` is an `Opaque` then.
        size_bytes: Of all its files.
        files: One; or the index and its shards.
        metadata: What a safetensors file says of itself.
    """

    path: Path
    format: Literal["torch zip", "torch legacy", "safetensors", "torchscript", "pt2"]
    content: Any
    blocked: tuple[str, ...]
    whole_module: str | None
    size_bytes: int
    files: tuple[Path, ...]
    metadata: Mapping[str, str]


def read_outline(path: str | Path) -> Outline:
    """What the checkpoint at `path` is; nothing of it is run, its tensors are not read.

    Raises:
        CheckpointError: It is no checkpoint (and says what it is), is cut short or damaged, or
            holds what only an attack holds.
    """
    path = Path(path)
    try:
        kind = kind_of(path)
        if kind in _READERS:
            return _READERS[kind](path)
        raise CheckpointError(REFUSALS[kind] + _named_in(path, kind))
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {str(path)!r}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def _read_safetensors(path: Path) -> Outline:
    return _of_header(path, safetensors.read_header(path))


def _read_index(path: Path) -> Outline:
    return _of_header(path, safetensors.read_index(path))


def _of_header(path: Path, header: safetensors.SafetensorsHeader) -> Outline:
    return Outline(
        path=path,
        format="safetensors",
        content=header.tensors,
        blocked=(),
        whole_module=None,
        size_bytes=header.size_bytes,
        files=header.files,
        metadata=header.metadata,
    )


def _read_legacy(path: Path) -> Outline:
    size = path.stat().st_size
    with path.open("rb") as file:
        return _of_pickle(path, "torch legacy", legacy.read_legacy(file, size), size)


def _read_zip(path: Path) -> Outline:
    size = path.stat().st_size
    with path.open("rb") as file:
        extents = check_structure(file, read_archive(file, size))
        top = _top_folder(extents)
        pickled = _read_member(file, extents[f"{top}/data.pkl"])
    for storage in pickled.storages:
        _check_storage(storage, extents.get(f"{top}/data/{storage.key}"))
    return _of_pickle(path, "torch zip", pickled, size)


def _top_folder(extents: Mapping[str, Extent]) -> str:
    """The one folder that everything is in, as torch takes it from the first name."""
    tops = {name.partition("/")[0] for name in extents}
    if len(tops) != 1 or f"{min(tops)}/data.pkl" not in extents:
        raise CheckpointError("its members are not in one folder, as torch.save has them")
    return min(tops)


def _read_member(file: BinaryIO, extent: Extent) -> pickles.Pickled:
    file.seek(extent.start)
    return pickles.read_pickle(ByteSource(file, end=extent.start + extent.size))


def _check_storage(storage: Storage, extent: Extent | None) -> None:
    if extent is None or extent.size != storage.nbytes:
        found = "none" if extent is None else f"{extent.size} bytes"
        raise CheckpointError(
            f"its pickle speaks of a storage {storage.key[:40]!r} of {storage.nbytes} bytes, and"
            f" there is {found}; copy or download it again"
        )


def _of_pickle(
    path: Path, written: Literal["torch zip", "torch legacy"], pickled: pickles.Pickled, size: int
) -> Outline:
    return Outline(
        path=path,
        format=written,
        content=pickled.content,
        blocked=pickled.blocked,
        whole_module=pickled.whole_module,
        size_bytes=size,
        files=(path,),
        metadata={},
    )


def _read_program(path: Path) -> Outline:
    """A TorchScript archive or an exported program: known by its kind alone."""
    kind = kind_of(path)
    return Outline(
        path=path,
        format="pt2" if kind == "pt2" else "torchscript",
        content=Opaque("torch.export.ExportedProgram" if kind == "pt2" else "torch.ScriptModule"),
        blocked=(),
        whole_module=None,
        size_bytes=path.stat().st_size,
        files=(path,),
        metadata={},
    )


_READERS: Mapping[Kind, Callable[[Path], Outline]] = {
    "torch zip": _read_zip,
    "torch legacy": _read_legacy,
    "safetensors": _read_safetensors,
    "safetensors index": _read_index,
    "torchscript": _read_program,
    "pt2": _read_program,
}


def _named_in(path: Path, kind: Kind) -> str:
    """What a refused pickle would call, for the message."""
    if kind not in ("pickle", "torch tar"):
        return ""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        start, end = (0, size) if kind == "pickle" else find_member(file, "pickle") or (0, 0)
        file.seek(start)
        return pickles.naming(pickles.named_globals(ByteSource(file, end=min(end, size))))
