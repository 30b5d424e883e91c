"""A checkpoint file in, its `CheckpointInfo` out, by content: none of it is run. No torch."""

from __future__ import annotations

import io
import json
import stat
import struct
import tarfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from toplabel._internal.mistaken import mistaken_for
from toplabel.bundle.onnx_header import starts_as_onnx
from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.archive import Archive, check_structure, read_archive, weights_of
from toplabel.models.checkpoint.info import (
    CheckpointInfo,
    StoredBytes,
    TensorInfo,
    UnknownObject,
    naming_file,
)
from toplabel.models.checkpoint.stubs import (
    StubMaker,
    big_endian,
    naming_globals,
    read_legacy,
    read_pickle,
)
from toplabel.models.checkpoint.unpickler import Budget, ByteSource

_EXPECTED = "expected a file written by torch.save or safetensors"

# What is wrong with each kind of file that holds no weights we read, and what to do.
_REFUSALS = {
    "torch tar": (
        "it is in the tar format that torch wrote before 2017, which cannot be read safely;"
        " load it where it was made and save its weights again: torch.save(model.state_dict(),"
        " 'weights.pth')"
    ),
    "folder": "it is a folder; pass the checkpoint in it",
    "special file": "it is not a regular file; expected a checkpoint",
    "toplabel bundle": "it is a toplabel bundle, not a checkpoint; pass it as the model itself",
    "onnx": "it is an ONNX file, not a checkpoint; pass it as the model itself",
    "keras": f"it is a Keras model; {_EXPECTED}",
    "hdf5": f"it is an HDF5 file, as Keras writes; {_EXPECTED}",
    "numpy": f"it is a NumPy file; {_EXPECTED}",
    "gguf": f"it is a GGUF file; {_EXPECTED}",
    "tflite": f"it is a TensorFlow Lite file; {_EXPECTED}",
    "tar": f"it is a tar archive; unpack it: {_EXPECTED}",
    "zip": f"it is a zip archive without torch's data.pkl; unpack it: {_EXPECTED}",
    "compressed": f"it is a compressed file; unpack it: {_EXPECTED}",
    "image": (
        "it is an image, not a checkpoint; the image comes before the model: toplabel IMAGE -m"
        " CHECKPOINT"
    ),
    "json": f"it is a JSON file that lists no weights; {_EXPECTED}",
    "unknown": f"its file format is unknown; {_EXPECTED}",
}

