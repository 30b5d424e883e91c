"""A bundle as one file, `cats.toplabel`: written, opened, described.

A zip file whose members are stored as they are, so that any tool can look into it:

goldens.npz      reference inputs, and the outputs the program must give
program.onnx     the program; weights that do not fit into it follow as further members
unknown.npy      what is kept of training images, to tell unknown ones; of few models
examples.npy     what is kept of further ones, to train on them again; of few models
reduced.onnx     the program in fewer bits, where it was packed with one
reduced.npz      the outputs that one must give for the reference inputs
program.json     what is known of the program
manifest.json    name, preprocessing, labels, provenance; sha256 of every other member and of itself
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from toplabel._internal import platform
from toplabel._internal.mistaken import mistaken_for
from toplabel._internal.zip_directory import (
    Extent,
    ZipError,
    ZipMember,
    data_start,
    find_directory,
    locate_stored,
    read_members,
)
from toplabel._version import __version__
from toplabel.bundle import cache
from toplabel.bundle.bundle import (
    DOUBTS_ABOUT,
    MANIFEST_NAME,
    ZIP_START,
    Bundle,
    cached_bundle,
    is_bundle,
)
from toplabel.bundle.onnx_header import read_onnx_header
from toplabel.bundle.program import (
    DESCRIPTION_NAME,
    PROGRAM_NAME,
    REFERENCE_NAME,
    NotCompiled,
    Program,
    program_files,
)
from toplabel.bundle.reduced import REDUCED_NAME, REDUCED_REFERENCE_NAME
from toplabel.bundle.reference import ReferenceOutputs
from toplabel.bundle.unknown import EXAMPLES_NAME, UNKNOWN_NAME, Memory
from toplabel.errors import BundleError, ModelError, UsageError

FORMATS = (1, 2, 3)
"""Of packed files. The second is that of manifests of the third schema, the third that of files
with a reduced program, so that a toplabel that does not know them says so."""

_SEAL = "sha256"  # the key of the manifest that holds the manifest's own hash
_KEY_SCHEME = "packed 1"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip; the same bundle makes the same bytes at any time
_BLOCK_BYTES = 1 << 20
_MAX_JSON_BYTES = 8 << 20  # 21,000 labels take one
_MAX_DIRECTORY_BYTES = 1 << 20
_SHOWN_LABELS = 5
_MEMORIES = (("unknown", UNKNOWN_NAME), ("examples", EXAMPLES_NAME))
"""Keys of a manifest, and the members that are there with them."""
_ADVICE = "copy or download it again, or pack the model again"


# Written


def pack(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write the bundle into one file, at once and durably.

    The same bundle gives the same bytes.

    Raises:
        UsageError: There is a folder, or a file that is no bundle, at `path`.
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
    """Stop where a bundle could not, or should not, be written.

    Raises:
        UsageError: There is no such folder, or something stands there that is no bundle.
    """
    target, name = Path(os.path.realpath(path)), os.fspath(path)
    if not target.parent.is_dir():
        raise UsageError(f"cannot write {name!r}: there is no folder {str(target.parent)!r}")
    if target.exists() and not target.is_file():
        raise UsageError(f"cannot write {name!r}: it exists and is not a file")
    if target.exists() and target.stat().st_size and not is_bundle(target):
        raise UsageError(
            f"cannot write {name!r}: a file that is not a bundle exists there; choose another name"
        )


def _write(bundle: Bundle, archive: zipfile.ZipFile) -> None:
    program = bundle.program
    weights = read_onnx_header(program.path).weights
    if strange := [name for name in weights if not _is_plain_name(name)]:
        raise BundleError(
            f"{bundle.name} keeps weights in {strange[0]!r}, which is not a valid file name on"
            " every system; export the model again with its weights under another name"
        )
    files = {REFERENCE_NAME: program.reference_path, program.path.name: program.path}
    files |= {name: program.path.parent / name for name in weights}
    if (reduced := bundle.reduced) is not None:
        files |= {REDUCED_NAME: reduced.path, REDUCED_REFERENCE_NAME: reduced.reference_path}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    hashes = {name: _add_file(archive, name, file) for name, file in files.items()}
    for name, memory in bundle.memories.items():
        content = memory.to_bytes()
        sizes[name] = len(content)
        hashes[name] = _add_bytes(archive, name, content)
    description = program.to_description(sizes)
    description["key"] = content_key(description, hashes)
    hashes[DESCRIPTION_NAME] = _add_json(archive, DESCRIPTION_NAME, description)
    manifest = {
        "format": 3 if reduced is not None else 2 if bundle.schema >= 3 else 1,
        "made_by": f"toplabel {__version__}",
        **_keyed(bundle.to_manifest(), description["key"]),
        "program": description["key"],
        "files": hashes,
    }
    _add_json(archive, MANIFEST_NAME, sealed(manifest))


def _add_file(archive: zipfile.ZipFile, name: str, file: Path) -> str:
    """Append a member; returns its sha256."""
    digest = hashlib.sha256()
    member = _member(name, file.stat().st_size)
    with file.open("rb") as source, archive.open(member, "w") as target:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def _add_json(archive: zipfile.ZipFile, name: str, content: dict[str, Any]) -> str:
    return _add_bytes(archive, name, (json.dumps(content, indent=1) + "\n").encode())


def _add_bytes(archive: zipfile.ZipFile, name: str, content: bytes) -> str:
    archive.writestr(_member(name, len(content)), content)
    return hashlib.sha256(content).hexdigest()


def _member(name: str, size: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EARLIEST)
    member.create_system = 3  # Unix, whose file modes follow
    member.external_attr = 0o100644 << 16
    member.file_size = size  # from 2 GiB on the header needs another form
    return member


def content_key(description: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """What the program in a bundle file is kept under in the cache: 64 hexadecimal digits.

    It follows from the contents alone, so that no file can pass for another one's program.

    Args:
        description: The object in program.json; the key that it claims does not count.
        hashes: The sha256 of each of the program's files, by name.
    """
    claims = {name: value for name, value in description.items() if name != "key"}
    return _hash_of([_KEY_SCHEME, claims, dict(hashes)])


def _keyed(manifest: dict[str, Any], key: str) -> dict[str, Any]:
    """The manifest with a key of its reduced program that follows from the contents, too.

    The key that it claims does not count: engines would keep their copy, or look for one, under
    another program's.

    Args:
        manifest: Of a bundle.
        key: The `content_key` of its program, which the reduced program's file is part of.
    """
    reduced = manifest.get("reduced")
    if not isinstance(reduced, dict):
        return manifest
    way = [reduced.get("precision"), reduced.get("engine")]
    return {
        **manifest,
        "reduced": {**reduced, "key": _hash_of([_KEY_SCHEME, "reduced", key, *way])},
    }


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash in it."""
    return {**manifest, _SEAL: _hash_of({k: v for k, v in manifest.items() if k != _SEAL})}


