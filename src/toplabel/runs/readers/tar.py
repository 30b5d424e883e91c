"""Tar archives, also compressed, and so WebDataset's shards: their images in order."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import IO, cast

from toplabel.errors import ErrorCode, ImageError
from toplabel.image.paths import is_image
from toplabel.runs.entry import Entry
from toplabel.runs.readers.random_access import (
    FileObject,
    ForwardReader,
    Stream,
    open_listed,
    open_random_access,
)

_BUFFER_BYTES = 1 << 20
_OPEN_AT_ONCE = 2  # each keeps what it has passed lately
_FOLLOWING_BYTES = 1 << 16
_MOST_TRAILING_BYTES = 256 << 20  # zeros fill a block of a tape; more are there to cost time
_MOST_HEADER_BYTES = 8 << 20  # a name has 4 kB; a file of many holes a long list of them
_COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz")
_DAMAGES = (
    *(tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError),
    *(RecursionError, OverflowError),  # of headers that go on in headers, and of odd numbers
)


def list_members(name: str, *, column: str | None = None) -> Iterator[Entry]:
    """The images of an archive: "photos.tar#cats/1.jpg", by their offset in the uncompressed tar.

    Of an archive that is truncated or damaged, those before the damage, and then an entry for the
    archive with the error.
    """
    try:
        archive = open_random_access(name)
        stamp = (archive.size, archive.mtime_ns)
        with _uncompressed(io.BufferedReader(FileObject(archive), _BUFFER_BYTES), name) as file:
            yield from _walk(name, file, stamp)
    except ImageError as error:
        yield Entry.unreadable(name, error.code, error.message)


def read_member(entry: Entry, size: int) -> bytes:
    """The bytes of an image in an archive, `size` of them at most; all where that is negative.

    Raises:
        ImageError: The archive is gone, damaged, or was rewritten.
    """
    offset, length, *stamp = entry.location
    wanted = length if size < 0 else min(size, length)
    if not entry.container.lower().endswith(_COMPRESSED):
        content = open_listed(entry.container, stamp[0], stamp[1]).read_at(offset, wanted)
    else:
        try:
            content = _stream(entry.container, stamp[0], stamp[1]).read_at(offset, wanted)
        except ImageError:  # of the file that holds the compressed bytes
            raise
        except EOFError:
            content = b""
        except _DAMAGES as error:
            raise ImageError("corrupt", f"the archive is damaged: {error}") from error
    if len(content) < wanted:
        raise ImageError("truncated", "the archive ends within this image")
    return content


def _walk(name: str, file: IO[bytes], stamp: tuple[int, int]) -> Iterator[Entry]:
    """Entry after entry, without keeping them as `tarfile` would."""
    ended: tuple[ErrorCode, str] | None = None
    watched = _Watched(file)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                watched.header_bytes = _bytes_of(archive.pax_headers)  # which are those of all
                yield from _member(name, info, stamp)
        ended = _how_it_ended(watched.last) or _what_follows(file.read(_FOLLOWING_BYTES))
        if name.lower().endswith(_COMPRESSED):  # on to its end, where the checksum stands
            for _ in range(_MOST_TRAILING_BYTES // _BUFFER_BYTES):
                if not file.read(_BUFFER_BYTES):
                    break
    except ImageError:  # it is a ValueError, too
        raise
    except tarfile.ReadError as error:
        short = "end of data" in str(error) or "truncated" in str(error)
        ended = ("truncated" if short else "corrupt"), f"the archive is damaged: {error}"
    except EOFError:
        ended = "truncated", "the compressed archive ends early"
    except _DAMAGES as error:
        ended = "corrupt", f"the archive is damaged: {error}"
    if ended is not None:
        yield Entry.unreadable(name, *ended)


class _Watched:
    """A file as `tarfile` reads it: only headers, and those of a member into memory at once.

    `last`: what was read last, as `tarfile` does not say why it stops. `header_bytes`: how much
    since somebody has set it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""
        self.header_bytes = 0

    def read(self, size: int = -1) -> bytes:
        self.header_bytes += size
        if self.header_bytes > _MOST_HEADER_BYTES:
            most = f"{_MOST_HEADER_BYTES >> 20} MiB"
            raise tarfile.ReadError(f"the header of a file in it has more than {most}")
        self.last = self._file.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _bytes_of(headers: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) for key, value in headers.items()) if headers else 0


def _how_it_ended(last: bytes) -> tuple[ErrorCode, str] | None:
    """What is wrong with the block at which `tarfile` stopped: a whole one is of zeros."""
    if len(last) < tarfile.BLOCKSIZE:
        return "truncated", "the archive ends early: its end mark is missing"
    if last.strip(b"\0"):
        return "corrupt", "the archive is damaged: found data that is not a file header"
    return None


def _what_follows(content: bytes) -> tuple[ErrorCode, str] | None:
    """What stands behind the zeros at the end, where that is an archive, as `cat` joins them."""
    zeros = len(content) - len(content.lstrip(b"\0"))
    header = content[zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE :]
    if header[257:262] != b"ustar":
        return None
    return "unsupported_format", "another archive follows its end; unpack them, or join with tar -A"


def _member(name: str, info: tarfile.TarInfo, stamp: tuple[int, int]) -> Iterator[Entry]:
    if not is_image(info.name) or info.isdir():
        return
    source = f"{name}#{info.name}"
    if info.isreg() and not info.issparse() and info.size >= 0:
        yield Entry(source, "tar", name, (info.offset_data, info.size, *stamp))
    elif info.islnk() or info.issym():
        yield Entry.unreadable(source, "unsupported_format", f"it is a link to {info.linkname!r}")
    else:
        yield Entry.unreadable(
            source, "unsupported_format", "it is not a regular file of the archive"
        )


def _uncompressed(file: IO[bytes], name: str) -> IO[bytes]:
    lower = name.lower()
    if lower.endswith((".gz", ".tgz")):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb"))
    if lower.endswith((".bz2", ".tbz2")):
        return cast(IO[bytes], bz2.BZ2File(file))
    if lower.endswith((".xz", ".txz")):
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _stream(name: str, size: int, mtime_ns: int) -> ForwardReader:
    """The uncompressed tar, which can only be read forward."""
    file = open_listed(name, size, mtime_ns)
    return ForwardReader(
        lambda: cast(Stream, _uncompressed(io.BufferedReader(FileObject(file)), name))
    )
