"""Features in PyTorch: a network in, its last linear layer and what that takes out.

Operators are watched as they run, in the calling thread alone: the network is left as it is, and
layers that are functions are found, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from toplabel.bundle.features import NO_FEATURES, check_units, last_linear
from toplabel.bundle.onnx_bounds import Node
from toplabel.errors import ModelError

_LAYERS = {  # ONNX's name; at which places input and weight are; whether that is (K, D), not (D, K)
    "addmm": ("Gemm", 1, 2, False),
    "mm": ("MatMul", 0, 1, False),
    "matmul": ("MatMul", 0, 1, False),
    "linear": ("MatMul", 0, 1, True),
    "convolution": ("Conv", 0, 1, True),
    "_convolution": ("Conv", 0, 1, True),
    "conv2d": ("Conv", 0, 1, True),
}
_BEFORE = {  # what may stand before a layer: one number in, one out
    "batch_norm": "BatchNormalization",
    "native_batch_norm": "BatchNormalization",
    "_native_batch_norm_legit_no_training": "BatchNormalization",
    "cudnn_batch_norm": "BatchNormalization",
    "dropout": "Dropout",
}
_QUANTISED = "quantized::"

_NAMES_BEHIND = (
    "view _unsafe_view reshape alias detach clone contiguous _to_copy to expand permute transpose t"
    " squeeze unsqueeze flatten cat stack _softmax softmax _log_softmax log_softmax sigmoid"
    " hardsigmoid log_sigmoid_forward tanh relu leaky_relu exp log softplus sqrt neg abs add sub"
    " rsub mul div pow clamp clamp_min clamp_max hardtanh minimum maximum mean amax amin sum"
    " max_pool2d max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool2d"
    " mkldnn_adaptive_avg_pool2d _reshape_alias select slice lift_fresh"
)
_BEHIND = frozenset(_NAMES_BEHIND.split())


@dataclass(frozen=True, slots=True)
class Layer:
    """A network's last linear layer.

    Args:
        number: Which call of a forward takes what it takes, among those of layers and norms.
        place: Which of its arguments that is.
        size: D, the numbers that it takes for each image.
        maps: They come as maps (N, D, h, w), whose mean is meant.
    """

    number: int
    place: int
    size: int
    maps: bool


def find_layer(forward: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> Layer:
    """The last linear layer of a network.

    Args:
        forward: Of the network: (N, K) for a batch.
        batch: float32 (N, C, H, W).

    Raises:
        ModelError: It has none.
    """
    recorder = _Recorder(batch)
    with recorder:
        logits = forward(batch)
    head = last_linear(recorder.nodes, {""}, recorder.name_of(logits))
    layer, units = recorder.layers[head.layer.outputs[0]]
    check_units(units, logits.shape[1])
    place = layer.place if head.taker is head.layer else 0
    return replace(layer, number=recorder.numbers[head.taker.outputs[0]], place=place)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operators of a forward as nodes of a graph.

    Tensors that depend on the batch have numbers as names; the others are "".
    """

    def __init__(self, batch: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.layers: dict[str, tuple[Layer, int]] = {}  # by the name of its output
        self.numbers: dict[str, int] = {}  # of calls, by the same
        self._names: Any = WeakTensorKeyDictionary()
        self._names[batch] = "batch"
        self._calls = 0

    def name_of(self, tensor: object) -> str:
        """The tensor's name."""
        found: str = self._names.get(tensor, "") if isinstance(tensor, torch.Tensor) else ""
        return found

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, and write it down."""
        taken = tuple(map(self.name_of, _flat((*args, *(kwargs or {}).values()))))
        given = function(*args, **(kwargs or {}))
        operator = _operator(function)
        layer = _LAYERS.get(operator)
        if any(taken):
            made = [one for one in _flat((given,)) if isinstance(one, torch.Tensor)]
            names = tuple(f"{len(self.nodes)}.{place}" for place in range(len(made)))
            self.numbers.update(dict.fromkeys(names, self._calls))
            for name, tensor in zip(names, made, strict=True):
                self._names[tensor] = name
            if layer is not None:
                named = dict(
                    zip((one.name for one in function._schema.arguments), args, strict=False)
                )
                self.nodes.append(self._layer_node(layer, args, named | (kwargs or {}), names))
            elif operator in _BEFORE:
                self.nodes.append(Node(_BEFORE[operator], taken, names, {}))
            elif operator in _BEHIND:
                self.nodes.append(Node("Concat", taken, names, {}))
            else:
                quantised = operator.startswith(_QUANTISED)
                self.nodes.append(Node("QuantizeLinear" if quantised else "", taken, names, {}))
        self._calls += _is_counted(operator)
        return given

    def _layer_node(
        self,
        layer: tuple[str, int, int, bool],
        args: Any,
        named: Mapping[str, Any],
        names: tuple[str, ...],
    ) -> Node:
        operator, place, at, by_rows = layer
        weight = args[at]
        inputs = (self.name_of(args[place]), self.name_of(weight))
        if not (_is_pointwise(named) if operator == "Conv" else weight.ndim == 2):
            return Node("", inputs, names, {})
        units, size = weight.shape[:2] if by_rows else weight.shape[1::-1]
        self.layers[names[0]] = Layer(self._calls, place, size, operator == "Conv"), units
        return Node(operator, inputs, names, {})


class TakenBy(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what a layer takes, in the forward that runs meanwhile in this thread.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._layer = layer
        self._calls = 0
        self._taken: torch.Tensor | None = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator."""
        if _is_counted(_operator(function)):
            if self._calls == self._layer.number:
                self._taken = args[self._layer.place]
            self._calls += 1
        return function(*args, **(kwargs or {}))

    def rows(self, count: int) -> torch.Tensor:
        """Float32 (N, D), for N images.

        Raises:
            ModelError: It took no row of numbers for each.
        """
        if self._taken is None:
            raise ModelError(NO_FEATURES)
        taken = self._taken.float()
        rows = taken.mean((2, 3)) if self._layer.maps else taken.reshape(count, -1)
        if rows.shape != (count, self._layer.size):
            raise ModelError(NO_FEATURES)
        return rows


def _operator(function: Any) -> str:
    name: str = function._schema.name.removeprefix("aten::")
    return name.rstrip("_")


def _is_counted(operator: str) -> bool:
    return operator in _LAYERS or operator in _BEFORE


def _is_pointwise(arguments: Mapping[str, Any]) -> bool:
    """Whether a convolution is a linear layer at each pixel."""
    strides, pads = (set(_flat((arguments.get(*one),))) for one in (("stride", 1), ("padding", 0)))
    plain = arguments.get("groups", 1) == 1 and not arguments.get("transposed", False)
    one_pixel = (
        arguments["weight"].shape[2:] == (1, 1) and strides == {1} and pads <= {0, "same", "valid"}
    )
    return one_pixel and plain


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _flat(value)
        else:
            yield value
