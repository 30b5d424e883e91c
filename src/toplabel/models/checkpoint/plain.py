"""Plain content: what a pickle left in, nested plain values of bounded size and depth out."""

from __future__ import annotations

from typing import Any

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.known import CONSTANTS
from toplabel.models.checkpoint.storages import Storage
from toplabel.models.checkpoint.stubs import Global, Thing
from toplabel.models.checkpoint.tensors import Opaque

_DEEPEST = 100
_LARGEST = 2_000_000  # values, counted as often as they are reached
_MOST_COPIED = 400_000  # values of objects' states: 40 MB


def to_plain(value: Any) -> Any:
    """`value` of dicts, lists, tuples, sets, plain values, `TensorInfo` and `Opaque` alone.

    Whoever walks it comes to an end: it has no cycles, and is as deep and large as it looks.
    Within an `Opaque`, what leads back or too deep is cut off.

    Raises:
        CheckpointError: It contains itself, or is too deep or too large.
    """
    return _Plain().convert(value)[0]


class _Plain:
    """One walk; a value that is reached twice is converted once and shared."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[Any, int]] = {}
        self.kept: list[Any] = []  # no id in `done` may be given to another object
        self.path: dict[int, int] = {}  # the containers that we are in, and how deep they are
        self.deepest_thing = -1
        self.copied = 0

    def convert(self, value: Any) -> tuple[Any, int]:
        """The plain value and how many values a walk over it meets."""
        if isinstance(value, Global):
            return (value.name if value.name in CONSTANTS else Opaque(value.name)), 1
        if isinstance(value, Storage):
            return Opaque("torch.storage.TypedStorage"), 1
        if not isinstance(value, dict | list | tuple | Thing):
            return value, 1
        if id(value) in self.done:
            return self.done[id(value)]
        if id(value) in self.path or len(self.path) > _DEEPEST:
            return self._cut(value), 1
        outer = self.deepest_thing
        self.path[id(value)] = len(self.path)
        if isinstance(value, Thing):
            self.deepest_thing = self.path[id(value)]
        plain, size = self._convert_parts(value)
        del self.path[id(value)]
        self.deepest_thing = outer
        if size > _LARGEST:
            raise CheckpointError("its parts refer to one another so often that it never ends")
        self.kept.append(value)
        self.done[id(value)] = plain, size
        return plain, size

    def _convert_parts(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, Thing) and isinstance(value.state, dict):
            self.copied += len(value.state)  # each object's own, though many may share it
            if self.copied > _MOST_COPIED:
                raise CheckpointError("its objects hold more values than any checkpoint needs")
        if isinstance(value, Thing):
            state, size = self.convert(_state_of(value))
            return Opaque(value.kind, state), size + 1
        if isinstance(value, dict):
            pairs = [(key, self.convert(part)) for key, part in value.items()]
            return {key: plain for key, (plain, _) in pairs}, 1 + sum(n for _, (_, n) in pairs)
        parts = [self.convert(part) for part in value]
        size = 1 + sum(n for _, n in parts)
        plain = [part for part, _ in parts]
        return (tuple(plain) if isinstance(value, tuple) else plain), size

    def _cut(self, value: Any) -> Opaque:
        within = self.deepest_thing >= self.path.get(id(value), 0)
        if not within:
            raise CheckpointError(
                f"it contains itself, or is nested more than {_DEEPEST} deep;"
                " expected a dict of tensors and plain values"
            )
        return Opaque(value.kind if isinstance(value, Thing) else type(value).__name__)


def _state_of(thing: Thing) -> Any:
    """What a stand-in was given: its attributes and entries, its items or its arguments."""
    if isinstance(thing.state, dict) or (thing.state is None and thing.entries):
        return {**(thing.state or {}), **thing.entries}
    if thing.state is not None:
        return thing.state
    return thing.items or thing.arguments or None
