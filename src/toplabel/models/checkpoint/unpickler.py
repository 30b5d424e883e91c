"""The bytes of a pickle in, calls of a `StubMaker` out; only plain values are made here.

A reader of our own, because Python's can be made to allocate gigabytes by a few bytes, and torch's
makes real tensors. Every operation and every byte that is kept is charged to a budget. Whatever is
damaged, cut short or above the budget is a `CheckpointError`.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.info import StoredBytes

if TYPE_CHECKING:
    from toplabel.models.checkpoint.stubs import StubMaker

_BUDGET = 40_000_000  # bytes, about: enough for 12,000 tensors
_STEP = 40  # what every operation costs: at most a million
_NAME_LIMIT = 1000  # bytes of a name, or of a number in digits
_TEXT_LIMIT = 32_768  # bytes of a text that is kept: longer ones are arrays in disguise
_BYTES_LIMIT = 64  # of bytes that are kept
_INTEGER_LIMIT = 32  # bytes
_DAMAGE = (
    *(IndexError, KeyError, ValueError, TypeError, AttributeError),
    *(OverflowError, MemoryError, RecursionError, struct.error),
)


class ByteSource:
    """Reads a stretch of a file, from where it stands to `end`, never more than is there.

    One of a stretch `within` another is `inner`.
    """

    __slots__ = ("_end", "_file", "inner", "position")

    def __init__(self, file: BinaryIO, *, end: int, inner: bool = False) -> None:
        self._file, self._end, self.inner = file, end, inner
        self.position = file.tell()

    def read(self, count: int) -> bytes:
        """Exactly that many bytes."""
        self._advance(count)
        block = self._file.read(count)
        if len(block) != count:
            raise cut_short()
        return block

    def skip(self, count: int) -> None:
        """Go on by that many bytes."""
        self._advance(count)
        self._file.seek(self.position)

    def line(self) -> bytes:
        """The bytes up to a line's end, without it, at most as long as a name or a number."""
        line = self._file.readline(min(_NAME_LIMIT, self._end - self.position))
        if not line.endswith(b"\n"):
            raise cut_short()
        self.position += len(line)
        return line[:-1]

    @contextmanager
    def within(self, stored: StoredBytes) -> Iterator[ByteSource]:
        """A second reader, over bytes that this one has passed; this one's position is kept."""
        self._file.seek(stored.start)
        yield ByteSource(self._file, end=stored.start + stored.size, inner=True)
        self._file.seek(self.position)

    def _advance(self, count: int) -> None:
        if not 0 <= count <= self._end - self.position:
            raise cut_short()
        self.position += count


