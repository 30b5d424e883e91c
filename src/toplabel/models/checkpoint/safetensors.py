"""A safetensors file, or an index and its shards, in; the names, dtypes and shapes within out."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.info import CheckpointInfo, TensorInfo

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
_DAMAGED = "its header is corrupt; copy or download it again"


def read_header(path: Path) -> CheckpointInfo:
    """The header of one safetensors file.

    Raises:
        CheckpointError: It is cut short or damaged, or its tensors overlap or leave gaps.
    """
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
        raise CheckpointError(_DAMAGED)
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
        raise CheckpointError(_DAMAGED)
    dtype, shape, extent = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(
            f"its tensor {name[:100]!r} has dtype {str(dtype)[:20]!r}; expected"
            f" {', '.join(_DTYPES)}"
        )
    if not (_are_counts(shape) and _are_counts(extent)) or len(extent) != 2 or len(shape) > 64:
        raise CheckpointError(_DAMAGED)
    info = TensorInfo(_DTYPES[dtype], tuple(shape))
    if info.nbytes != extent[1] - extent[0]:
        raise CheckpointError(
            f"its tensor {name[:100]!r} of {math.prod(shape)} numbers has {extent[1] - extent[0]}"
            f" bytes, expected {info.nbytes}; download it again"
        )
    return info, (extent[0], extent[1])


def _check_ranges(ranges: list[tuple[int, int]], size: int) -> None:
    """The tensors follow one another without gap or overlap, to the file's end."""
    end = 0
    for first, after in sorted(ranges):
        if first != end:
            raise CheckpointError("its tensors overlap or leave gaps; download it again")
        end = after
    if end != size:
        raise CheckpointError(
            f"it has {size} bytes of tensors where its header lists {end}: it is truncated or has"
            " trailing bytes; copy or download it again"
        )


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object in which no key stands twice.

    Raises:
        CheckpointError: It is none, or too large.
    """
    if sum(map(text.count, (b",", b"[", b"{"))) > _PARTS_LIMIT:
        raise CheckpointError(
            f"its header has too many entries; at most {_PARTS_LIMIT} are accepted"
        )
    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_DAMAGED) from error
    if not isinstance(parsed, dict):
        raise CheckpointError(_DAMAGED)
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise CheckpointError("its header names a tensor twice; save it again")
    return parsed


def read_index(path: Path) -> CheckpointInfo:
    """The headers of all the shards of an index.

    Raises:
        CheckpointError: It is damaged, lists files outside its folder or that are no safetensors,
            or its shards hold other tensors than it lists.
    """
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
            raise CheckpointError(f"it and its shard {name!r} disagree on tensor {odd[:100]!r}")
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
        raise CheckpointError(f"its shard {path.name!r} is missing; download all of them")
    try:
        return read_header(path)
    except CheckpointError as error:
        raise CheckpointError(f"its shard {path.name!r}: {error}") from error
