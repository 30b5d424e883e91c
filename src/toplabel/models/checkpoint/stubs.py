"""A pickle in, what it would create out: plain values, and stubs for objects; nothing real.

Whatever is damaged, too costly or holds tensors that are not plain is a `CheckpointError`.
"""

from __future__ import annotations

import _compat_pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from toplabel._internal.text import printable
from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.allowed_globals import (
    ALLOWED,
    CONSTANTS,
    FROM_TYPE,
    PARAMETER,
    PLAIN_TENSORS,
    UNSUITABLE,
)
from toplabel.models.checkpoint.info import (
    Storage,
    Storages,
    StoredBytes,
    TensorInfo,
    UnknownObject,
    tensor_in,
)
from toplabel.models.checkpoint.numpy_stubs import (
    ARRAY,
    FROM_BUFFER,
    RECONSTRUCT,
    SCALAR,
    read_array,
    read_scalar,
)
from toplabel.models.checkpoint.unpickler import (
    Budget,
    ByteSource,
    cut_short,
    number,
    unpickle,
)

_NAME_LENGTH = 200
_NAMED = 3
_FROM_NUMPY = "torch._utils._rebuild_device_tensor_from_numpy"
_RECONSTRUCTORS = ("copyreg._reconstructor", "copyreg.__newobj__")
_GETATTR = "builtins.getattr"
_FROM_BYTES = "torch.storage._load_from_bytes"  # of a storage that pickle itself wrote

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DEEPEST = 100
_LARGEST = 2_000_000  # values, counted as often as they are reached
_MOST_COPIED = 400_000  # values of objects' states: 40 MB


def read_pickle(source: ByteSource, *, budget: Budget | None = None) -> StubMaker:
    """What the pickle at `source` would create; `source` stands behind it then."""
    maker = StubMaker(budget or Budget(), source)
    try:
        maker.made = unpickle(source, maker, maker.budget)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{maker.naming}") from error
    maker.content = _Plain(maker.storages).convert(maker.made)[0]
    made = maker.made
    maker.whole_module = made.kind if isinstance(made, Stub) and made.is_module else None
    return maker


def read_legacy(source: ByteSource, budget: Budget) -> StubMaker:
    """What a file of torch before 1.6 would create, once all its numbers are there.

    Such a file stands in a pickle as well, once for every storage, where pickle itself wrote one.
    """
    magic = read_pickle(source, budget=budget).content
    if magic != _LEGACY_MAGIC or read_pickle(source, budget=budget).content != _LEGACY_PROTOCOL:
        raise CheckpointError("torch never wrote files of its version; copy or download it again")
    machine = read_pickle(source, budget=budget).content
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise big_endian()
    maker = read_pickle(source, budget=budget)
    keys, storages = read_pickle(source, budget=budget).content, maker.storages.whole
    plain = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not plain or len(keys) != len(storages) or set(keys) != storages.keys():
        raise CheckpointError(
            "its list of storages does not match its tensors; copy or download it again"
        )
    read_count = number("<q")
    for key in keys:
        if read_count(source) != storages[key].num_elements:
            raise cut_short()
        maker.stored[key] = StoredBytes(source.position, storages[key].nbytes)
        source.skip(storages[key].nbytes)
    return maker


def big_endian() -> CheckpointError:
    """The error for a file whose numbers have their bytes in the other order."""
    return CheckpointError(
        "it was saved on a big-endian machine; save it again on a little-endian one"
    )


