"""Packing: a bundle in, one file out."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import IO, Any

from toplabel._internal import platform
from toplabel._version import __version__
from toplabel.bundle.bundle import MANIFEST_NAME, Bundle, is_bundle
from toplabel.bundle.file.archive import CHUNK_BYTES, FORMAT
from toplabel.bundle.file.contents import content_key, is_plain_name, sealed
from toplabel.bundle.onnx_header import read_onnx_outline
from toplabel.bundle.program import DESCRIPTION_NAME, GOLDENS_NAME
from toplabel.errors import BundleError, UsageError

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip; the same bundle makes the same bytes at any time


def pack(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write the bundle into one file, at once and durably.

    The same bundle gives the same bytes.

    Raises:
        UsageError: There is a folder, or a file that is no packed bundle, at `path`.
        BundleError: The program cannot be read, or the file cannot be written.
    """
    check_target(path)
    target = Path(os.path.realpath(path))  # a link stays one
    try:
        with (
            platform.written_aside(target) as aside,
            aside.open("xb") as file,
            zipfile.ZipFile(file, "w") as archive,
        ):
            _write(bundle, archive)
    except OSError as error:
        what = error.strerror or error
        raise BundleError(f"cannot write {os.fspath(path)!r}: {what}") from error


def check_target(path: str | os.PathLike[str]) -> None:
    """Stop where a packed bundle could not, or should not, be written.

    Raises:
        UsageError: There is no such folder, or something stands there that is no packed bundle.
    """
    target, name = Path(os.path.realpath(path)), os.fspath(path)
    if not target.parent.is_dir():
        raise UsageError(f"got {name!r} to write; there is no folder {str(target.parent)!r}")
    if target.exists() and not target.is_file():
        raise UsageError(f"got {name!r}, which is no file; expected a file to write")
    if target.exists() and target.stat().st_size and not is_bundle(target):
        raise UsageError(f"got {name!r} to write, which exists and is no bundle; name another")


def _write(bundle: Bundle, archive: zipfile.ZipFile) -> None:
    program = bundle.program
    weights = read_onnx_outline(program.path).weights
    if strange := [name for name in weights if not is_plain_name(name)]:
        raise BundleError(
            f"{bundle.name} keeps weights in {strange[0]!r}, which is no name for a file on every"
            " system; export the model again with its weights under another one"
        )
    files = {GOLDENS_NAME: program.goldens_path, program.path.name: program.path}
    files |= {name: program.path.parent / name for name in weights}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    hashes = {name: _add_file(archive, name, file) for name, file in files.items()}
    description = program.to_description(sizes)
    description["key"] = content_key(description, hashes)
    hashes[DESCRIPTION_NAME] = _add_json(archive, DESCRIPTION_NAME, description)
    manifest = {
        "format": FORMAT,
        "made_by": f"toplabel {__version__}",
        **bundle.to_manifest(),
        "program": description["key"],
        "files": hashes,
    }
    _add_json(archive, MANIFEST_NAME, sealed(manifest))


def _add_file(archive: zipfile.ZipFile, name: str, file: Path) -> str:
    """Append a member; returns its sha256."""
    member = _member(name, file.stat().st_size)
    with file.open("rb") as source, archive.open(member, "w") as target:
        return _copy_and_hash(source, target)


def _add_json(archive: zipfile.ZipFile, name: str, content: dict[str, Any]) -> str:
    text = (json.dumps(content, indent=1) + "\n").encode()
    archive.writestr(_member(name, len(text)), text)
    return hashlib.sha256(text).hexdigest()


def _member(name: str, size: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EARLIEST)
    member.create_system = 3  # Unix, whose file modes follow
    member.external_attr = 0o100644 << 16
    member.file_size = size  # from 2 GiB on the header needs another form
    return member


def _copy_and_hash(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy all that is left of `source`; returns its sha256."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()
