"""Quantise: an exact program and its user's images in, the same network in int8 out.

ONNX Runtime's own quantiser does it, in the form of `QuantizeLinear` and `DequantizeLinear` around
each operator: weights symmetric and for each channel, what flows between by the smallest and the
largest value that the images cause. The last linear layer stays in float32, so that features, class
priors and another head work alike, with its weights kept in half the bytes; so does what a table of
256 values would spoil (`_operators`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toplabel._internal.onnxruntime import open_session
from toplabel._internal.optional import require
from toplabel.bundle.onnx_graph import OnnxGraph
from toplabel.bundle.onnx_header import map_file, read_onnx_header
from toplabel.bundle.program import NotCompiled, Program
from toplabel.errors import UsageError
from toplabel.models.compile.child import Report, can_have_children, run_here, run_in_child

_LINEAR = ("Conv", "Gemm", "MatMul")
_FUSED = ("Relu", "Clip")  # ONNX Runtime computes them with the layer before
_BETWEEN = ("Add", "Mul", "Sigmoid", "MaxPool", "GlobalAveragePool")
_NORMALISING = frozenset(("LayerNormalization", "InstanceNormalization", "GroupNormalization"))

Tensors = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives inputs of the program, (1, C, H, W) each, one after another."""


def float_layers(program: Program) -> tuple[int, ...]:
    """How many of a program's first layers to leave in float32, each number worth a try.

    In networks of depth-wise convolutions the first layers, of three channels and of one each, are
    as fast in float32 and make a good part of what int8 changes. Where those of one block are, it
    depends on the network which is faster, what is computed again included.
    """
    graph = OnnxGraph(map_file(program.path))
    operators = {node.operator for node in graph.nodes}
    grouped = any(
        node.operator == "Conv" and attributes.one("group", 1) > 1
        for node, attributes in zip(graph.nodes, graph.attributes, strict=True)
    )
    return (1, 3) if grouped and not _normalises(operators) else (0,)


def _normalises(operators: Collection[str]) -> bool:
    """Whether it computes norms of what flows through it, in one operator or in several."""
    return not _NORMALISING.isdisjoint(operators) or {"ReduceMean", "Sqrt"} <= {*operators}


def quantise(
    program: Program,
    tensors: Tensors,
    path: Path,
    *,
    reduce_range: bool,
    float_layers: int = 0,
    time_limit_seconds: float = 900,
) -> NotCompiled | None:
    """Write the program in int8 to `path`; or say why that cannot be done.

    The work is done in a child process where that is safe, as compiling is. Its memory is that of
    the network, a few times, and of one image on its way: inputs are taken one by one, and all that
    is kept of them is two numbers for each tensor of the graph.

    Args:
        program: In float32.
        tensors: Called once, in the child.
        path: The ONNX file to write; in a folder of its own.
        reduce_range: Use 7 of the 8 bits of weights: without VNNI, sums of two products of all 8
            overflow the 16 bits they are computed in.
        float_layers: How many of the first layers stay in float32, as the last one does.
        time_limit_seconds: For all of it, where there is a child process.

    Raises:
        MissingDependency: onnx is not installed.
        ToplabelError: `tensors` raised it.
        OSError: The folder cannot be written to, or its disk is full.
    """
    require("onnx", extra="optimize", purpose="quantising a model")
    if read_onnx_header(program.path).weights:
        return NotCompiled("its weights do not fit into one ONNX file (2 GB)")
    log, optimised = path.with_name("quantise.log"), path.with_name("optimised.onnx")

    def work(report: Report) -> NotCompiled | None:
        with _without_advice():
            return _quantise(program, tensors, optimised, path, reduce_range, float_layers)

    try:
        if can_have_children():
            return run_in_child(work, log=log, time_limit_seconds=time_limit_seconds)
        return run_here(work, log=log)
    finally:
        for file in (log, optimised):
            with suppress(OSError):
                file.unlink(missing_ok=True)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the quantiser from advising what is done here already, through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _quantise(
    program: Program,
    tensors: Tensors,
    optimised: Path,
    path: Path,
    reduce_range: bool,
    float_layers: int,
) -> NotCompiled | None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    exact, last = _prepared(program, optimised)
    linear = [node.name for node in exact if node.op_type in _LINEAR]
    in_float = [*last, *linear[:float_layers]]
    if not set(linear) - set(in_float):
        return NotCompiled("it has no layers that int8 would make faster")
    operators, options = _operators({node.op_type for node in exact})
    quantize_static(
        str(optimised),
        str(path),
        _Reader(program.input_name, tensors),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=operators,
        nodes_to_exclude=in_float,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True, **options},
    )
    _halve_weights(path, last)
    return None


def _halve_weights(path: Path, layers: Collection[str]) -> None:
    """Keep the weights of these layers in float16; they are float32 again before they are used.

    That moves logits by far less than the other layers in int8 do, and of a small network's file
    with 1,000 classes takes a third away.
    """
    import onnx

    model = onnx.load(path)
    taken = {
        node.input[1]
        for node in model.graph.node
        if node.name in layers and node.op_type in _LINEAR
    }
    for weight in model.graph.initializer:
        if weight.name not in taken or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        name, values = weight.name, onnx.numpy_helper.to_array(weight)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        weight.CopyFrom(half)
        cast = onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
    onnx.save(model, path)


def _operators(found: set[str]) -> tuple[list[str], dict[str, Any]]:
    """The operators to quantise in a graph of these, and options of the quantiser.

    Measured over networks of both kinds (docs/benchmarks.md). Convolutional ones are fastest where
    their tensors stay in int8 from one layer to the next. Where norms are computed from what flows
    through (transformers, ConvNeXt), the sums between layers vary too widely for 256 values: there
    only the layers themselves are computed in int8, and give float32.
    """
    if _normalises(found):
        return [*_LINEAR, *_FUSED], {"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]}
    return [*_LINEAR, *_FUSED, *_BETWEEN], {}


def _prepared(program: Program, optimised: Path) -> tuple[Any, list[str]]:
    """Write the graph with constants computed and norms merged; its nodes, and its last layers.

    Each node has a name, which the quantiser tells them by.
    """
    import onnx

    open_session(program.path, optimised="basic", copy_to=optimised)
    model = onnx.load(optimised)
    for place, node in enumerate(model.graph.node):
        node.name = f"{place}.{node.op_type}"
    onnx.save(model, optimised)
    return model.graph.node, _last_layers(model.graph.node, program.output_name)


def _last_layers(nodes: Any, output: str) -> list[str]:
    """The names of the nearest linear layers before the output, and of all behind them."""
    makers = {name: node for node in nodes for name in node.output}
    found: dict[str, None] = {}
    waiting = [output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = None
        if node.op_type not in _LINEAR:
            waiting += node.input
    return list(found)


class _Reader:
    """Inputs for the quantiser, one at a time, as it asks for them."""

    def __init__(self, name: str, tensors: Tensors) -> None:
        self._name, self._taken = name, 0
        self._tensors: Iterator[NDArray[np.float32]] = iter(tensors())

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        if tensor is None:
            if not self._taken:
                raise UsageError("none of the images that calibrate could be read")
            return None
        self._taken += 1
        return {self._name: tensor}
