"""Fingerprint: a model's weights and code in, its identity and the key of its program out."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from toplabel.bundle.model import Model

EXPORT_SCHEMA = 3
"""Raised when programs are made in another way, so that none of the older ones is found."""

Buffer = bytes | memoryview

_ZOOS = ("torchvision/", "timm/", "transformers/")
_LIBRARIES = frozenset({"torch", "torchvision", "timm", "transformers", "numpy", "toplabel"})
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) | {"_c", "_initializing", "_concrete_type"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_SCALARS = (bool, int, float, str)
_DEEPEST = 8
_MOST = 100_000  # values in a list that is looked into


def weights_sha256(module: nn.Module) -> str:
    """The sha256 over names, dtypes, shapes and bytes of the state dict, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}\n".encode())
        for part in _Parts().of(value):
            digest.update(part)
    return digest.hexdigest()


def model_sha256(model: Model) -> str:
    """What tells a model from all others of its name, 64 hexadecimal digits.

    A zoo's network is known by its name and its weights. Any other may differ in its code, in
    plain attributes, or in constants that stand in no state dict.
    """
    weights = weights_sha256(model.module)
    if model.architecture.startswith(_ZOOS):
        return weights
    digest = hashlib.sha256(weights.encode())
    for part in _settings(model.module):
        digest.update(part)
    return digest.hexdigest()


def settings_sha256(module: nn.Module) -> str:
    """The sha256 over all that decides what a network computes but its weights."""
    digest = hashlib.sha256()
    for part in _settings(module):
        digest.update(part)
    return digest.hexdigest()


def program_key(model: Model) -> str:
    """What a model's program is kept under, 64 hexadecimal digits.

    Two models have one key only where they compute the same: weights, architecture, input shape,
    and the settings of their modules, which stand in no state dict. Labels and the rest of the
    preprocessing do not count.
    """
    preprocess = model.preprocess
    digest = hashlib.sha256()
    digest.update(f"{EXPORT_SCHEMA}\n{model.architecture}\n".encode())
    digest.update(f"{preprocess.num_channels} {preprocess.input_size}\n".encode())
    digest.update(weights_sha256(model.module).encode())
    for part in _settings(model.module):
        digest.update(part)
    return digest.hexdigest()


def _settings(module: nn.Module) -> Iterator[Buffer]:
    """What else decides what the modules compute: classes, attributes, constants and own code."""
    yield from _Parts().of_settings(module)


