"""Archive: a packed bundle's file in, its members out. None is trusted before it is checked."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from toplabel.bundle.bundle import MANIFEST_NAME, ZIP_START, is_bundle
from toplabel.bundle.file.contents import SEAL, is_plain_name, sealed
from toplabel.bundle.program import DESCRIPTION_NAME, GOLDENS_NAME, PROGRAM_NAME
from toplabel.errors import BundleError

FORMAT = 1
CHUNK_BYTES = 1 << 20

_REQUIRED = (GOLDENS_NAME, PROGRAM_NAME, DESCRIPTION_NAME)
_MAX_JSON_BYTES = 8 << 20  # 21,000 labels take one
_ADVICE = "get the file again, or pack the model again"


class Archive:
    """A packed bundle's file, opened; its format and list of members are sound.

    Args:
        path: The file.

    Raises:
        BundleError: It cannot be read, is something else, is truncated, or was made by a newer
            toplabel; or its list of members is not as `pack` writes it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file = _open_file(self.path)
        try:
            self._zip = _open_zip(self._file, self.path)
            self.sizes = {member.filename: member.file_size for member in self._zip.infolist()}
            self.manifest = self._read_manifest()
            self._check_members()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def hashes(self) -> Mapping[str, str]:
        """What the manifest says is the sha256 of each other member."""
        hashes: dict[str, str] = self.manifest["files"]
        return hashes

    def check_contents(self) -> None:
        """Read all members and compare them with their hashes.

        Raises:
            BundleError: One was changed.
        """
        if sealed(self.manifest)[SEAL] != self.manifest.get(SEAL):
            raise self.changed(MANIFEST_NAME)
        for name in self.hashes:
            self.copy(name, None)

    def copy(self, name: str, target: Path | None) -> None:
        """Read a member, write it to the new file `target` where given, and check it.

        Raises:
            BundleError: It was changed.
            OSError: `target` cannot be written.
        """
        digest = hashlib.sha256()
        written = None if target is None else target.open("xb")
        try:
            with self._open_member(name) as source:
                while chunk := self._read_chunk(source, name):
                    digest.update(chunk)
                    if written is not None:
                        written.write(chunk)
        finally:
            if written is not None:
                written.close()
        if digest.hexdigest() != self.hashes[name]:
            raise self.changed(name)

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a member; its hash is not looked at.

        Raises:
            BundleError: It holds none.
        """
        if self.sizes[name] > _MAX_JSON_BYTES:
            raise self.refused(f"{name} has {self.sizes[name]:,} bytes")
        if (reason := _why_not(self._zip.getinfo(name))) is not None:
            raise self.refused(f"its member {name!r} {reason}")
        with self._open_member(name) as source:
            chunks = list(iter(lambda: self._read_chunk(source, name), b""))
        try:
            plain = json.loads(b"".join(chunks))
        except (ValueError, RecursionError):
            plain = None
        if not isinstance(plain, dict):
            raise self.refused(f"{name} is no JSON object")
        return plain

    def changed(self, name: str) -> BundleError:
        """The error of a member that does not have the content it was packed with."""
        return BundleError(
            f"{self.path!r} was changed after it was packed: {name} is not what it was; {_ADVICE}"
        )

    def refused(self, reason: str) -> BundleError:
        """The error of a file that `pack` cannot have written."""
        return BundleError(f"{self.path!r} is no sound packed bundle: {reason}; {_ADVICE}")

    def _read_manifest(self) -> dict[str, Any]:
        if MANIFEST_NAME not in self.sizes:
            if is_bundle(self.path):  # zipfile has found the list of the zip file goldens.npz
                raise _truncated(self.path)
            raise BundleError(
                f"{self.path!r} is no packed bundle, but {_kind_of_zip(self.sizes)}; expected a"
                " file that `toplabel pack` or Predictor.save wrote"
            )
        manifest = self.read_json(MANIFEST_NAME)
        found = manifest.get("format")
        if type(found) is int and found > FORMAT:
            raise BundleError(
                f"{self.path!r} was made by a newer toplabel (format {found}; this reads"
                f" {FORMAT}); upgrade toplabel"
            )
        if type(found) is not int or found != FORMAT:
            raise self.refused(f"its format is {found!r}; expected {FORMAT}")
        return manifest

    def _check_members(self) -> None:
        members = self._zip.infolist()
        files = self.manifest.get("files")
        if not isinstance(files, dict) or not all(map(_is_digest, files.values())):
            raise self.refused("its manifest lists no hashes of files")
        for member in members:
            if (reason := _why_not(member)) is not None:
                raise self.refused(f"its member {member.filename!r} {reason}")
        if len(self.sizes) != len(members):
            raise self.refused("two of its members have the same name")
        if missing := [name for name in (*_REQUIRED, *files) if name not in self.sizes]:
            raise self.refused(f"it lacks {missing[0]}")
        if unknown := sorted(self.sizes.keys() - files.keys() - {MANIFEST_NAME}):
            raise self.refused(f"its manifest does not list its member {unknown[0]!r}")
        if sum(self.sizes.values()) > os.fstat(self._file.fileno()).st_size:
            raise self.refused("its members claim to be larger than the file")

    def _open_member(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(name)
        except Exception:  # its own header says something else than the list of members
            raise self.changed(name) from None

    def _read_chunk(self, source: IO[bytes], name: str) -> bytes:
        try:
            return source.read(CHUNK_BYTES)
        except Exception:  # a wrong checksum, or the file ends
            raise self.changed(name) from None


def _open_file(path: str) -> IO[bytes]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a folder" if os.path.isdir(path) else "no file"
            raise BundleError(f"{path!r} is {kind}; expected a packed bundle")
        return open(path, "rb")
    except OSError as error:
        raise BundleError(f"cannot read {path!r}: {error.strerror or error}") from error


def _open_zip(file: IO[bytes], path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_Bounded(file))
    except MemoryError:
        raise BundleError(
            f"{path!r} is no packed bundle: its list of members is too long"
        ) from None
    except Exception:  # zipfile knows half a dozen kinds for damaged bytes
        file.seek(0)
        start = file.read(512)
        if start.startswith(ZIP_START):
            raise _truncated(path) from None
        raise BundleError(
            f"{path!r} is no packed bundle, but {_kind(start)}; expected a file that"
            " `toplabel pack` or Predictor.save wrote"
        ) from None


def _truncated(path: str) -> BundleError:
    return BundleError(f"truncated: {path!r} ends before its list of members; {_ADVICE}")


class _Bounded:
    """A file that is read in pieces: zipfile would read a list of a million members at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """The next bytes; all of them where `size` is -1.

        Raises:
            MemoryError: These are more than anybody needs at once.
        """
        content = self._file.read(CHUNK_BYTES + 1 if size < 0 else min(size, CHUNK_BYTES + 1))
        if len(content) > CHUNK_BYTES:
            raise MemoryError(f"more than {CHUNK_BYTES} bytes at once")
        return content


def _why_not(member: zipfile.ZipInfo) -> str | None:
    """Why no packed bundle has such a member; None where it may."""
    name = member.filename
    if name != member.orig_filename or not is_plain_name(name):
        return "has a name that is no plain file name"
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
        return "is compressed or encrypted; expected it stored as it is"
    if member.compress_size != member.file_size:
        return "has two different sizes"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or another thing that is no file"
    return None


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _kind_of_zip(names: Mapping[str, int]) -> str:
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch checkpoint"
    return "another zip file"


def _kind(start: bytes) -> str:
    """What a file is that begins so, as far as people mix it up with a bundle."""
    if not start.strip():
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (git lfs pull fetches the file)"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page (perhaps of a failed download)"
    return f"a file that begins with {start[:8]!r}"
