"""Literals: the numbers and texts of a pickle, read from a stretch of a file without surprises."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.tensors import Opaque

_NAME_LIMIT = 1000  # bytes of a name, or of a number in digits
_TEXT_LIMIT = 1_000_000  # bytes of a text that is kept: longer ones are arrays in disguise
_INTEGER_LIMIT = 32  # bytes


class ByteSource:
    """Reads a stretch of a file, from where it stands to `end`, never more than is there."""

    __slots__ = ("_end", "_file", "position")

    def __init__(self, file: BinaryIO, *, end: int) -> None:
        self._file, self._end = file, end
        self.position = file.tell()

    def read(self, count: int) -> bytes:
        """Exactly that many bytes.

        Raises:
            CheckpointError: There are fewer.
        """
        if not 0 <= count <= self._end - self.position:
            raise cut_short()
        self.position += count
        block = self._file.read(count)
        if len(block) != count:
            raise cut_short()
        return block

    def skip(self, count: int) -> None:
        """Go on by that many bytes.

        Raises:
            CheckpointError: There are fewer.
        """
        if not 0 <= count <= self._end - self.position:
            raise cut_short()
        self.position += count
        self._file.seek(self.position)

    def line(self) -> bytes:
        """The bytes up to a line's end, without it.

        Raises:
            CheckpointError: There is none, or the line is too long for a name or a number.
        """
        line = self._file.readline(min(_NAME_LIMIT, self._end - self.position))
        if not line.endswith(b"\n"):
            raise cut_short()
        self.position += len(line)
        return line[:-1]


def cut_short() -> CheckpointError:
    """The error of a file that ends, or makes no sense, in the middle."""
    return CheckpointError("it is cut short or damaged; copy or download it again")


def number(form: str) -> Callable[[ByteSource], Any]:
    """A reader of one number in the form of `struct`."""
    packed = struct.Struct(form)
    return lambda source: packed.unpack(source.read(packed.size))[0]


def _text_of(form: str, make: Callable[[bytes], Any], kind: str) -> Callable[[ByteSource], Any]:
    count_of = number(form)

    def read(source: ByteSource) -> Any:
        count = count_of(source)
        if count <= _TEXT_LIMIT:
            return make(source.read(count))
        source.skip(count)
        return Opaque(kind)

    return read


def _integer_of(form: str) -> Callable[[ByteSource], int]:
    count_of = number(form)

    def read(source: ByteSource) -> int:
        count = count_of(source)
        if count > _INTEGER_LIMIT:
            raise OverflowError(count)
        return int.from_bytes(source.read(count), "little", signed=True)

    return read


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _old_text(raw: bytes) -> str | bytes:
    """Text of Python 2, as torch reads it; what is no UTF-8 stays bytes."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _integer_line(source: ByteSource) -> int | bool:
    line = source.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


#: The operations that put a plain value onto the stack, by their byte.
LITERALS: dict[bytes, Callable[[ByteSource], Any]] = {
    pickle.NONE: lambda source: None,
    pickle.NEWTRUE: lambda source: True,
    pickle.NEWFALSE: lambda source: False,
    pickle.EMPTY_TUPLE: lambda source: (),
    pickle.BININT: number("<i"),
    pickle.BININT1: number("<B"),
    pickle.BININT2: number("<H"),
    pickle.BINFLOAT: number(">d"),
    pickle.INT: _integer_line,
    pickle.LONG: lambda source: int(source.line().rstrip(b"L")),
    pickle.LONG1: _integer_of("<B"),
    pickle.LONG4: _integer_of("<i"),
    pickle.FLOAT: lambda source: float(source.line()),
    pickle.STRING: lambda source: _old_text(source.line().strip()[1:-1]),
    pickle.BINSTRING: _text_of("<i", _old_text, "str"),
    pickle.SHORT_BINSTRING: _text_of("<B", _old_text, "str"),
    pickle.UNICODE: lambda source: str(source.line(), "raw-unicode-escape"),
    pickle.SHORT_BINUNICODE: _text_of("<B", _text, "str"),
    pickle.BINUNICODE: _text_of("<I", _text, "str"),
    pickle.BINUNICODE8: _text_of("<Q", _text, "str"),
    pickle.SHORT_BINBYTES: _text_of("<B", bytes, "bytes"),
    pickle.BINBYTES: _text_of("<I", bytes, "bytes"),
    pickle.BINBYTES8: _text_of("<Q", bytes, "bytes"),
    pickle.BYTEARRAY8: _text_of("<Q", bytes, "bytes"),
}