def naming_globals(source: ByteSource) -> str:
    """The globals that a pickle names before it ends or breaks, as the end of an error."""
    maker = StubMaker(Budget(), source)
    with suppress(CheckpointError):
        unpickle(source, maker, maker.budget)
    return maker.naming


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names; never imported."""

    name: str


@dataclass(slots=True, eq=False)
class Stub:
    """Stands for an object of an unknown class."""

    kind: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)

    @property
    def is_module(self) -> bool:
        """Whether it has what only networks have; torch.fx gives it as an argument."""
        states = (self.state, *self.arguments)
        return any(isinstance(s, dict) and {"_parameters", "_modules"} <= s.keys() for s in states)

    @property
    def given(self) -> Any:
        """What it was given: its attributes and entries, its items or its arguments."""
        if isinstance(self.state, dict) or (self.state is None and self.entries):
            return {**(self.state or {}), **self.entries}
        if self.state is not None:
            return self.state
        return self.items or self.arguments or None


class StubMaker:
    """Makes what one pickle asks for, as far as it is plain; stubs for the rest.

    Args:
        budget: What is made is charged to it.
        source: Where the pickle stands.
        made: What the pickle leaves.
        content: The same as plain values, `TensorInfo` and `UnknownObject`, nested.
        whole_module: The class, where it is a whole network and not its state dict.
        storages: Those that its tensors need.
        stored: Where these are, by key, as far as it is known.
        blocked: The globals that torch would refuse, in order of appearance.
    """

    def __init__(self, budget: Budget, source: ByteSource) -> None:
        self.budget, self.source = budget, source
        self.made: Any = None
        self.content: Any = None
        self.whole_module: str | None = None
        self.storages = Storages()
        self.stored: dict[str, StoredBytes | bytes] = self.storages.inside
        self.blocked: dict[str, None] = {}

    @property
    def naming(self) -> str:
        """The end of an error about a pickle that names globals no checkpoint needs."""
        return f"; it names {', '.join(list(self.blocked)[:_NAMED])}" if self.blocked else ""

    def find(self, module: str, name: str) -> Global:
        """A stub for the global."""
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        full = printable(f"{module}.{name}"[:_NAME_LENGTH])[:_NAME_LENGTH]
        if full not in ALLOWED:
            self.blocked[full] = None
        return Global(full)

    def call(self, function: Any, arguments: Any) -> Any:
        """What the call would give: a plain value, a `TensorInfo`, or a stub."""
        if not isinstance(arguments, tuple):
            raise TypeError(arguments)
        self.budget.charge(250)
        name = _name_of(function)
        if not isinstance(function, Global):
            return Stub(name, arguments)
        if name in UNSUITABLE:
            kind, remedy = UNSUITABLE[name]
            raise CheckpointError(f"it contains a {kind} tensor; expected plain ones: {remedy}")
        if name == FROM_TYPE:
            return self._tensor_of_type(*arguments)
        if name in _CALLS:
            return self._charged(_CALLS[name](*arguments))
        if name in ALLOWED:
            raise CheckpointError(f"its pickle calls {name}, which no saved checkpoint does")
        if name in _RECONSTRUCTORS and arguments and isinstance(arguments[0], Global):
            return Stub(arguments[0].name)
        if name in SCALAR or name in FROM_BUFFER or name in RECONSTRUCT:
            return self._of_numpy(name, arguments)
        if name == _FROM_BYTES:
            return self._storage_inside(*arguments)
        if name == _GETATTR:
            return self._attribute(*arguments)
        return {} if name == "collections.defaultdict" else Stub(name, arguments)

    def _of_numpy(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """A number, or the stub of an array that is or will be given its state."""
        if name in SCALAR and len(arguments) == 2:
            value = read_scalar(*arguments)
            return Stub(name, arguments) if value is None else value
        if name in FROM_BUFFER:
            data, dtype, shape, order = arguments
            return Stub(ARRAY, state=(1, shape, dtype, order == "F", data))
        return Stub(ARRAY)

    def _storage_inside(self, data: Any) -> Storage:
        """The storage in bytes that are a legacy file themselves."""
        if not isinstance(data, StoredBytes) or data.is_text or self.source.inner:
            raise CheckpointError(
                "its pickle has torch's numbers in a form that cannot be read; save it with"
                " torch.save"
            )
        with self.source.within(data) as source:
            inner = read_legacy(source, self.budget)
        storage = inner.made
        if not isinstance(storage, Storage) or storage.key not in inner.stored:
            raise CheckpointError("its pickle contains something else in place of a storage")
        key = self.storages.add(inner.stored[storage.key])
        return replace(storage, key=key)

    def _attribute(self, owner: Any, name: Any) -> Any:
        """A network for its own method, as in `torch.save(net.state_dict)` without the brackets.

        A class within another for that; else a stub.
        """
        if isinstance(owner, Stub) and owner.is_module:
            return owner
        if isinstance(owner, Global) and isinstance(name, str):
            return self.find(owner.name, name)
        return Stub(_GETATTR, (owner, name))

    def _tensor_of_type(self, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
        made = self.call(function, arguments)
        known = not isinstance(kind, Global) or kind.name in PLAIN_TENSORS
        return made if known or not isinstance(made, TensorInfo) else Stub(kind.name)

    def _charged(self, made: Any) -> Any:
        """`made`, which may be a copy of something large."""
        if isinstance(made, dict | set | tuple):
            self.budget.charge(100 * len(made))
        elif isinstance(made, bytes):
            self.budget.charge(sys.getsizeof(made))
        return made

    def build(self, made: Any, state: Any) -> Any:
        """`made` with its state."""
        if isinstance(made, Stub):
            made.state = _one_state(state)
            if made.state is not state:  # a copy of what many objects may share
                self.budget.charge(100 * len(made.state))
        elif isinstance(made, TensorInfo):
            # of a Parameter of old: requires_grad, volatile and hooks
            plain = isinstance(state, tuple) and len(state) == 3
            if not plain or any(isinstance(part, Storage | TensorInfo) for part in state):
                raise CheckpointError("its pickle changes a tensor after creating it")
        elif not isinstance(made, dict | UnknownObject):  # an OrderedDict's attributes are left out
            raise CheckpointError(
                f"its pickle sets the state of a {type(made).__name__}, which no checkpoint needs"
            )
        return made

    def refer(self, reference: Any) -> Any:
        """The storage, or the class with its source code beside it, that is referred to."""
        if not isinstance(reference, tuple) or len(reference) < 2:
            raise TypeError(reference)
        self.budget.charge(250)
        kind, class_, *rest = reference
        if kind in ("module", b"module"):
            return class_
        if kind not in ("storage", b"storage") or not isinstance(class_, Global):
            raise CheckpointError("its pickle refers to something other than a storage")
        return self.storages.refer(class_.name, rest)

    def append(self, made: Any, values: Sequence[Any]) -> None:
        """Add `values` to a list, a set, or a stub for one."""
        if isinstance(made, set):
            self.budget.charge(100 * len(values))
            made.update(_as_key(value, len(made) + i) for i, value in enumerate(values))
        elif isinstance(made, Stub):
            made.items.extend(values)
        elif isinstance(made, list):
            made.extend(values)
        else:
            raise TypeError(made)

    def assign(self, made: Any, pairs: Sequence[Any]) -> None:
        """Set keys of a dict, or of a stub for one."""
        entries = made.entries if isinstance(made, Stub) else made
        if not isinstance(entries, dict) or len(pairs) % 2:
            raise TypeError(made)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            entries[_as_key(key, len(entries))] = value


def _name_of(function: Any) -> str:
    if isinstance(function, Global):
        return function.name
    return function.kind if isinstance(function, Stub) else type(function).__name__


def _one_state(state: Any) -> Any:
    """A state that came as attributes and slots, as one dict."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        attributes = state[0] if isinstance(state[0], dict) else {}
        return {**attributes, **state[1]}
    return state


