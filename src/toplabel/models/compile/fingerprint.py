"""Fingerprint: a model's weights and code in, the key of its program out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn

from toplabel.bundle.model import Model

EXPORT_SCHEMA = 2
"""Raised when programs are made in another way, so that none of the older ones is found."""

Buffer = bytes | memoryview

_LIBRARIES = ("torch", "torchvision", "timm", "transformers")
_DEEPEST = 8


def weights_sha256(module: nn.Module) -> str:
    """The sha256 over names, dtypes, shapes and bytes of the state dict, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}\n".encode())
        for part in _parts(value):
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
    """What else decides what the modules compute: their classes, attributes and own code."""
    for name, part in module.named_modules():
        kind = type(part)
        yield f"{name}: {kind.__module__}.{kind.__qualname__}\n".encode()
        for attribute, value in sorted(vars(part).items()):
            if not attribute.startswith("_") and attribute != "training":
                yield f"{attribute}=".encode()
                yield from _parts(value)
        for buffer in sorted(part._non_persistent_buffers_set):
            yield from _parts(part._buffers[buffer])
        if isinstance(part, torch.jit.ScriptModule):
            yield str(part.inlined_graph).encode()
        else:
            yield from _class_code(kind)


def _class_code(kind: type) -> Iterator[Buffer]:
    # A class typed into a notebook has no file to hash, and forward may change between two cells.
    for base in kind.__mro__:
        if base is not object and base.__module__.split(".")[0] not in _LIBRARIES:
            for value in vars(base).values():
                if isinstance(value, FunctionType):
                    yield from _parts(value)


def _parts(value: Any, depth: int = 0) -> Iterator[Buffer]:
    """A value as bytes that differ where values differ, as far as they are plain."""
    if isinstance(value, torch.Tensor):
        yield from _tensor_parts(value)
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype)):
        yield f"{value!r};".encode("utf-8", "surrogatepass")
    elif isinstance(value, Enum):
        yield f"{value!r};".encode()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}\n".encode()
        yield value.tobytes()
    elif isinstance(value, functools.partial) and depth < _DEEPEST:
        yield from _parts((value.func, value.args, value.keywords), depth + 1)
    elif isinstance(value, FunctionType):
        yield value.__qualname__.encode()
        yield from _code_parts(value.__code__)
        yield from _parts((value.__defaults__, value.__kwdefaults__), depth + 1)
    elif isinstance(value, Mapping) and depth < _DEEPEST:
        yield from _parts(list(value.items()), depth + 1)
    elif isinstance(value, (set, frozenset)) and depth < _DEEPEST:
        yield from _each(sorted(value, key=repr), depth)
    elif isinstance(value, Iterable) and hasattr(value, "__len__") and depth < _DEEPEST:
        yield from _each(value, depth)
    else:  # no address, so that the same model has the same key in the next process
        yield f"{getattr(value, '__qualname__', type(value).__qualname__)};".encode()


def _each(values: Iterable[Any], depth: int) -> Iterator[Buffer]:
    yield b"("
    for value in values:
        yield from _parts(value, depth + 1)
    yield b")"


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


def _code_parts(code: CodeType) -> Iterator[Buffer]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        else:
            yield from _parts(constant)