class Budget:
    """What reading one file may cost, in bytes of memory, about."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _BUDGET

    def charge(self, size: int) -> None:
        """Take `size` bytes off it."""
        self.left -= size
        if self.left < 0:
            raise CheckpointError(
                "its pickle creates more objects than any checkpoint needs; expected tensors and a"
                " few plain values: load it where it was made and save its state dict"
            )


def cut_short() -> CheckpointError:
    """The error for a file that ends, or makes no sense, in the middle."""
    return CheckpointError("it is truncated or corrupt; copy or download it again")


def unpickle(source: ByteSource, maker: StubMaker, budget: Budget) -> Any:
    """The value that one pickle leaves; `source` stands behind it then."""
    try:
        return _Machine(source, maker, budget).run()
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(
            f"its pickle is corrupt ({type(error).__name__}); copy or download it again"
        ) from error


class _Machine:
    """The stack, marks and memo of one pickle."""

    def __init__(self, source: ByteSource, maker: StubMaker, budget: Budget) -> None:
        self.source, self.maker, self.budget = source, maker, budget
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        read, budget = self.source.read, self.budget
        while (code := read(1)) != pickle.STOP:
            budget.charge(_STEP)
            if code in _LITERALS:
                value = _LITERALS[code](self.source)
                if isinstance(value, str | bytes):
                    budget.charge(sys.getsizeof(value))
                self.stack.append(value)
            elif code in _OPERATIONS:
                _OPERATIONS[code](self)
            else:
                raise CheckpointError(
                    f"its pickle has the opcode {code!r}, which no checkpoint needs"
                )
        return self.stack.pop()

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []
        self.budget.charge(64)

    def pop_marked(self) -> list[Any]:
        values = self.stack
        self.stack = self.marked.pop()
        return values

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_marked()

    def put(self, index: int) -> None:
        self.budget.charge(60)
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def make_empty(self, kind: type) -> None:
        self.budget.charge(216 if kind is set else 64)
        self.stack.append(kind())

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError(count)
        self.stack[-count:] = [tuple(self.stack[-count:])]
        self.budget.charge(40)

    def make_marked(self, kind: type) -> None:
        values = self.pop_marked()  # which changes the stack
        self.stack.append(kind(values))

    def make_dict(self) -> None:
        pairs = self.pop_marked()
        self.make_empty(dict)
        self.maker.assign(self.stack[-1], pairs)

    def make_frozenset(self) -> None:
        values = self.pop_marked()
        self.make_empty(set)
        self.maker.append(self.stack[-1], values)

    def append(self) -> None:
        value = self.stack.pop()
        self.maker.append(self.stack[-1], [value])

    def append_marked(self) -> None:
        values = self.pop_marked()
        self.maker.append(self.stack[-1], values)

    def assign(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.budget.charge(64)
        self.maker.assign(self.stack[-1], [key, value])

    def assign_marked(self) -> None:
        pairs = self.pop_marked()
        self.budget.charge(32 * len(pairs))
        self.maker.assign(self.stack[-1], pairs)

    def build(self) -> None:
        state = self.stack.pop()
        self.stack.append(self.maker.build(self.stack.pop(), state))

    def call(self) -> None:
        arguments = self.stack.pop()
        self.stack.append(self.maker.call(self.stack.pop(), arguments))

    def call_with_keywords(self) -> None:
        self.stack.pop()  # a stub does not need them
        self.call()

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(name)
        self.budget.charge(200 + len(module) + len(name))
        self.stack.append(self.maker.find(module, name))

    def find_by_lines(self) -> None:
        module, name = self.source.line(), self.source.line()
        self.find(module.decode(), name.decode())

    def find_on_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.find(module, name)

    def instantiate_by_lines(self) -> None:
        self.find_by_lines()
        function, arguments = self.stack.pop(), self.pop_marked()
        self.stack.append(self.maker.call(function, tuple(arguments)))

    def instantiate(self) -> None:
        function, *arguments = self.pop_marked()
        self.stack.append(self.maker.call(function, tuple(arguments)))

    def refer(self) -> None:
        self.stack.append(self.maker.refer(self.stack.pop()))

    def refer_by_line(self) -> None:
        self.stack.append(self.maker.refer(self.source.line().decode()))


def number(form: str) -> Callable[[ByteSource], Any]:
    """A reader of one number in the form of `struct`."""
    packed = struct.Struct(form)
    return lambda source: packed.unpack(source.read(packed.size))[0]


def _kept(form: str, make: Callable[[bytes], Any], limit: int) -> Callable[[ByteSource], Any]:
    """A reader of text or bytes; those beyond the limit stay where they are, as `StoredBytes`."""
    count_of = number(form)

    def read(source: ByteSource) -> Any:
        count = count_of(source)
        if count <= limit:
            return make(source.read(count))
        stored = StoredBytes(source.position, count, is_text=make is _decode)
        source.skip(count)
        return stored

    return read


def _integer(form: str) -> Callable[[ByteSource], int]:
    count_of = number(form)

    def read(source: ByteSource) -> int:
        count = count_of(source)
        if count > _INTEGER_LIMIT:
            raise OverflowError(count)
        return int.from_bytes(source.read(count), "little", signed=True)

    return read


def _integer_line(source: ByteSource) -> int | bool:
    line = source.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _decode_old(raw: bytes) -> str | bytes:
    """Text of Python 2, as torch reads it; what is no UTF-8 stays bytes."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