def _hash_of(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _is_plain_name(name: str) -> bool:
    """Whether a member may be called so: a file's name on every system, and no hidden one."""
    return bool(name) and not name.startswith(".") and not set(name) & set('/\\:"*?<>|\0')


# Opened


def open_packed(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in a file that `pack` wrote.

    The first time, all hashes are checked and the program is copied into the cache. From then on
    it is found there by the file's size, times and inode, and nothing is read.

    Raises:
        BundleError: It is not a bundle, or a truncated, modified or newer one; says which.
    """
    try:
        signature = cache.FileSignature.of(os.path.realpath(path))  # before it is read
    except OSError as error:
        raise BundleError(f"cannot read {os.fspath(path)!r}: {error.strerror or error}") from error
    entry = signature.real_path  # as `load` looks for it
    if (known := cached_bundle(entry)) is not None:
        return known
    with _open_archive(path) as archive:
        archive.check_contents()
        bundle = _unpack(archive)
    manifest = bundle.to_manifest()
    cache.store_entry(entry, manifest, weights_files=[signature], weights_may_vanish=False)
    return bundle


def _unpack(archive: _Archive) -> Bundle:
    description = archive.read_json(DESCRIPTION_NAME)
    hashes = {name: digest for name, digest in archive.hashes.items() if name != DESCRIPTION_NAME}
    key = content_key(description, hashes)
    if description.get("key") != key:
        raise archive.modified(DESCRIPTION_NAME)
    program = cache.store_program(key, lambda folder: _import(archive, folder))
    if isinstance(program, NotCompiled):
        raise BundleError(f"cannot unpack {archive.path!r}: {program.reason}")
    return Bundle.from_manifest(_keyed(archive.manifest, key), program)


def _import(archive: _Archive, folder: Path) -> Program:
    """The program, copied into the folder and looked at."""
    for name in archive.hashes:
        archive.copy(name, folder / name)
    program = Program.read(folder)
    weights = read_onnx_header(program.path).weights
    named = {program.path.name, program.reference_path.name, *weights}
    memories = [name for key, name in _MEMORIES if archive.manifest.get(key) is not None]
    named.update(memories)
    has_reduced = archive.manifest.get("reduced") is not None
    if has_reduced:
        named.update((REDUCED_NAME, REDUCED_REFERENCE_NAME))
    if strange := sorted(named ^ {file.name for file in program_files(folder)}):
        raise archive.invalid(f"its program and its list of members disagree on {strange[0]!r}")
    ReferenceOutputs.load(program.reference_path, expecting=(program.input_shape, program.outputs))
    for name in memories:
        _check_memory(archive, program, folder / name)
    if has_reduced:
        _check_reduced(archive, program, folder)
    return program


def _check_reduced(archive: _Archive, program: Program, folder: Path) -> None:
    """Refuse a reduced program that cannot stand in for the program itself."""
    exact, reduced = read_onnx_header(program.path), read_onnx_header(folder / REDUCED_NAME)
    if reduced.weights:
        raise archive.invalid(f"{REDUCED_NAME} keeps weights in {reduced.weights[0]!r}")
    if [(one.name, one.dtype) for one in reduced.inputs] != [
        (one.name, one.dtype) for one in exact.inputs
    ] or program.output_name not in reduced.outputs:
        raise archive.invalid(f"{REDUCED_NAME} has other inputs or outputs than {PROGRAM_NAME}")
    path = folder / REDUCED_REFERENCE_NAME
    ReferenceOutputs.load(path, expecting=(program.input_shape, program.outputs))


def _check_memory(archive: _Archive, program: Program, path: Path) -> None:
    """Refuse what is kept of training images where it does not fit the program's features."""
    from toplabel.bundle.features import find_features

    try:
        size = find_features(program).size
    except ModelError as error:
        raise archive.invalid(f"{path.name} is of features, and {error}") from error
    if (found := Memory(path).rows["row"].shape[1]) != size:
        raise archive.invalid(f"{path.name} is of {found} features; its program has {size}")


# Described


def describe_packed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in a bundle file, as plain data for JSON. No engine runs.

    `verified` is True where all contents are as they were packed, else the text that says what is
    not.

    Raises:
        BundleError: It is not a bundle, or a truncated or newer one; says which.
    """
    with _open_archive(path) as archive:
        manifest, program = archive.manifest, archive.read_json(DESCRIPTION_NAME)
        names = _names(manifest)
        provenance = manifest.get("provenance")
        provenance = provenance if isinstance(provenance, dict) else {}
        return {
            "file": os.fspath(path),
            "kind": "packed bundle",
            "format": manifest["format"],
            "size_bytes": os.path.getsize(path),
            "name": manifest.get("name"),
            "classes": len(names),
            "labels": names[:_SHOWN_LABELS],
            "activation": manifest.get("activation"),
            "preprocess": manifest.get("preprocess"),
            "calibration": manifest.get("calibration"),
            **({"training": manifest["training"]} if "training" in manifest else {}),
            **{name: manifest[name] for name in ("unknown", "reduced") if name in manifest},
            "licence": provenance.get("licence", "not stated"),
            "provenance": {k: v for k, v in provenance.items() if k != DOUBTS_ABOUT},
            "made_by": manifest.get("made_by"),
            "exporter": program.get("exporter"),
            "agreement": program.get("agreement"),
            "members": {name: member.size for name, member in archive.members.items()},
            "verified": _verified(archive),
        }


def packed_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """All class names of a bundle file, in output order; none where it states none.

    Raises:
        BundleError: It is not a bundle, or a truncated or newer one; says which.
    """
    with _open_archive(path) as archive:
        return tuple(map(str, _names(archive.manifest)))


def _names(manifest: Mapping[str, Any]) -> list[Any]:
    labels = manifest.get("labels")
    names = labels.get("names") if isinstance(labels, dict) else None
    return names if isinstance(names, list) else []


def _verified(archive: _Archive) -> bool | str:
    try:
        archive.check_contents()
    except BundleError as error:
        return str(error)
    return True


# Read


@contextmanager
def _open_archive(path: str | os.PathLike[str]) -> Iterator[_Archive]:
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            kind = "a folder" if os.path.isdir(path) else "not a file"
            raise BundleError(f"{name!r} is {kind}; expected a bundle file")
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise BundleError(f"cannot read {name!r}: {error.strerror or error}") from error
    with file:
        yield _Archive(name, file)


class _Archive:
    """A bundle's file, opened; its format and members are sound, their contents not yet checked.

    Raises:
        BundleError: It cannot be read, is something else, is truncated, or was made by a newer
            toplabel; or its members are not as `pack` writes them.
    """

    def __init__(self, path: str, file: IO[bytes]) -> None:
        self.path = path
        self._file = file
        size = os.fstat(file.fileno()).st_size
        try:
            directory = find_directory(self._read_at, size)
            if not directory.plain:  # perhaps that of the zip file goldens.npz within
                raise ZipError("there are other bytes before or after the archive")
            if directory.size > _MAX_DIRECTORY_BYTES:
                raise self.invalid("its list of members is too long")
            members = list(read_members(self._read_at, directory))
            self.members = {member.name.decode("utf-8"): member for member in members}
        except (ZipError, UnicodeDecodeError) as error:
            raise self._no_bundle(error) from None
        self.manifest = self._read_manifest()
        self._check_members(members)
        try:
            extents = locate_stored(self._read_at, members, directory)
        except ZipError as error:
            raise self.invalid(str(error)) from None
        self._extents: dict[str, Extent] = {n.decode(): extent for n, extent in extents.items()}

    @property
    def hashes(self) -> Mapping[str, str]:
        """What the manifest says is the sha256 of each other member."""
        hashes: dict[str, str] = self.manifest["files"]
        return hashes

    def check_contents(self) -> None:
        """Read all members and compare them with their hashes.

        Raises:
            BundleError: One was modified.
        """
        if sealed(self.manifest)[_SEAL] != self.manifest.get(_SEAL):
            raise self.modified(MANIFEST_NAME)
        for name in self.hashes:
            self.copy(name, None)

    def copy(self, name: str, target: Path | None) -> None:
        """Read a member, write it to the new file `target` where given, and check it.

        Raises:
            BundleError: It was modified.
            OSError: `target` cannot be written.
        """
        digest, extent = hashlib.sha256(), self._extents[name]
        with open(os.devnull, "wb") if target is None else target.open("xb") as written:
            for start in range(extent.start, extent.start + extent.size, _BLOCK_BYTES):
                left = extent.start + extent.size - start
                block = self._read_at(start, min(_BLOCK_BYTES, left))
                digest.update(block)
                written.write(block)
        if digest.hexdigest() != self.hashes[name]:
            raise self.modified(name)

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a member; its hash is not looked at.

        Raises:
            BundleError: It holds none.
        """
        member = self.members[name]
        if member.size > _MAX_JSON_BYTES:
            raise self.invalid(f"{name} has {member.size:,} bytes")
        if (reason := _why_not(name, member)) is not None:
            raise self.invalid(f"its member {name!r} {reason}")
        try:
            plain = json.loads(self._read_at(data_start(self._read_at, member.header), member.size))
        except (ValueError, RecursionError):
            plain = None
        if not isinstance(plain, dict):
            raise self.invalid(f"{name} is not a JSON object")
        return plain

    def modified(self, name: str) -> BundleError:
        """The error of a member that does not have the content it was packed with."""
        return BundleError(f"{self.path!r} was modified after it was packed: {name}; {_ADVICE}")

    def invalid(self, reason: str) -> BundleError:
        """The error of a file that `pack` cannot have written."""
        return BundleError(f"{self.path!r} is not a valid bundle: {reason}; {_ADVICE}")

    def _read_at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _no_bundle(self, error: ValueError) -> BundleError:
        """The error of a file that is no sound zip file."""
        start = self._read_at(0, 512)
        if not start.startswith(ZIP_START):
            return self._another(mistaken_for(start) or f"a file that begins with {start[:8]!r}")
        return BundleError(f"truncated: {self.path!r} is incomplete ({error}); {_ADVICE}")

    def _another(self, kind: str) -> BundleError:
        return BundleError(
            f"{self.path!r} is not a bundle but {kind}; expected a file written by `toplabel pack`"
            " or Predictor.save"
        )

    def _read_manifest(self) -> dict[str, Any]:
        if MANIFEST_NAME not in self.members:
            is_checkpoint = any(name.endswith("/data.pkl") for name in self.members)
            raise self._another("a PyTorch checkpoint" if is_checkpoint else "another zip file")
        manifest = self.read_json(MANIFEST_NAME)
        found = manifest.get("format")
        if type(found) is int and found > FORMATS[-1]:
            raise BundleError(
                f"{self.path!r} was made by a newer toplabel (format {found}; this version reads"
                f" format {FORMATS[-1]}); upgrade toplabel"
            )
        if type(found) is not int or found not in FORMATS:
            raise self.invalid(f"its format is {found!r}; expected {FORMATS[-1]}")
        return manifest

    def _check_members(self, members: list[ZipMember]) -> None:
        files = self.manifest.get("files")
        if not isinstance(files, dict) or not all(map(_is_digest, files.values())):
            raise self.invalid("its manifest lists no hashes of files")
        for name, member in self.members.items():
            if (reason := _why_not(name, member)) is not None:
                raise self.invalid(f"its member {name!r} {reason}")
        if len(self.members) != len(members):
            raise self.invalid("two of its members have the same name")
        required = (REFERENCE_NAME, PROGRAM_NAME, DESCRIPTION_NAME, *files)
        if missing := [name for name in required if name not in self.members]:
            raise self.invalid(f"it lacks {missing[0]}")
        if unknown := sorted(self.members.keys() - files.keys() - {MANIFEST_NAME}):
            raise self.invalid(f"its manifest does not list its member {unknown[0]!r}")


def _why_not(name: str, member: ZipMember) -> str | None:
    """Why no bundle has such a member; None where it may."""
    if not _is_plain_name(name):
        return "has a name that is not a plain file name"
    if not member.is_stored:
        return "is compressed or encrypted; expected it to be stored as it is"
    if stat.S_IFMT(member.mode) not in (0, stat.S_IFREG):
        return "is a link or something else that is not a regular file"
    return None


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