_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "numpy"),
    (b"GGUF", "gguf"),
    *((magic, "compressed") for magic in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")),
    *((magic, "compressed") for magic in (b"7z\xbc\xaf", b"Rar!")),
    *((magic, "image") for magic in (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")),
    *((magic, "image") for magic in (b"II*\0", b"MM\0*")),
)
_START = 1024

_DTYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (64, 32, 16)},
    "BF16": "bfloat16",
    **{f"I{bits}": f"int{bits}" for bits in (64, 32, 16, 8)},
    **{f"U{bits}": f"uint{bits}" for bits in (64, 32, 16, 8)},
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
_HEADER_LIMIT = 8_000_000  # bytes: enough for 50,000 tensors; the library's own is 100 MB
_PARTS_LIMIT = 500_000  # values in it: each costs some 70 bytes
_FIELDS = {"dtype", "shape", "data_offsets"}
_HEADER_DAMAGED = "its header is corrupt; copy or download it again"

# What follows the pickle protocol's number in every legacy file of torch: a pickled constant.
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_BIG_ENDIAN = b"big"
_OLD_TAR_MEMBERS = (b"sys_info", b"pickle", b"tensors", b"storages")
_MOST_TAR_MEMBERS = 100


def read_checkpoint_info(path: str | Path) -> CheckpointInfo:
    """What the checkpoint at `path` is; nothing of it is run, its tensors are not read.

    Raises:
        CheckpointError: It is no checkpoint (with what it is instead), is truncated or damaged, or
            holds what only an attack holds.
    """
    path = Path(path)
    with naming_file(path):
        kind = _kind_of(path)
        if kind in _READERS:
            return _READERS[kind](path)
        raise CheckpointError(_REFUSALS.get(kind, f"it is {kind}") + _named_in(path, kind))


def _kind_of(path: Path) -> str:
    """What is at `path`, by content: a key of `_READERS` or of `_REFUSALS`, or words for it."""
    try:
        status = path.stat()
    except ValueError as error:  # a null byte in its name
        raise CheckpointError(str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        return "folder" if stat.S_ISDIR(status.st_mode) else "special file"
    with path.open("rb") as file:
        return _kind_of_content(file, status.st_size)


def _kind_of_content(file: BinaryIO, size: int) -> str:
    start = file.read(_START)
    if (other := mistaken_for(start)) is not None:
        return other
    if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") < 1 << 40:
        return "safetensors"
    kind = next((kind for magic, kind in _MAGIC if start.startswith(magic)), None)
    if kind == "zip":
        return _kind_of_members(read_archive(file, size).names)
    kind = kind or _kind_of_start(start)
    return "pickle" if kind == "unknown" and _is_pickle(file, size) else kind


def _kind_of_start(start: bytes) -> str:
    if start[:1] == b"\x80" and start[2:].startswith(_LEGACY_MAGIC):
        return "torch legacy"
    if _tar_header(start):
        return "torch tar" if start[:100].strip(b"\0") in _OLD_TAR_MEMBERS else "tar"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image"
    if start[4:8] == b"TFL3":
        return "tflite"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return "pickle"
    if starts_as_onnx(start):
        return "onnx"
    if start.lstrip()[:1] in (b"{", b"["):
        return "safetensors index" if b'"weight_map"' in start or b'"metadata"' in start else "json"
    return "unknown"


def _is_pickle(file: BinaryIO, size: int) -> bool:
    """Whether it is one of protocol 0 or 1, which begin with nothing of their own."""
    file.seek(0)
    try:
        read_pickle(ByteSource(file, end=size))
    except CheckpointError:
        return False
    return True


def _kind_of_members(names: Collection[str]) -> str:
    """What kind of zip archive has members of these names."""
    inner = {name.partition("/")[2] for name in names}
    if "manifest.json" in names:
        return "toplabel bundle"
    if inner & {"archive_format", "serialized_exported_program.json"} or (
        "serialized_exported_program.json" in names
    ):
        return "pt2"
    if "constants.pkl" in inner:
        return "torchscript"
    if "data.pkl" in inner:
        return "torch zip"
    if "model.weights.h5" in names:
        return "keras"
    return "numpy" if names and all(name.endswith(".npy") for name in names) else "zip"


def _read_zip(path: Path) -> CheckpointInfo:
    with path.open("rb") as file:
        size = path.stat().st_size
        return _of_pickle(path, "torch zip", _read_members(file, read_archive(file, size)), size)


def _read_members(file: BinaryIO, archive: Archive) -> StubMaker:
    """The pickle of a zip archive, whose storages are members of the sizes that it says."""
    extents = check_structure(file, archive)
    # Everything is in one folder, which torch takes from the first name.
    tops = {name.partition("/")[0] for name in extents}
    top = min(tops, default="")
    if len(tops) != 1 or f"{top}/data.pkl" not in extents:
        raise CheckpointError("its members are not in one folder, as in files of torch.save")
    if (order := extents.get(f"{top}/byteorder")) is not None:
        file.seek(order.start)
        if file.read(min(order.size, len(_BIG_ENDIAN))) == _BIG_ENDIAN:
            raise big_endian()
    extent = extents[f"{top}/data.pkl"]
    file.seek(extent.start)
    pickled = read_pickle(ByteSource(file, end=extent.start + extent.size))
    for storage in pickled.storages.whole.values():
        stored = extents.get(f"{top}/data/{storage.key}")
        if stored is None or stored.size != storage.nbytes:
            found = "it is missing" if stored is None else f"the file has {stored.size}"
            raise CheckpointError(
                f"its pickle needs {storage.nbytes} bytes of storage {storage.key[:40]!r}, but"
                f" {found}; copy or download it again"
            )
        pickled.stored[storage.key] = StoredBytes(stored.start, stored.size)
    return pickled


def _read_legacy(path: Path) -> CheckpointInfo:
    """The format of torch before 1.6."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if _tar_header(file.read(tarfile.BLOCKSIZE)):  # torch tries that first
            raise CheckpointError(
                "it is both a tar archive and a torch file; expected one or the other"
            )
        file.seek(0)
        pickled = read_legacy(ByteSource(file, end=size), Budget())
    return _of_pickle(path, "torch legacy", pickled, size)


def _read_bare_pickle(path: Path) -> CheckpointInfo:
    """What `pickle.dump` wrote."""
    size = path.stat().st_size
    with path.open("rb") as file:
        pickled = read_pickle(ByteSource(file, end=size))
    if pickled.storages.whole:
        raise CheckpointError(
            "its pickle refers to numbers that are not in the file; copy or download it again"
        )
    return _of_pickle(path, "pickle", pickled, size)


def _of_pickle(
    path: Path,
    written: Literal["torch zip", "torch legacy", "pickle", "torchscript"],
    pickled: StubMaker,
    size: int,
) -> CheckpointInfo:
    return CheckpointInfo(
        path=path,
        format=written,
        content=pickled.content,
        blocked=tuple(pickled.blocked),
        whole_module=pickled.whole_module,
        size_bytes=size,
        files=(path,),
        storages=pickled.stored,
    )


def _read_safetensors(path: Path) -> CheckpointInfo:
    """The header of one safetensors file, whose tensors must neither overlap nor leave gaps."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise CheckpointError(
                f"it is truncated: its {size} bytes end within its header; copy or download it"
                " again"
            )
        if length > _HEADER_LIMIT:
            raise CheckpointError(
                f"its header has {length} bytes; at most {_HEADER_LIMIT} are accepted"
            )
        header = _parse_object(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(_HEADER_DAMAGED)
    tensors, ranges = {}, []
    for name, entry in header.items():
        tensors[name], extent = _parse_entry(name, entry)
        ranges.append(extent)
    _check_ranges(ranges, size - 8 - length)
    return CheckpointInfo(
        path=path,
        format="safetensors",
        content=tensors,
        size_bytes=size,
        files=(path,),
        metadata=metadata,
    )


def _parse_entry(name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    """The tensor of one entry, and its first byte and the one after its last."""
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise CheckpointError(_HEADER_DAMAGED)
    dtype, shape, extent = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(
            f"its tensor {name[:100]!r} has dtype {str(dtype)[:20]!r}; expected"
            f" {', '.join(_DTYPES)}"
        )
    if not (_are_counts(shape) and _are_counts(extent)) or len(extent) != 2 or len(shape) > 64:
        raise CheckpointError(_HEADER_DAMAGED)
    info = TensorInfo(_DTYPES[dtype], tuple(shape))
    if info.nbytes != extent[1] - extent[0]:
        raise CheckpointError(
            f"its tensor {name[:100]!r} of {info.num_elements} numbers has {extent[1] - extent[0]}"
            f" bytes, expected {info.nbytes}; download it again"
        )
    return info, (extent[0], extent[1])


def _check_ranges(ranges: list[tuple[int, int]], size: int) -> None:
    """The tensors follow one another without gap or overlap, to the file's end."""
    end = 0
    for first, after in sorted(ranges):
        if first != end:
            raise CheckpointError("its tensors overlap or leave gaps; copy or download it again")
        end = after
    if end != size:
        raise CheckpointError(
            f"it has {size} bytes of tensors where its header lists {end}: it is truncated or has"
            " trailing bytes; copy or download it again"
        )


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object of bounded size in which no key stands twice."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _PARTS_LIMIT:
        raise CheckpointError(
            f"its header has too many entries; at most {_PARTS_LIMIT} are accepted"
        )
    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_HEADER_DAMAGED) from error
    if not isinstance(parsed, dict):
        raise CheckpointError(_HEADER_DAMAGED)
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise CheckpointError("its header names a tensor twice; save it again")
    return parsed


def _read_index(path: Path) -> CheckpointInfo:
    """The headers of all the shards of an index, which must be beside it and hold what it lists."""
    size = path.stat().st_size
    if size > _HEADER_LIMIT:
        raise CheckpointError(
            f"it is an index of {size} bytes; at most {_HEADER_LIMIT} are accepted"
        )
    places = _parse_object(path.read_bytes()).get("weight_map")
    if not isinstance(places, dict) or not all(_is_shard(place) for place in places.values()):
        raise CheckpointError(
            "its weight_map lists other files than safetensors files beside it; convert the shards"
            " to safetensors, or pass the model's folder"
        )
    shards = {name: _read_shard(path.parent / name) for name in dict.fromkeys(places.values())}
    for name, shard in shards.items():
        listed = {tensor for tensor, place in places.items() if place == name}
        if shard.content.keys() != listed:
            odd = sorted(shard.content.keys() ^ listed)[0]
            raise CheckpointError(
                f"it and its shard {name!r} disagree on tensor {odd[:100]!r}; download both again"
            )
    return CheckpointInfo(
        path=path,
        format="safetensors",
        content={tensor: shards[place].content[tensor] for tensor, place in places.items()},
        size_bytes=size + sum(shard.size_bytes for shard in shards.values()),
        files=(path, *(shard.path for shard in shards.values())),
        metadata=next((shard.metadata for shard in shards.values()), {}),
    )


def _is_shard(place: Any) -> bool:
    """Whether it names a file of the index's own folder."""
    plain = isinstance(place, str) and place.endswith(".safetensors") and "\0" not in place
    return plain and Path(place).name == place and "\\" not in place


def _read_shard(path: Path) -> CheckpointInfo:
    if not path.is_file():
        raise CheckpointError(
            f"its shard {path.name!r} is missing; download all shards into one folder"
        )
    try:
        return _read_safetensors(path)
    except CheckpointError as error:
        raise CheckpointError(f"its shard {path.name!r}: {error}") from error


def _read_torchscript(path: Path) -> CheckpointInfo:
    """A TorchScript archive: its objects as unknown ones; only its kind where they are none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        archive = read_archive(file, size)
        try:
            pickled = _read_members(file, weights_of(archive))
        except CheckpointError:
            return _known_by_kind(path, "torchscript", "torch.ScriptModule")
    made = pickled.content
    if isinstance(made, UnknownObject):
        pickled.whole_module = made.kind.removeprefix("__torch__.")
    return _of_pickle(path, "torchscript", pickled, size)


def _known_by_kind(path: Path, written: Literal["torchscript", "pt2"], kind: str) -> CheckpointInfo:
    """A program, known by its kind alone."""
    return CheckpointInfo(
        path=path,
        format=written,
        content=UnknownObject(kind),
        size_bytes=path.stat().st_size,
        files=(path,),
    )


_READERS: Mapping[str, Callable[[Path], CheckpointInfo]] = {
    "torch zip": _read_zip,
    "torch legacy": _read_legacy,
    "safetensors": _read_safetensors,
    "safetensors index": _read_index,
    "pickle": _read_bare_pickle,
    "torchscript": _read_torchscript,
    "pt2": lambda path: _known_by_kind(path, "pt2", "torch.export.ExportedProgram"),
}


def _named_in(path: Path, kind: str) -> str:
    """What a refused pickle would call, for the message."""
    if kind != "torch tar":
        return ""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        start, end = _find_in_tar(file, "pickle")
        file.seek(start)
        return naming_globals(ByteSource(file, end=min(end, size)))


def _find_in_tar(file: BinaryIO, name: str) -> tuple[int, int]:
    """Where the bytes of a member begin and end; nothing is unpacked; (0, 0): there is none."""
    at = 0
    for _ in range(_MOST_TAR_MEMBERS):
        file.seek(at)
        member = _tar_header(file.read(tarfile.BLOCKSIZE))
        if member is None or member.size < 0:
            break
        start = at + tarfile.BLOCKSIZE
        if member.name == name:
            return start, start + member.size
        at = start + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return 0, 0


def _tar_header(start: bytes) -> tarfile.TarInfo | None:
    """The member of a tar archive of any kind that begins so, as Python's reader sees it."""
    try:
        return tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
