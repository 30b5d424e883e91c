"""A TIFF's directories: a file in, the tags of each of its images out."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from toplabel.image.failures import cut_short

_MAX_ENTRIES = 4096
_MAX_VALUES = 1 << 22  # of one tag: offsets of as many strips or tiles
_FORMATS = dict(  # of types that hold numbers, as `struct` names them
    zip((1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 16, 17, 18), "BBHIbBhifdIQqQ", strict=True)
)


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one image.

    `offset` is where the directory begins and `following` where the next one does, 0 after the
    last. `order` is "<" or ">". `entries` holds type, number of values and their place by tag.
    """

    file: BinaryIO
    size: int
    order: str
    big: bool
    offset: int
    following: int
    entries: dict[int, tuple[int, int, int]]

    def values(self, tag: int) -> tuple[int, ...]:
        """The numbers of a tag; none where the image does not have it.

        Raises:
            ValueError: They are of a type that holds no numbers, or too many.
            ImageError: `truncated`: they lie beyond the end of the file.
        """
        if tag not in self.entries:
            return ()
        kind, count, position = self.entries[tag]
        if kind not in _FORMATS or count > _MAX_VALUES:
            raise ValueError(f"tag {tag} has {count} values of type {kind}")
        layout = struct.Struct(f"{self.order}{count}{_FORMATS[kind]}")
        return layout.unpack(_read(self.file, position, layout.size))

    def value(self, tag: int, default: int) -> int:
        """The first number of a tag, or the default."""
        return next(iter(self.values(tag)), default)

    @property
    def is_first(self) -> bool:
        """Whether the file names this directory as its first."""
        at, offset = self._link()
        return _read(self.file, at, len(offset)) == offset

    def _link(self) -> tuple[int, bytes]:
        """Where a file says where its first directory begins, and how it would name this one."""
        at, link = (8, self.order + "Q") if self.big else (4, self.order + "I")
        return at, struct.pack(link, self.offset)

    def as_first(self) -> BinaryIO:
        """The file; where this is not its first directory, a copy of which it is."""
        if self.is_first:
            return self.file
        at, offset = self._link()
        self.file.seek(0)
        content = bytearray(self.file.read())
        content[at : at + len(offset)] = offset
        return io.BytesIO(content)


def read_directories(file: BinaryIO) -> Iterator[Directory]:
    """The images of a file in their order, without those in sub-directories.

    Raises:
        ValueError: It is no TIFF, or one directory is damaged.
        ImageError: `truncated`.
    """
    size = file.seek(0, 2)
    head = _read(file, 0, 8)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    (offset,) = (
        struct.unpack(order + "Q", _read(file, 8, 8))
        if big
        else struct.unpack(order + "I", head[4:])
    )
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        directory = _read_directory(file, offset, size=size, order=order, big=big)
        yield directory
        offset = directory.following


def sub_directory(parent: Directory, offset: int) -> Directory:
    """The image at an offset that `parent` names.

    Raises:
        ValueError: It is damaged.
        ImageError: `truncated`.
    """
    return _read_directory(
        parent.file, offset, size=parent.size, order=parent.order, big=parent.big
    )


def _read_directory(file: BinaryIO, offset: int, *, size: int, order: str, big: bool) -> Directory:
    count_format, entry_format, link = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    head = struct.Struct(order + count_format)
    entry = struct.Struct(order + entry_format)
    inline = struct.calcsize(order + link)
    (count,) = head.unpack(_read(file, offset, head.size))
    if not 1 <= count <= _MAX_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    step = entry.size + inline
    start = offset + head.size
    content = _read(file, start, count * step)
    entries: dict[int, tuple[int, int, int]] = {}
    for at in range(0, count * step, step):
        tag, kind, values = entry.unpack_from(content, at)
        length = values * struct.calcsize(order + _FORMATS.get(kind, "d"))
        position = start + at + entry.size
        if length > inline:
            (position,) = struct.unpack_from(order + link, content, at + entry.size)
        entries.setdefault(tag, (kind, values, position))
    file.seek(start + count * step)
    last = file.read(inline)
    following = struct.unpack(order + link, last)[0] if len(last) == inline else 0
    return Directory(file, size, order, big, offset, following, entries)


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    content = read_at(file, position, length)
    if len(content) < length:
        raise cut_short("TIFF")
    return content


def read_at(file: BinaryIO, position: int, length: int) -> bytes:
    """The bytes at a place of a file; fewer, or none, where it lies beyond the end."""
    if position >= 1 << 62:  # more than a file can have, and seek can take
        return b""
    file.seek(position)
    return file.read(length)
