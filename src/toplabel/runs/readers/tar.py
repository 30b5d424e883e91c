"""Tar archives, also compressed, and so WebDataset's shards: their pictures in their order."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, cast

from toplabel.errors import ErrorCode, ImageError
from toplabel.image.paths import is_picture
from toplabel.runs.entry import Entry
from toplabel.runs.readers.blob import BlobFile, known_blob, open_blob
from toplabel.runs.readers.forward import Forward, Stream
from toplabel.runs.readers.problems import problem, problem_of

_BUFFER_BYTES = 1 << 20
_OPEN_AT_ONCE = 4
_DAMAGES = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


def list_members(name: str, *, column: str | None = None) -> Iterator[Entry]:
    """The pictures of an archive: "photos.tar#cats/1.jpg", by their place in the uncompressed tar.

    Of an archive that is cut short or damaged, those before the damage, and then an entry for the
    archive that says so.
    """
    try:
        blob = open_blob(name)
    except ImageError as error:
        yield problem_of(name, error)
        return
    stamp = (blob.size, blob.mtime_ns)
    try:
        with _uncompressed(io.BufferedReader(BlobFile(blob), _BUFFER_BYTES), name) as file:
            yield from _walk(name, file, stamp)
    except ImageError as error:
        yield problem_of(name, error)


def read_member(entry: Entry, size: int) -> bytes:
    """The bytes of a picture in an archive, `size` of them at most; all where that is negative.

    Raises:
        ImageError: The archive is gone, damaged, or was written anew.
    """
    offset, length, *stamp = entry.place
    wanted = length if size < 0 else min(size, length)
    if _compression(entry.container) is None:
        content = known_blob(entry.container, stamp[0], stamp[1]).read_at(offset, wanted)
    else:
        try:
            content = _stream(entry.container, stamp[0], stamp[1]).read_at(offset, wanted)
        except EOFError:
            content = b""
        except _DAMAGES as error:
            raise ImageError("corrupt", f"the archive is damaged: {error}") from error
    if len(content) < wanted:
        raise ImageError("truncated", "the archive ends within this picture")
    return content


def _walk(name: str, file: IO[bytes], stamp: tuple[int, int]) -> Iterator[Entry]:
    """Entry after entry, without keeping them as `tarfile` would."""
    ended: tuple[ErrorCode, str] | None = None
    watched = _Watched(file)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                yield from _member(name, info, stamp)
        ended = _how_it_ended(watched.last)
    except tarfile.ReadError as error:
        short = "end of data" in str(error) or "truncated" in str(error)
        ended = ("truncated" if short else "corrupt"), f"the archive is damaged: {error}"
    except EOFError:
        ended = "truncated", "the compressed archive ends early"
    except _DAMAGES as error:
        ended = "corrupt", f"the archive is damaged: {error}"
    if ended is not None:
        yield problem(name, *ended)


class _Watched:
    """A file that remembers what was read of it last: `tarfile` does not say why it stops."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self._file.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _how_it_ended(last: bytes) -> tuple[ErrorCode, str] | None:
    """What is wrong with the block at which `tarfile` stopped: a whole one is of zeros."""
    if len(last) < tarfile.BLOCKSIZE:
        return "truncated", "the archive ends early: its end mark is missing"
    if last.strip(b"\0"):
        return "corrupt", "the archive is damaged: there is something that is no file of it"
    return None


def _member(name: str, info: tarfile.TarInfo, stamp: tuple[int, int]) -> Iterator[Entry]:
    if not is_picture(info.name) or info.isdir():
        return
    source = f"{name}#{info.name}"
    if info.isreg() and not info.issparse() and info.size >= 0:
        yield Entry(source, "tar", name, (info.offset_data, info.size, *stamp))
    elif info.islnk() or info.issym():
        yield problem(source, "unsupported_format", f"it is a link to {info.linkname!r}")
    else:
        yield problem(source, "unsupported_format", "it is no ordinary file of the archive")


def _compression(name: str) -> str | None:
    lower = name.lower()
    for kind, endings in (
        ("gz", (".gz", ".tgz")),
        ("bz2", (".bz2", ".tbz2")),
        ("xz", (".xz", ".txz")),
    ):
        if lower.endswith(endings):
            return kind
    return None


def _uncompressed(file: IO[bytes], name: str) -> IO[bytes]:
    kind = _compression(name)
    if kind == "gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb"))
    if kind == "bz2":
        return cast(IO[bytes], bz2.BZ2File(file))
    if kind == "xz":
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _stream(name: str, size: int, mtime_ns: int) -> Forward:
    """The uncompressed tar, which can only be read forward."""
    blob = known_blob(name, size, mtime_ns)
    return Forward(lambda: cast(Stream, _uncompressed(io.BufferedReader(BlobFile(blob)), name)))
