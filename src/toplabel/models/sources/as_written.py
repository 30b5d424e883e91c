"""A network as people write it in, the same ready to be asked out.

Its own `eval()` is called as its user would call it, a `train` that is a training loop or a flag is
not; a forward that changes its input gets a copy, one that needs gradients gets them, one that was
exported for a fixed number of images gets that many.
"""

from __future__ import annotations

import copy
import dis
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from toplabel._internal.notices import warn
from toplabel._internal.text import first_line
from toplabel.models.compile.fingerprint import settings_sha256

_MODE_WORDS = frozenset({"eval", "train", "training"})


_BATCHES = (2, 3, 4, 8, 16, 32, 64)  # that programs are traced with, where one image is none


class AsWritten(nn.Module):
    """A network behind what its forward needs.

    Args:
        network: In eval mode.
        gradients: Whether they are on while it runs; None: it does not ask for any.
        images: How many it takes at once; None: any number.
    """

    def __init__(self, network: nn.Module, *, gradients: bool | None, images: int | None) -> None:
        super().__init__()
        self.network = network
        self.gradients = gradients
        self.images = images
        self.training = False

    def train(self, mode: bool = True) -> AsWritten:
        """Leave the network as it is: its own code has set its mode."""
        self.training = mode
        return self

    def forward(self, batch: torch.Tensor) -> Any:
        """What the network gives for a float32 (N, C, H, W) batch, which stays as it is."""
        if self.images is None:
            return self._ask(batch)
        parts = [self._ask(_filled(part, self.images)) for part in torch.split(batch, self.images)]
        leaves, form = zip(*map(pytree.tree_flatten, parts), strict=True)
        joined = [torch.cat(list(leaf))[: len(batch)] for leaf in zip(*leaves, strict=True)]
        return pytree.tree_unflatten(joined, form[0])

    def _ask(self, batch: torch.Tensor) -> Any:
        dtype = torch.get_default_dtype()
        try:
            if self.gradients is None:
                return self.network(batch.clone())
            with torch.inference_mode(False), torch.set_grad_enabled(self.gradients):
                outputs = self.network(batch.clone())
                return pytree.tree_map_only(torch.Tensor, torch.detach, outputs)
        finally:
            if torch.get_default_dtype() != dtype:  # the process's
                torch.set_default_dtype(dtype)


