"""What a PyTorch network gives: its tensors, the one that holds the scores, and how it is made.

`bundle.outputs` decides; here a network is asked.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from toplabel.bundle.bounds import FREE, Bounds, apply
from toplabel.bundle.conversion import NO_CONVERSION, Conversion
from toplabel.bundle.outputs import Leaf, choose_leaf, to_rows
from toplabel.errors import ModelError

logger = logging.getLogger(__name__)

_DEEPEST = 4  # a tuple in a dict in a tuple

# The tensors


def leaves_of(given: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in whatever a network gave, each with its name: "logits", "0", "0.logits"."""
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
    if isinstance(given, torch.Tensor):
        yield name or "output", given
    elif depth < _DEEPEST:
        for key, value in _parts(given):
            yield from leaves_of(value, f"{name}.{key}" if name else key, depth + 1)


def _parts(given: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(given, Mapping):
        yield from ((str(key), value) for key, value in given.items())
    elif isinstance(given, tuple | list):
        names = getattr(given, "_fields", None) or range(len(given))
        yield from ((str(name), value) for name, value in zip(names, given, strict=False))
    elif dataclasses.is_dataclass(given):
        yield from ((one.name, getattr(given, one.name)) for one in dataclasses.fields(given))
    elif hasattr(given, "logits"):
        yield "logits", given.logits


def choose_output(
    given: Any,
    *,
    batch: int = 1,
    output: str | int | None = None,
    names: int | None = None,
    model: str,
) -> str:
    """The name of the tensor with the scores of the classes, in what a network gave for images.

    Args:
        given: That.
        batch: How many images.
        output: Which one it is, where that is stated.
        names: How many class names there are, where they are known.
        model: Its name.

    Raises:
        ModelError: None may be it, or several; says all.
    """
    leaves = [
        Leaf(
            name,
            _of_one(one.shape, batch),
            str(one.dtype).removeprefix("torch."),
            one.is_floating_point(),
        )
        for name, one in leaves_of(given)
    ]
    if not leaves:
        text = f" ({given!r:.60})" if isinstance(given, str) else ""
        raise ModelError(
            f"{model} gives a {type(given).__name__}{text} without a tensor in it; expected scores"
            " as a tensor of shape (N, K), or several outputs of which one holds them"
        )
    chosen = choose_leaf(leaves, output=output, names=names, model=model)
    if len(leaves) > 1:
        others = ", ".join(str(leaf) for leaf in leaves if leaf is not chosen)
        logger.info("the output %s of %s is used, not %s", chosen, model, others)
    return chosen.name


def _of_one(shape: torch.Size, batch: int) -> tuple[int, ...]:
    """A shape as it were for one image."""
    return (1, *shape[1:]) if shape[:1] == (batch,) else tuple(shape)


class Scores(nn.Module):
    """A network whose outputs are brought into one form: logits, or scores in [0, 1], (N, K).

    Args:
        network: The network.
        output: Which tensor to take of those that it gives, by its name or its place from 0; None:
            the only one that can be meant.
        conversion: What is done to it.
    """

    def __init__(
        self,
        network: nn.Module,
        output: str | int | None = None,
        conversion: Conversion = NO_CONVERSION,
    ) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.conversion = conversion

    def train(self, mode: bool = True) -> Scores:
        """Leave the network as it is: its mode was set as its own code wants it."""
        self.training = mode
        return self

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Float32 (N, K) for a float32 (N, C, H, W) batch."""
        given = self.network(batch)
        leaves, name = dict(leaves_of(given)), self.output
        if name not in leaves:
            model = type(self.network).__name__
            name = choose_output(given, batch=len(batch), output=name, model=model)
        rows = to_rows(leaves[name], len(batch))
        if rows.ndim != 2 or len(rows) != len(batch):
            raise ModelError(
                f"{type(self.network).__name__} gives {name!r} of shape {tuple(rows.shape)} for"
                f" {len(batch)} images; expected a row of scores for each, (N, K)"
            )
        converted: torch.Tensor = self.conversion(rows.float(), torch)
        return converted


# How they are made


def watch(network: nn.Module, batch: torch.Tensor) -> tuple[Any, dict[str, Bounds | None]]:
    """What a network gives for a batch, and between which numbers each tensor of it must lie.

    Args:
        network: In eval mode.
        batch: float32 (N, C, H, W).

    Returns:
        What it gave, and the bounds by the tensors' names; None where they are not known.
    """
    inner = getattr(network, "_orig_mod", network)  # what torch.compile was given
    watcher = _Watcher()
    watcher.bounds[batch] = FREE
    with watcher:
        given = inner(batch)
    return given, {name: watcher.of(tensor) for name, tensor in leaves_of(given)}


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the bounds of tensors from operator to operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bounds: Any = WeakTensorKeyDictionary()  # of tensors that depend on the input
        self._written: dict[int, int] = {}  # storages that were changed in place: how many values

    def of(self, tensor: torch.Tensor) -> Bounds | None:
        """The bounds of a tensor; None where they are not known."""
        changed = self._written.get(tensor.untyped_storage()._cdata)
        if changed is not None and changed != tensor.numel():
            return None
        found: Bounds | None = self.bounds.get(tensor)
        return found

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, and note what it gives."""
        given = function(*args, **(kwargs or {}))
        try:
            self._note(function, args, kwargs or {}, given)
        except Exception as error:  # a label does not depend on it
            logger.debug("cannot follow %s", function, exc_info=error)
        return given

    def _note(self, function: Any, args: Any, kwargs: Mapping[str, Any], given: Any) -> None:
        tensors = [one for one in _flat((*args, *kwargs.values())) if isinstance(one, torch.Tensor)]
        if not any(one in self.bounds for one in tensors):
            return
        schema = function._schema
        operator = schema.name.removeprefix("aten::")
        found = self._bounds(operator.rstrip("_"), args, kwargs)
        for one in _flat((given,)):
            if isinstance(one, torch.Tensor):
                if schema.is_mutable:
                    self._written[one.untyped_storage()._cdata] = one.numel()
                self.bounds[one] = found

    def _bounds(self, operator: str, args: Any, kwargs: Mapping[str, Any]) -> Bounds | None:
        rule = _RULE_OF.get(operator)
        if rule is None:
            return None
        if operator in _PRODUCTS and sum(one in self.bounds for one in _tensors(args)) > 1:
            return None  # a mixture, or anything else
        if operator == "where":
            args = args[1:]
        values = list(_flat(args[:1] if rule in _FIRST and operator not in _ALL else args))
        if operator == "rsub":
            values = values[1::-1]
        given = [self._value(one) for one in values]
        numbers = _limits(operator, args, kwargs) if rule == "clamp" else {}
        scaled = kwargs.get("alpha", 1) != 1
        return None if scaled else apply(rule, given, numbers)

    def _value(self, value: Any) -> Bounds | None:
        """The bounds of a number, of a constant tensor, or of one that depends on the input."""
        if isinstance(value, int | float):
            return Bounds(float(value), float(value))
        if not isinstance(value, torch.Tensor):
            return None
        if value in self.bounds or value.untyped_storage()._cdata in self._written:
            return self.of(value)
        if value.numel() == 0 or value.numel() > _SMALL or not value.is_floating_point():
            return FREE
        low, high = float(value.min()), float(value.max())
        return Bounds(low, high) if low <= high else FREE


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value


def _tensors(args: Any) -> list[torch.Tensor]:
    return [one for one in _flat(args) if isinstance(one, torch.Tensor)]


def _limits(operator: str, args: Any, kwargs: Mapping[str, Any]) -> dict[str, float]:
    """The ends of a clamp."""
    named = dict(zip(("low", "high"), args[1:3], strict=False))
    if operator == "clamp_max":
        named = {"high": args[1]}
    named |= {_ENDS[key]: value for key, value in kwargs.items() if key in _ENDS}
    if operator == "hardtanh":
        named = {"low": -1.0, "high": 1.0} | named
    return {key: float(value) for key, value in named.items() if value is not None}


_ENDS = {"min": "low", "max": "high", "min_val": "low", "max_val": "high"}
_SMALL = 4096  # values of a constant that are looked at: numbers, and vectors of classes

_OPERATORS = {
    "same": (
        "view _unsafe_view reshape alias detach clone contiguous _to_copy to lift_fresh expand"
        " permute transpose t squeeze unsqueeze flatten select slice narrow split"
        " split_with_sizes chunk unbind gather index index_select cat stack where flip roll repeat"
        " mean amax amin max_pool2d avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool2d dropout"
        " mkldnn_adaptive_avg_pool2d max_pool2d_with_indices to_mkldnn to_dense"
        " _reshape_alias as_strided"
    ),
    "free": (
        "addmm mm matmul linear bmm baddbmm convolution _convolution conv2d native_batch_norm"
        " cudnn_batch_norm _native_batch_norm_legit_no_training batch_norm native_layer_norm"
        " layer_norm native_group_norm mkldnn_convolution mkldnn_linear"
    ),
    "sort": "sort topk",
    "sigmoid": "sigmoid special_expit",
    "hard_sigmoid": "hardsigmoid",
    "softmax": "_softmax softmax",
    "log_softmax": "_log_softmax log_softmax",
    "log_sigmoid": "log_sigmoid_forward log_sigmoid",
    "tanh": "tanh",
    "erf": "erf",
    "wave": "sin cos sign sgn",
    "exp": "exp",
    "log": "log",
    "softplus": "softplus",
    "sqrt": "sqrt",
    "round": "round floor ceil trunc",
    "relu": "relu",
    "relu6": "relu6",
    "clamp": "clamp clamp_min clamp_max hardtanh clip",
    "minimum": "minimum",
    "maximum": "maximum",
    "abs": "abs",
    "neg": "neg",
    "reciprocal": "reciprocal",
    "add": "add",
    "sub": "sub rsub",
    "mul": "mul",
    "div": "div",
    "sum": "sum",
}
_RULE_OF = {operator: rule for rule, names in _OPERATORS.items() for operator in names.split()}
_PRODUCTS = ("addmm", "mm", "matmul", "bmm", "baddbmm", "linear")
_FIRST = ("same", "sort", "clamp", "sum", "round", "softmax", "log_softmax", "softplus")
"""Rules whose operators take one tensor; what follows are dimensions, indices and the like."""
_ALL = ("where",)
