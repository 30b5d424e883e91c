"""Opcodes: the bytes of a pickle in, calls of a `Maker` out; makes nothing but plain values itself.

An own reader, because Python's can be made to allocate gigabytes by a few bytes, and torch's makes
real tensors. Every operation and every byte that it keeps is charged to a budget.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.literals import LITERALS, ByteSource, number

_BUDGET = 40_000_000  # bytes, about: enough for 12,000 tensors
_STEP = 40  # what every operation costs: at most a million
_DAMAGE = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


class Budget:
    """What reading one file may cost, in bytes of memory, about.

    Raises from `charge`:
        CheckpointError: It is used up.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _BUDGET

    def charge(self, size: int) -> None:
        """Take `size` bytes off it."""
        self.left -= size
        if self.left < 0:
            raise CheckpointError(
                "its pickle makes more objects than any checkpoint needs; expected tensors and a"
                " few plain values: load it where it was made and save its state dict"
            )


class Maker(Protocol):
    """What a pickle's operations on objects mean."""

    def find(self, module: str, name: str) -> Any:
        """What stands for a global."""

    def call(self, function: Any, arguments: Any) -> Any:
        """What stands for the result of a call."""

    def build(self, made: Any, state: Any) -> Any:
        """What stands for `made` after it got its state."""

    def refer(self, reference: Any) -> Any:
        """What stands for something outside the pickle: a storage."""

    def append(self, made: Any, values: Sequence[Any]) -> None:
        """Add to a list or set."""

    def assign(self, made: Any, pairs: Sequence[Any]) -> None:
        """Set keys 0, 2, 4... of `pairs` to the values beside them."""


def run_pickle(source: ByteSource, maker: Maker, budget: Budget) -> Any:
    """The value that one pickle leaves; `source` stands behind it then.

    Raises:
        CheckpointError: It is damaged, cut short, or costs more than the budget.
    """
    machine = _Machine(source, maker, budget)
    try:
        return machine.run()
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(
            f"its pickle is damaged ({type(error).__name__}); copy or download it again"
        ) from error


class _Machine:
    """The stack, marks and memo of one pickle."""

    def __init__(self, source: ByteSource, maker: Maker, budget: Budget) -> None:
        self.source, self.maker, self.budget = source, maker, budget
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        read, budget = self.source.read, self.budget
        while (code := read(1)) != pickle.STOP:
            budget.charge(_STEP)
            if code in LITERALS:
                value = LITERALS[code](self.source)
                if isinstance(value, str | bytes):
                    budget.charge(sys.getsizeof(value))
                self.stack.append(value)
            elif code in _OPERATIONS:
                _OPERATIONS[code](self)
            else:
                raise CheckpointError(
                    f"its pickle holds operation {code!r}, which no checkpoint needs"
                )
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        values = self.stack
        self.stack = self.marked.pop()
        return values

    def make_empty(self, kind: type) -> None:
        self.budget.charge(216 if kind is set else 64)
        self.stack.append(kind())

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError(count)
        self.stack[-count:] = [tuple(self.stack[-count:])]
        self.budget.charge(40)

    def put(self, place: int) -> None:
        self.budget.charge(60)
        self.memo[place] = self.stack[-1]

    def get(self, place: int) -> None:
        self.stack.append(self.memo[place])

    def call(self) -> None:
        arguments = self.stack.pop()
        self.stack.append(self.maker.call(self.stack.pop(), arguments))

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(name)
        self.budget.charge(200 + len(module) + len(name))
        self.stack.append(self.maker.find(module, name))


def _mark(machine: _Machine) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []
    machine.budget.charge(64)


def _pop(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_marked()


def _tuple(machine: _Machine) -> None:
    values = machine.pop_marked()  # which changes the stack
    machine.stack.append(tuple(values))


def _list(machine: _Machine) -> None:
    values = machine.pop_marked()
    machine.stack.append(values)


def _dict(machine: _Machine) -> None:
    pairs = machine.pop_marked()
    machine.make_empty(dict)
    machine.maker.assign(machine.stack[-1], pairs)


def _frozenset(machine: _Machine) -> None:
    values = machine.pop_marked()
    machine.make_empty(set)
    machine.maker.append(machine.stack[-1], values)


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.maker.append(machine.stack[-1], [value])


def _appends(machine: _Machine) -> None:
    values = machine.pop_marked()
    machine.maker.append(machine.stack[-1], values)


def _assign(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.budget.charge(64)
    machine.maker.assign(machine.stack[-1], [key, value])


def _assigns(machine: _Machine) -> None:
    pairs = machine.pop_marked()
    machine.budget.charge(32 * len(pairs))
    machine.maker.assign(machine.stack[-1], pairs)


def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    machine.stack.append(machine.maker.build(machine.stack.pop(), state))


def _call_with_keywords(machine: _Machine) -> None:
    machine.stack.pop()  # what stands for the result does not need them
    machine.call()


def _global(machine: _Machine) -> None:
    module, name = machine.source.line(), machine.source.line()
    machine.find(module.decode(), name.decode())


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.find(module, name)


def _inst(machine: _Machine) -> None:
    _global(machine)
    function, arguments = machine.stack.pop(), machine.pop_marked()
    machine.stack.append(machine.maker.call(function, tuple(arguments)))


def _obj(machine: _Machine) -> None:
    function, *arguments = machine.pop_marked()
    machine.stack.append(machine.maker.call(function, tuple(arguments)))


def _refer(machine: _Machine) -> None:
    machine.stack.append(machine.maker.refer(machine.stack.pop()))


def _refer_by_line(machine: _Machine) -> None:
    machine.stack.append(machine.maker.refer(machine.source.line().decode()))


_byte, _word = number("<B"), number("<I")

_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: lambda m: m.source.skip(1),
    pickle.FRAME: lambda m: m.source.skip(8),
    pickle.MARK: _mark,
    pickle.POP: _pop,
    pickle.POP_MARK: lambda m: m.pop_marked().clear(),
    pickle.DUP: lambda m: m.stack.append(m.stack[-1]),
    pickle.EMPTY_LIST: lambda m: m.make_empty(list),
    pickle.EMPTY_DICT: lambda m: m.make_empty(dict),
    pickle.EMPTY_SET: lambda m: m.make_empty(set),
    pickle.TUPLE1: lambda m: m.make_tuple(1),
    pickle.TUPLE2: lambda m: m.make_tuple(2),
    pickle.TUPLE3: lambda m: m.make_tuple(3),
    pickle.TUPLE: _tuple,
    pickle.LIST: _list,
    pickle.DICT: _dict,
    pickle.FROZENSET: _frozenset,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.ADDITEMS: _appends,
    pickle.SETITEM: _assign,
    pickle.SETITEMS: _assigns,
    pickle.BINPUT: lambda m: m.put(_byte(m.source)),
    pickle.LONG_BINPUT: lambda m: m.put(_word(m.source)),
    pickle.BINGET: lambda m: m.get(_byte(m.source)),
    pickle.LONG_BINGET: lambda m: m.get(_word(m.source)),
    pickle.PUT: lambda m: m.put(int(m.source.line())),
    pickle.GET: lambda m: m.get(int(m.source.line())),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: lambda m: m.call(),
    pickle.NEWOBJ: lambda m: m.call(),
    pickle.NEWOBJ_EX: _call_with_keywords,
    pickle.BUILD: _build,
    pickle.INST: _inst,
    pickle.OBJ: _obj,
    pickle.BINPERSID: _refer,
    pickle.PERSID: _refer_by_line,
}
