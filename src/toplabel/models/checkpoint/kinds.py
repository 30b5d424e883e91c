"""Kinds: a file in, what kind of file it is out, by its content and never by its name."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, Literal

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.archive import read_archive
from toplabel.models.checkpoint.legacy import is_legacy
from toplabel.models.checkpoint.literals import ByteSource
from toplabel.models.checkpoint.oldtar import is_tar
from toplabel.models.checkpoint.pickles import read_pickle

Kind = Literal[
    "torch zip",
    "torch legacy",
    "torch tar",
    "safetensors",
    "safetensors index",
    "torchscript",
    "pt2",
    "pickle",
    "folder",
    "special file",
    "empty",
    "lfs pointer",
    "web page",
    "toplabel bundle",
    "onnx",
    "keras",
    "hdf5",
    "numpy",
    "gguf",
    "tflite",
    "tar",
    "zip",
    "compressed",
    "image",
    "json",
    "unknown",
]

_EXPECTED = "expected what torch.save or safetensors writes"

#: What is wrong with each kind that holds no weights we read, and what to do.
REFUSALS: dict[Kind, str] = {
    "torch tar": (
        "it is in the tar format that torch wrote before 2017, which cannot be read safely;"
        " load it where it was made and save its weights again: torch.save(model.state_dict(),"
        " 'weights.pth')"
    ),
    "pickle": f"it is a bare pickle; {_EXPECTED}: torch.save(model.state_dict(), 'weights.pth')",
    "folder": "it is a folder; name the checkpoint in it",
    "special file": "it is no ordinary file; expected a checkpoint",
    "empty": "it is empty; copy or download it again",
    "lfs pointer": "it is a git-LFS pointer, not the file itself; run `git lfs pull` there",
    "web page": "it is a web page, not what was to be downloaded; open the link in a browser",
    "toplabel bundle": "it is a toplabel bundle, no checkpoint; give it as the model itself",
    "onnx": "it is an ONNX file, no checkpoint; give it as the model itself, named *.onnx",
    "keras": f"it is a Keras model; {_EXPECTED}",
    "hdf5": f"it is an HDF5 file, as Keras writes; {_EXPECTED}",
    "numpy": f"it is a NumPy file; {_EXPECTED}",
    "gguf": f"it is a GGUF file; {_EXPECTED}",
    "tflite": f"it is a TensorFlow Lite file; {_EXPECTED}",
    "tar": f"it is a tar archive; unpack it: {_EXPECTED}",
    "zip": f"it is a zip archive without torch's data.pkl; unpack it: {_EXPECTED}",
    "compressed": f"it is a compressed file; unpack it: {_EXPECTED}",
    "image": "it is an image, no checkpoint; the model comes first: toplabel IMAGE -m CHECKPOINT",
    "json": f"it is a JSON file that lists no weights; {_EXPECTED}",
    "unknown": f"it is no kind of file that is known; {_EXPECTED}",
}

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"version https://git-lfs", "lfs pointer"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "numpy"),
    (b"GGUF", "gguf"),
    (b"\x1f\x8b", "compressed"),
    (b"BZh", "compressed"),
    (b"\xfd7zXZ", "compressed"),
    (b"\x28\xb5\x2f\xfd", "compressed"),
    (b"7z\xbc\xaf", "compressed"),
    (b"Rar!", "compressed"),
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG", "image"),
    (b"GIF8", "image"),
    (b"BM", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
)

_PAGE = re.compile(rb"\s*(?:<!doctype\s+html|<html|<\?xml|<head|<body)", re.IGNORECASE)
# ir_version, then the producer, the domain, the graph or the like
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]")
_START = 1024


def kind_of(path: Path) -> Kind:
    """What kind of file is at `path`.

    Raises:
        CheckpointError: There is none, it cannot be read, or it is a zip archive cut short.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return "folder" if stat.S_ISDIR(mode) else "special file"
        with path.open("rb") as file:
            return _kind_of_content(file, path.stat().st_size)
    except FileNotFoundError as error:
        raise CheckpointError("there is no such file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(getattr(error, "strerror", None) or str(error)) from error


def _kind_of_content(file: BinaryIO, size: int) -> Kind:
    start = file.read(_START)
    if not start:
        return "empty"
    if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") < 1 << 40:
        return "safetensors"
    kind = next((kind for magic, kind in _MAGIC if start.startswith(magic)), None)
    if kind == "zip":
        return kind_of_members(read_archive(file, size).names)
    kind = kind or _kind_of_start(start)
    return "pickle" if kind == "unknown" and _is_pickle(file, size) else kind


def _kind_of_start(start: bytes) -> Kind:
    if is_legacy(start):
        return "torch legacy"
    if _PAGE.match(start):
        return "web page"
    if is_tar(start):
        old = start[:100].strip(b"\0") in (b"sys_info", b"pickle", b"tensors", b"storages")
        return "torch tar" if old else "tar"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image"
    if start[4:8] == b"TFL3":
        return "tflite"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return "pickle"
    if _ONNX.match(start):
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


def kind_of_members(names: Collection[str]) -> Kind:
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