def _as_key(key: Any, number: int) -> Any:
    """`key`, or text for a class or an object.

    Only keys whose hash is quick to make and hard to hit are taken: that of deeply nested tuples
    ends the process, and tuples of chosen numbers all collide.
    """
    if isinstance(key, Global | Stub):
        return f"<{_name_of(key)} {number}>"
    if isinstance(key, TensorInfo):
        return f"<tensor {number}>"
    small = isinstance(key, tuple) and len(key) <= 8
    if small and all(_is_plain_key(part, bits=59) for part in key):
        return key
    if _is_plain_key(key, bits=64) or isinstance(key, float):
        return key
    raise CheckpointError(
        f"its pickle uses a {type(key).__name__} as a key, or a number that is too large"
    )


def _is_plain_key(key: Any, *, bits: int) -> bool:
    if isinstance(key, int):
        return key.bit_length() <= bits
    return key is None or isinstance(key, str | bytes)


def _ordered(*arguments: Any) -> dict[Any, Any]:
    """An OrderedDict or a Counter."""
    (source,) = arguments or ({},)
    pairs = source.items() if isinstance(source, dict) else source
    return {_as_key(key, number): value for number, (key, value) in enumerate(pairs)}


def _bytes(*arguments: Any) -> Any:
    """`bytearray(...)` or `_codecs.encode(text, "latin1")`."""
    text, *encoding = arguments or (b"",)
    if isinstance(text, StoredBytes | bytes):
        return text
    if not isinstance(text, str) or encoding not in (["latin1"], ["latin-1"]):
        raise CheckpointError("its pickle creates bytes in a way that no saved checkpoint does")
    return text.encode("latin-1")


def _name_and_number(*arguments: Any) -> str:
    """A device, "cuda" and 0 or "cuda:0", or a layout."""
    if len(arguments) > 2 or not all(
        isinstance(one, int) or (isinstance(one, str) and len(one) <= 40) for one in arguments
    ):
        raise TypeError("no device and no layout")
    return ":".join(map(str, arguments))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorInfo:
    """`_rebuild_tensor` and, with requires_grad, hooks and metadata, `_rebuild_tensor_v2`."""
    _check_no_metadata(rest[2:])
    return tensor_in(storage, offset, shape, strides)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, *rest: Any
) -> TensorInfo:
    dtype, *metadata = rest
    _check_no_metadata(metadata)
    if not isinstance(dtype, Global) or dtype.name not in CONSTANTS:
        raise TypeError(dtype)
    return tensor_in(storage, offset, shape, strides, dtype=dtype.name.removeprefix("torch."))


