"""Padding: a program that computes how far to pad in, one where that is written down out.

TensorFlow's "same" padding (timm's tf_ models, EfficientNet-Lite) depends on the size of the input,
which a trace computes anew in every run. With fixed amounts ONNX Runtime merges each `Pad` into its
convolution, and keeps its own memory layout from one convolution to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toplabel._internal.onnxruntime import ort

_BATCHES = 1, 3


def fix_padding(path: Path, *, input_shape: tuple[int, ...], fixed_batch: bool) -> None:
    """Write the amounts of every `Pad` into the ONNX file, where they never change.

    They are computed with different values and batches; what differs stays computed.

    Args:
        path: The program, with all its weights; replaced where there is something to write.
        input_shape: (C, H, W).
        fixed_batch: The program takes one input at a time.
    """
    model = onnx.load(path)
    names = _computed_amounts(model.graph)
    if not names:
        return
    batches = (1, 1) if fixed_batch else _BATCHES
    inputs = [
        np.full((batch, *input_shape), value, np.float32) for value, batch in enumerate(batches)
    ]
    first, second = (_values(model, names, one) for one in inputs)
    amounts = {n: a for n, a, b in zip(names, first, second, strict=True) if np.array_equal(a, b)}
    _write_down(model.graph, amounts)
    _remove_unused(model.graph)
    onnx.save(model, path)


def _computed_amounts(graph: onnx.GraphProto) -> list[str]:
    """What the `Pad` nodes take their amounts from, where that is no constant."""
    constants = {one.name for one in graph.initializer}
    constants.update(
        name for node in graph.node if node.op_type == "Constant" for name in node.output
    )
    amounts = dict.fromkeys(node.input[1] for node in graph.node if node.op_type == "Pad")
    return [name for name in amounts if name not in constants]


def _values(
    model: onnx.ModelProto, names: list[str], inputs: NDArray[np.float32]
) -> list[NDArray[np.int64]]:
    """What the named tensors are for this input: int64 (2 x dimensions,) each."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    for name in names:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [None])
        shown.graph.output.append(info)
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    values: list[NDArray[np.int64]] = session.run(names, {session.get_inputs()[0].name: inputs})
    return values


def _write_down(graph: onnx.GraphProto, amounts: dict[str, NDArray[np.int64]]) -> None:
    """Make constants of the named tensors; who computed them computes for nobody now."""
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name in amounts:
                node.output[place] = f"{name}_computed"
    for name, value in amounts.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Drop the nodes whose outputs nobody takes: ONNX Runtime would go on computing them."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # nodes stand in the order of their dependencies
        if needed.intersection(node.output):
            needed.update(_taken(node))
            kept.append(node)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors a node takes, in the branches of an `If` and the body of a `Loop`, too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from _taken(inner)