def as_written(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """The network itself; behind an `AsWritten` where its forward needs that.

    Args:
        network: In eval mode.
        example: An image, float32 (1, C, H, W).
    """
    exported = _exported_batch(network)
    sizes: tuple[int, ...] = (exported or 1,)
    if exported is None and isinstance(network, torch.jit.ScriptModule | torch.fx.GraphModule):
        sizes += _BATCHES
    for size in sizes:
        found = _found_to_work(network, _filled(example, size))
        if found is not None:
            gradients, changes = found
            images = size if exported or size > 1 else None
            if gradients is None and not changes and images in (None, 1):
                return network
            return AsWritten(network, gradients=gradients, images=images)
    return network


def _found_to_work(network: nn.Module, example: torch.Tensor) -> tuple[bool | None, bool] | None:
    """The `gradients` that a network runs with, and whether it changes what is not its own.

    None where it fails anyhow: what it fails with is told when it is asked.
    """
    dtype = torch.get_default_dtype()
    for gradients in (None, False, True):
        batch = example.clone()
        try:
            with torch.inference_mode() if gradients is None else torch.set_grad_enabled(gradients):
                network(batch)
            changes = not torch.equal(batch.detach(), example)
            return gradients, changes or torch.get_default_dtype() != dtype
        except Exception:  # other people's code
            continue
        finally:
            torch.set_default_dtype(dtype)
    return None


def set_eval_mode(network: nn.Module) -> None:
    """Put a network into eval mode as its user would, by its own `eval()` where it has one.

    A part's own `eval()` is called by nobody but the code of the network around it, as in PyTorch;
    where it would change the part, that is warned of.
    """
    own = getattr(network, "eval", None)
    missing = _required(own) if callable(own) else []
    if missing and _stores_attributes(own):
        warn(
            f"{type(network).__name__}.eval() needs {', '.join(missing)}, so that only PyTorch's"
            " eval() was called: call your own before, if its answers depend on it, or let it need"
            " no arguments"
        )
    before = [*network.modules()]
    plain = not callable(own) or _is_loop(own) or bool(missing)
    with _loops_hidden(network):
        try:
            made = nn.Module.eval(network) if plain or own is None else own()
            if isinstance(made, nn.Module) and made is not network:
                warn(
                    f"{type(network).__name__}.eval() returns another network, which is not used:"
                    " pass what it returns, if that is what you ask"
                )
        except Exception as error:  # a property called train, or a program that has no modes
            if _is_own(own) and not plain:
                warn(
                    f"{type(network).__name__}.eval() fails ({first_line(error)}): only"
                    " training=False was set in all its parts"
                )
            for part in network.modules():
                part.__dict__["training"] = False
    known = {id(part) for part in before}
    for part in network.modules():
        if id(part) not in known:  # put there by its eval()
            part.training = False
    _warn_of_inner(network)


def _warn_of_inner(network: nn.Module) -> None:
    """Warn of parts whose own `eval()` was not called, and would have changed them."""
    for name, part in network.named_modules():
        own = getattr(part, "eval", None)
        if not name or not _is_own(own) or _is_loop(own) or not _stores_attributes(own):
            continue
        copied = copy.deepcopy(part)
        with suppress(Exception):  # it needs arguments
            copied.eval()
        if settings_sha256(copied) != settings_sha256(part):
            warn(
                f"{name} in the network has its own eval(), which PyTorch's eval() of the network"
                " around it does not call; it was not called: call it before, if the answers"
                " depend on it"
            )


def _filled(batch: torch.Tensor, images: int) -> torch.Tensor:
    """The batch with its last image repeated, so that there are as many."""
    lacking = images - len(batch)
    return batch if lacking <= 0 else torch.cat([batch, batch[-1:].expand(lacking, -1, -1, -1)])


def _exported_batch(network: nn.Module) -> int | None:
    """How many images a program of `torch.export` was made for; None where it takes any number."""
    if not isinstance(network, torch.fx.GraphModule):
        return None
    for node in network.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" else None
        if isinstance(value, torch.Tensor) and value.ndim == 4:
            return value.shape[0] if type(value.shape[0]) is int else None
    return None


@contextmanager
def _loops_hidden(network: nn.Module) -> Iterator[None]:
    """PyTorch's `train` in the place of what is no such method in a part, but a loop or a flag."""
    before: list[tuple[nn.Module, bool, object]] = []
    for part in network.modules():
        found = getattr(part, "train", None)
        if isinstance(part, torch.jit.ScriptModule) or (callable(found) and _takes_mode(found)):
            continue
        before.append((part, "train" in part.__dict__, part.__dict__.get("train")))
        part.__dict__["train"] = MethodType(nn.Module.train, part)
    try:
        yield
    finally:
        for part, was_there, value in before:
            part.__dict__.pop("train", None)
            if was_there:
                part.__dict__["train"] = value


def _function(method: object) -> FunctionType | None:
    function = getattr(method, "__func__", method)
    return function if isinstance(function, FunctionType) else None


def _is_own(method: object) -> bool:
    """Whether it is code of the user's, not PyTorch's."""
    function = _function(method)
    return function is not None and not (function.__module__ or "").startswith("torch.")


def _is_loop(method: object) -> bool:
    """Whether it is the user's and has nothing to do with a mode: it measures or trains."""
    function = _function(method)
    if function is None or not _is_own(method) or "mode" in inspect.signature(function).parameters:
        return False
    names = {*function.__code__.co_names}
    return not names & _MODE_WORDS and not _stores_attributes(method)


def _takes_mode(method: object) -> bool:
    """Whether it is a `train(mode)` as PyTorch calls it, and no loop that trains."""
    function = _function(method)
    if function is None or not _is_own(method):
        return True
    first, *rest = [*inspect.signature(function).parameters.values(), None, None][1:3]
    if first is None:
        return False
    if (
        first.name == "mode"
        or isinstance(first.default, bool)
        or first.annotation in (bool, "bool")
    ):
        return True
    alone = first.kind is first.VAR_POSITIONAL or rest == [None]
    return alone and bool({*function.__code__.co_names} & _MODE_WORDS)


def _stores_attributes(method: object) -> bool:
    function = _function(method)
    return function is not None and any(
        step.opname == "STORE_ATTR" for step in dis.get_instructions(function)
    )


def _required(method: object) -> list[str]:
    """The arguments that it cannot be called without."""
    function = _function(method)
    if function is None or not _is_own(method):
        return []
    parameters = [*inspect.signature(function).parameters.values()][1:]  # behind self
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
