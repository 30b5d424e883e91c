"""Opening: a packed bundle's file in, its bundle out; unpacked into the cache once."""

from __future__ import annotations

import os
from pathlib import Path

from toplabel.bundle import cache
from toplabel.bundle.bundle import Bundle, cached_bundle
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.file.archive import Archive
from toplabel.bundle.file.contents import content_key
from toplabel.bundle.onnx_header import read_onnx_outline
from toplabel.bundle.program import DESCRIPTION_NAME, NotCompiled, Program, program_files
from toplabel.bundle.reference import Goldens
from toplabel.errors import BundleError


def open_packed(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in a file that `pack` wrote.

    The first time, all hashes are checked and the program is copied into the cache. From then on
    it is found there by the file's size, times and inode, and nothing is read.

    Args:
        path: The file.

    Raises:
        BundleError: It is no packed bundle, or a truncated, changed or newer one; says which.
    """
    try:
        stamp = FileSignature.of(os.path.realpath(path))  # before it is read
    except OSError as error:
        raise BundleError(f"cannot read {os.fspath(path)!r}: {error.strerror or error}") from error
    entry = stamp.real_path  # as `load` looks for it
    if (known := cached_bundle(entry)) is not None:
        return known
    with Archive(path) as archive:
        archive.check_contents()
        bundle = _unpack(archive)
    cache.store_entry(entry, bundle.to_manifest(), weights_files=[stamp], weights_may_vanish=False)
    return bundle


def _unpack(archive: Archive) -> Bundle:
    description = archive.read_json(DESCRIPTION_NAME)
    hashes = {name: digest for name, digest in archive.hashes.items() if name != DESCRIPTION_NAME}
    key = content_key(description, hashes)
    if description.get("key") != key:
        raise archive.changed(DESCRIPTION_NAME)
    program = cache.store_program(key, lambda folder: _import(archive, folder))
    if isinstance(program, NotCompiled):
        raise BundleError(f"cannot unpack {archive.path!r}: {program.reason}")
    return Bundle.from_manifest(archive.manifest, program)


def _import(archive: Archive, folder: Path) -> Program:
    """The program, copied into the folder and looked at."""
    for name in archive.hashes:
        archive.copy(name, folder / name)
    program = Program.read(folder)
    named = {program.path.name, program.goldens_path.name, *read_onnx_outline(program.path).weights}
    if strange := sorted(named ^ {file.name for file in program_files(folder)}):
        raise archive.refused(f"its program and its members do not agree about {strange[0]!r}")
    Goldens.load(program.goldens_path, expecting=(program.input_shape, program.outputs))
    return program