# The operations that put a plain value onto the stack.
_LITERALS: dict[bytes, Callable[[ByteSource], Any]] = {
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
    pickle.LONG1: _integer("<B"),
    pickle.LONG4: _integer("<i"),
    pickle.FLOAT: lambda source: float(source.line()),
    pickle.STRING: lambda source: _decode_old(source.line().strip()[1:-1]),
    pickle.BINSTRING: _kept("<i", _decode_old, _TEXT_LIMIT),
    pickle.SHORT_BINSTRING: _kept("<B", _decode_old, _TEXT_LIMIT),
    pickle.UNICODE: lambda source: str(source.line(), "raw-unicode-escape"),
    pickle.SHORT_BINUNICODE: _kept("<B", _decode, _TEXT_LIMIT),
    pickle.BINUNICODE: _kept("<I", _decode, _TEXT_LIMIT),
    pickle.BINUNICODE8: _kept("<Q", _decode, _TEXT_LIMIT),
    pickle.SHORT_BINBYTES: _kept("<B", bytes, _BYTES_LIMIT),
    pickle.BINBYTES: _kept("<I", bytes, _BYTES_LIMIT),
    pickle.BINBYTES8: _kept("<Q", bytes, _BYTES_LIMIT),
    pickle.BYTEARRAY8: _kept("<Q", bytes, _BYTES_LIMIT),
}

_byte, _word = number("<B"), number("<I")

_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: lambda m: m.source.skip(1),
    pickle.FRAME: lambda m: m.source.skip(8),
    pickle.MARK: _Machine.mark,
    pickle.POP: _Machine.pop,
    pickle.POP_MARK: lambda m: m.pop_marked().clear(),
    pickle.DUP: lambda m: m.stack.append(m.stack[-1]),
    pickle.EMPTY_LIST: lambda m: m.make_empty(list),
    pickle.EMPTY_DICT: lambda m: m.make_empty(dict),
    pickle.EMPTY_SET: lambda m: m.make_empty(set),
    pickle.TUPLE1: lambda m: m.make_tuple(1),
    pickle.TUPLE2: lambda m: m.make_tuple(2),
    pickle.TUPLE3: lambda m: m.make_tuple(3),
    pickle.TUPLE: lambda m: m.make_marked(tuple),
    pickle.LIST: lambda m: m.make_marked(list),
    pickle.DICT: _Machine.make_dict,
    pickle.FROZENSET: _Machine.make_frozenset,
    pickle.APPEND: _Machine.append,
    pickle.APPENDS: _Machine.append_marked,
    pickle.ADDITEMS: _Machine.append_marked,
    pickle.SETITEM: _Machine.assign,
    pickle.SETITEMS: _Machine.assign_marked,
    pickle.BINPUT: lambda m: m.put(_byte(m.source)),
    pickle.LONG_BINPUT: lambda m: m.put(_word(m.source)),
    pickle.BINGET: lambda m: m.get(_byte(m.source)),
    pickle.LONG_BINGET: lambda m: m.get(_word(m.source)),
    pickle.PUT: lambda m: m.put(int(m.source.line())),
    pickle.GET: lambda m: m.get(int(m.source.line())),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.GLOBAL: _Machine.find_by_lines,
    pickle.STACK_GLOBAL: _Machine.find_on_stack,
    pickle.REDUCE: _Machine.call,
    pickle.NEWOBJ: _Machine.call,
    pickle.NEWOBJ_EX: _Machine.call_with_keywords,
    pickle.BUILD: _Machine.build,
    pickle.INST: _Machine.instantiate_by_lines,
    pickle.OBJ: _Machine.instantiate,
    pickle.BINPERSID: _Machine.refer,
    pickle.PERSID: _Machine.refer_by_line,
}
