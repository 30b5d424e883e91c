"""Source: an ONNX file from elsewhere, with the files that hold its weights. Nothing is run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toplabel.bundle import cache
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.onnx_header import OnnxInput, OnnxOutline, read_onnx_outline
from toplabel.bundle.onnx_import.shapes import check_input
from toplabel.bundle.program import GOLDENS_NAME, PROGRAM_NAME
from toplabel.errors import BundleError

_OTHERS = {
    re.compile(rb"version https://git-lfs"): (
        "a git-LFS pointer, not the file itself; run `git lfs pull` there"
    ),
    re.compile(rb"\s*<(?:!doctype\s+html|html|\?xml|head|body)", re.IGNORECASE): (
        "a web page, not what was to be downloaded; open the link in a browser"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSource:
    """An ONNX file whose outline is sound.

    `files` and `hashes` are by the name that each file has in a program's folder.
    """

    name: str
    outline: OnnxOutline
    taken: OnnxInput
    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    stamps: tuple[FileSignature, ...]


def read_source(path: str | os.PathLike[str]) -> OnnxSource:
    """The ONNX file at `path` and its weights, read as far as no engine is needed.

    Raises:
        BundleError: It cannot be read, is no ONNX file, is damaged, or names weights elsewhere.
        ModelError: It does not take a batch of pictures.
    """
    file = Path(os.path.abspath(path))
    try:
        first = FileSignature.of(file)  # before it is read
        _check_content(file)
        outline = read_onnx_outline(file)
        taken = check_input(outline, name=file.name)
        files = {PROGRAM_NAME: file} | {name: _beside(file, name) for name in outline.weights}
        if strange := [one.name for one in files.values() if not one.is_file() and one.exists()]:
            raise BundleError(
                f"{file.name} takes its weights from {strange[0]!r}, which is no file"
            )
        stamps = (first, *(FileSignature.of(files[name]) for name in outline.weights))
        return OnnxSource(
            name=file.name,
            outline=outline,
            taken=taken,
            files=files,
            hashes={name: cache.file_sha256(one) for name, one in files.items()},
            stamps=stamps,
        )
    except OSError as error:
        missing = f" {error.filename!r}" if error.filename else ""
        raise BundleError(
            f"cannot read {str(file)!r} and its weights:{missing} {error.strerror or error}"
        ) from error


def _check_content(file: Path) -> None:
    """Refuse what people mix up with an ONNX file.

    Raises:
        BundleError: It is something else; says what.
        OSError: It cannot be read.
    """
    if not file.is_file():  # opening a pipe would wait for its writer
        raise BundleError(f"{str(file)!r} is no file; expected an ONNX file")
    with file.open("rb") as opened:
        start = opened.read(256)
    if not start:
        raise BundleError(f"{str(file)!r} is empty; copy or download it again")
    for pattern, refusal in _OTHERS.items():
        if pattern.match(start):
            raise BundleError(f"{str(file)!r} is {refusal}")


def _beside(file: Path, location: str) -> Path:
    """The file with weights that the ONNX file names.

    Raises:
        BundleError: It is anywhere but beside the ONNX file.
    """
    weights = file.parent / location
    plain = location == os.path.basename(location) and not set(location) & set("\\\0")
    behind_links = (os.path.realpath(file.parent), os.path.dirname(os.path.realpath(file)))
    if not plain or os.path.dirname(os.path.realpath(weights)) not in behind_links:
        raise BundleError(
            f"{file.name} takes its weights from {location!r}; expected a file beside it, in"
            f" {str(file.parent)!r}; save the model again with its weights there"
        )
    if location in (PROGRAM_NAME, GOLDENS_NAME) or location.endswith(".json"):
        raise BundleError(
            f"{file.name} takes its weights from {location!r}, a name that toplabel needs itself;"
            " save the model again with its weights under another one"
        )
    return weights