def _check_no_metadata(metadata: Sequence[Any]) -> None:
    if any(metadata):
        raise CheckpointError(
            "it contains a lazily conjugated or negated tensor; expected plain ones: save it with"
            " .resolve_conj().resolve_neg()"
        )


def _parameter(tensor: Any, *rest: Any) -> Any:
    if not isinstance(tensor, TensorInfo | Stub):
        raise TypeError(tensor)
    return tensor


def _from_cpu(tensor: Any, dtype: Any, *rest: Any) -> TensorInfo:
    if not isinstance(tensor, TensorInfo) or not isinstance(dtype, Global):
        raise TypeError(tensor)
    if dtype.name != f"torch.{tensor.dtype}":
        raise CheckpointError(
            f"it contains a tensor that was moved from {tensor.dtype} to {dtype.name[:40]}; save it"
            " with .cpu()"
        )
    return tensor


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "builtins.set": lambda values=(): {_as_key(v, number) for number, v in enumerate(values)},
    "builtins.bytearray": _bytes,
    "builtins.bytes": lambda *given: b"" if not given else Stub("builtins.bytes", given),
    "builtins.complex": lambda real, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": _bytes,
    "torch.Size": lambda dimensions: tuple(dimensions),
    "torch.device": _name_and_number,
    "torch.serialization._get_layout": _name_and_number,
    PARAMETER: _parameter,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_cpu,
    _FROM_NUMPY: lambda array, *rest: array,  # of an accelerator's tensor
}


class _Plain:
    """Converts what a pickle left into plain values, `TensorInfo` and `UnknownObject` alone.

    Whoever walks the result comes to an end: it has no cycles, and is as deep and large as it
    looks; within an `UnknownObject`, what leads back or too deep is cut off. A value that is
    reached twice is converted once and shared.
    """

    def __init__(self, storages: Storages) -> None:
        self.storages = storages
        self.done: dict[int, tuple[Any, int]] = {}
        self.kept: list[Any] = []  # no id in `done` may be given to another object
        self.path: dict[int, int] = {}  # the containers that we are in, and how deep they are
        self.deepest_stub = -1
        self.copied = 0

    def convert(self, value: Any) -> tuple[Any, int]:
        """The plain value and how many values a walk over it meets."""
        if isinstance(value, Global):
            return (value.name if value.name in CONSTANTS else UnknownObject(value.name)), 1
        if isinstance(value, Storage):
            return UnknownObject("torch.storage.TypedStorage"), 1
        if isinstance(value, StoredBytes):
            return UnknownObject("str" if value.is_text else "bytes"), 1
        if not isinstance(value, dict | list | tuple | Stub):
            return value, 1
        if id(value) in self.done:
            return self.done[id(value)]
        if id(value) in self.path or len(self.path) > _DEEPEST:
            return self._cut(value), 1
        outer = self.deepest_stub
        self.path[id(value)] = len(self.path)
        if isinstance(value, Stub):
            self.deepest_stub = self.path[id(value)]
        plain, size = self._convert_parts(value)
        del self.path[id(value)]
        self.deepest_stub = outer
        if size > _LARGEST:
            raise CheckpointError("its objects refer to one another too often to be followed")
        self.kept.append(value)
        self.done[id(value)] = plain, size
        return plain, size

    def _convert_parts(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, Stub) and value.kind == ARRAY:
            array = read_array(value.state, self.storages)
            if array is not None:
                return array, 1
        if isinstance(value, Stub):
            if isinstance(value.state, dict):
                self.copied += len(value.state)  # each object's own, though many may share it
                if self.copied > _MOST_COPIED:
                    raise CheckpointError("its objects hold more values than any checkpoint needs")
            state, size = self.convert(value.given)
            return UnknownObject(value.kind, state), size + 1
        if isinstance(value, dict):
            pairs = [(key, self.convert(part)) for key, part in value.items()]
            return {key: plain for key, (plain, _) in pairs}, 1 + sum(n for _, (_, n) in pairs)
        parts = [self.convert(part) for part in value]
        plain = [part for part, _ in parts]
        return (tuple(plain) if isinstance(value, tuple) else plain), 1 + sum(n for _, n in parts)

    def _cut(self, value: Any) -> UnknownObject:
        if self.deepest_stub < self.path.get(id(value), 0):
            raise CheckpointError(
                f"it contains itself, or is nested more than {_DEEPEST} deep;"
                " expected a dict of tensors and plain values"
            )
        return UnknownObject(_name_of(value))
