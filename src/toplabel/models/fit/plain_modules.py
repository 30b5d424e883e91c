"""A whole pickled network that is made of torch's own layers alone in; that network out.

No code of the file's is imported or run: the layers are torch's, and get the numbers, texts and
tensors that the pickle gives them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from toplabel.models.checkpoint.info import UnknownObject

_MODULES = frozenset(
    f"torch.nn.modules.{name}"
    for name in (
        *("activation", "batchnorm", "conv", "dropout", "flatten", "instancenorm", "linear"),
        *("normalization", "padding", "pooling", "upsampling"),
    )
)
_CONTAINER = "torch.nn.modules.container.Sequential"


def plain_module(content: Any, where: str) -> nn.Module | None:
    """The network that stands under the dotted keys `where`; None where it has other classes."""
    for key in where.split(".") if where else ():
        if not isinstance(content, Mapping):
            return None
        content = content.get(key)
    return _rebuild(content)


def _rebuild(value: Any) -> nn.Module | None:
    kind = _layer_class(value)
    if kind is None or not isinstance(value.state, Mapping):
        return None
    state = dict(value.state)
    parts = {name: state.pop(name, {}) for name in ("_modules", "_parameters", "_buffers")}
    if not all(isinstance(part, Mapping) for part in parts.values()):
        return None
    modules = {name: _rebuild(part) for name, part in parts["_modules"].items()}
    tensors = [*parts["_parameters"].values(), *parts["_buffers"].values()]
    if None in modules.values() or not all(t is None or torch.is_tensor(t) for t in tensors):
        return None
    if not all(isinstance(key, str) and _is_plain(part) for key, part in state.items()):
        return None
    parameters = {
        name: None if tensor is None else nn.Parameter(tensor, requires_grad=False)
        for name, tensor in parts["_parameters"].items()
    }
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    whole = {"_modules": modules, "_parameters": parameters, "_buffers": dict(parts["_buffers"])}
    module.__setstate__({**state, **whole})  # type: ignore[no-untyped-call]
    return module


def _layer_class(value: Any) -> type[nn.Module] | None:
    """One of torch's layers, or its container; None for anything else."""
    if not isinstance(value, UnknownObject):
        return None
    module, _, name = value.kind.rpartition(".")
    if (module not in _MODULES and value.kind != _CONTAINER) or name.startswith(("_", "Lazy")):
        return None
    found = getattr(importlib.import_module(module), name, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _is_plain(value: Any) -> bool:
    """Whether it is a number, text or nothing, or few of these; hooks are none."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return not value
    return value is None or isinstance(value, bool | int | float | str)