class _Parts:
    """Values as bytes that differ where values differ, as far as they are plain.

    There is no address among them, so that the same model has the same key in the next process,
    and no path, so that it has it in another folder.
    """

    def __init__(self) -> None:
        self._seen: dict[int, object] = {}  # objects that refer to one another, kept alive

    def of(self, value: Any, depth: int = 0) -> Iterator[Buffer]:
        """The bytes of any value."""
        if isinstance(value, torch.Tensor):
            yield from _tensor_parts(value)
        elif value is None or isinstance(
            value, (bool, int, float, complex, str, bytes, torch.dtype)
        ):
            yield f"{value!r};".encode("utf-8", "surrogatepass")
        elif isinstance(value, (Enum, np.generic, torch.device, slice)):
            yield f"{value!r};".encode()
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape}\n".encode()
            yield value.tobytes() if value.dtype != object else repr(value.tolist()).encode()
        elif depth >= _DEEPEST or id(value) in self._seen:
            yield f"{_title(value)};".encode()
        elif isinstance(value, nn.Module):
            yield weights_sha256(value).encode()
            yield from self.of_settings(value)
        elif isinstance(value, functools.partial):
            yield from self.of((value.func, value.args, value.keywords), depth + 1)
        elif isinstance(value, MethodType):
            yield from self.of((value.__func__, value.__self__), depth + 1)
        elif isinstance(value, FunctionType):
            yield from self._of_function(value, depth)
        elif isinstance(value, type):
            yield f"{_title(value)};".encode()
            yield from self._of_class(value, depth)
        elif isinstance(value, Mapping):
            yield from self.of(list(value.items()), depth + 1)
        elif isinstance(value, (set, frozenset)):
            yield from self._each(sorted(value, key=repr), depth)
        elif isinstance(value, (list, tuple, deque, range)):  # and no loader of a data set
            yield from self._each(value if len(value) <= _MOST else [len(value)], depth)
        else:
            yield from self._of_object(value, depth)

    def of_settings(self, module: nn.Module) -> Iterator[Buffer]:
        """What stands in no state dict of a network, and of those in it."""
        for name, part in module.named_modules():
            if id(part) in self._seen:
                continue
            self._seen[id(part)] = part
            yield f"{name}: {_title(type(part))}\n".encode()
            for attribute, value in sorted(vars(part).items()):
                if attribute not in _OF_EVERY_MODULE and not isinstance(
                    part, torch.jit.ScriptModule
                ):
                    yield f"{attribute}=".encode()
                    yield from self.of(value)
            for buffer in sorted(part._non_persistent_buffers_set):
                yield from self.of(part._buffers[buffer])
            for hooks in _HOOKS:
                yield from self.of(list(getattr(part, hooks, {}).values()))
            if isinstance(part, torch.jit.ScriptModule):
                yield from self._of_script(part)
            elif isinstance(part, fx.GraphModule):
                yield part.code.encode()
            else:  # a class in a notebook has no file, and forward may change between two cells
                yield from self._of_class(type(part), 0)

    def _of_script(self, module: torch.jit.ScriptModule) -> Iterator[Buffer]:
        """TorchScript's program, with the weights that freezing made constants of it."""
        with suppress(RuntimeError, AttributeError):  # a part without forward
            graph: Any = module.inlined_graph
            yield _MANGLED.sub("", graph.str(False)).encode()
            for node in graph.findAllNodes("prim::Constant"):
                with suppress(RuntimeError):  # what only TorchScript knows
                    yield from self.of(node.output().toIValue())

    def _of_object(self, value: Any, depth: int) -> Iterator[Buffer]:
        """Its class, and its attributes; of a library's object only those that are plain."""
        yield f"{_title(value)};".encode()
        self._seen[id(value)] = value
        kind = type(value)
        slots = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        held |= getattr(value, "__dict__", {})
        root = kind.__module__.split(".")[0]
        if kind not in (SimpleNamespace, Namespace) and _is_library(kind.__module__):
            # PyTorch's and Python's count what they have made, such as the handles of hooks.
            scalars = () if root == "torch" or root in sys.stdlib_module_names else _SCALARS
            held = {k: v for k, v in held.items() if isinstance(v, scalars) and k[:1] != "_"}
        yield from self._of_class(kind, depth)
        yield from self.of(dict(sorted(held.items())), depth + 1)

    def _of_class(self, kind: type, depth: int) -> Iterator[Buffer]:
        for base in kind.__mro__:
            if _is_library(base.__module__) or id(base) in self._seen:
                continue
            self._seen[id(base)] = base
            for name, value in vars(base).items():
                if isinstance(value, (staticmethod, classmethod)):
                    value = value.__func__
                elif isinstance(value, property):
                    value = value.fget
                elif isinstance(value, functools.cached_property):
                    value = value.func
                if isinstance(value, FunctionType) or _is_plain_constant(name, value):
                    yield f"{name}=".encode()
                    yield from self.of(value, depth + 1)

    def _of_function(self, function: FunctionType, depth: int) -> Iterator[Buffer]:
        """Its code, defaults, and what it takes from around it."""
        yield f"{function.__qualname__};".encode()
        if _is_library(function.__module__ or ""):
            return
        self._seen[id(function)] = function
        yield from self._of_code(function.__code__)
        yield from self.of((function.__defaults__, function.__kwdefaults__), depth + 1)
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                if not isinstance(cell.cell_contents, type):  # the class itself, for super()
                    yield from self.of(cell.cell_contents, depth + 1)
        for name in sorted(_names_in(function.__code__)):
            if name in function.__globals__:
                yield f"{name}=".encode()
                yield from self._of_global(function.__globals__[name], function, depth)

    def _of_global(self, value: object, function: FunctionType, depth: int) -> Iterator[Buffer]:
        if not isinstance(value, ModuleType):
            yield from self.of(value, depth + 1)
        elif not _is_library(value.__name__):
            for name in sorted(_names_in(function.__code__) & vars(value).keys()):
                yield from self.of(vars(value)[name], depth + 1)

    def _of_code(self, code: CodeType) -> Iterator[Buffer]:
        yield code.co_code
        yield repr(code.co_names).encode()
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from self._of_code(constant)
            else:
                yield from self.of(constant)

    def _each(self, values: Iterable[Any], depth: int) -> Iterator[Buffer]:
        yield b"("
        for value in values:
            yield from self.of(value, depth + 1)
        yield b")"


def _title(value: object) -> str:
    """The name of a class or function, or of an object's class; of a library's with its module."""
    named = value if hasattr(value, "__qualname__") else type(value)
    module = getattr(named, "__module__", None) or ""
    return f"{module}.{named.__qualname__}" if _is_library(module) else str(named.__qualname__)


@functools.cache
def _is_library(module: str) -> bool:
    """Whether a module is Python's, or an installed package: known by its name."""
    root = module.split(".")[0]
    if root in _LIBRARIES or root in sys.stdlib_module_names:
        return root not in ("", "__main__")
    found = sys.modules.get(root)
    places = [getattr(found, "__file__", None) or "", *getattr(found, "__path__", ())]
    return any("site-packages" in place or "dist-packages" in place for place in places)


def _is_plain_constant(name: str, value: object) -> bool:
    """Whether it is a value that a class body sets, and no part of how classes work."""
    is_plain = isinstance(value, (bool, int, float, complex, str, tuple, list, dict, torch.Tensor))
    return is_plain and not name.startswith("__")


def _names_in(code: CodeType) -> set[str]:
    """The names that code, and functions within it, look up around them."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _tensor_parts(tensor: torch.Tensor) -> Iterator[Buffer]:
    yield f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()
    plain = tensor.detach()
    if plain.is_quantized:
        yield f"{plain.qscheme()} {plain.dequantize().sum().item()!r}\n".encode()
        plain = plain.int_repr()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    flat = plain.cpu().contiguous().reshape(-1)
    yield flat.view(torch.uint8).numpy().data
