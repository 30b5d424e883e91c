"""Export: a module and an example in, an ONNX file out, by one of PyTorch's two exporters.

Amounts of padding that never change are written down in it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel._internal.onnxruntime import ort
from toplabel.bundle.program import PROGRAM_NAME
from toplabel.errors import ModelError

OPSET = 18
INPUT_NAME = "input"
OUTPUT_NAME = "logits"

_LARGEST_FILE_BYTES = 2**31 - 2**27  # protobuf ends at 2 GiB; the graph needs some of that


@dataclass(frozen=True, slots=True)
class Exporter:
    """One way to export.

    Args:
        name: "torchscript" traces one forward and is quick; "dynamo" reads the code and is slow.
        fixed_batch: The program takes one input at a time.
    """

    name: Literal["torchscript", "dynamo"]
    fixed_batch: bool

    def __str__(self) -> str:
        return f"{self.name}, batch 1" if self.fixed_batch else self.name


def exporters(*, fixed_batch: bool) -> Iterator[Exporter]:
    """The ways to try, best first.

    Args:
        fixed_batch: The module itself takes only one input at a time.
    """
    for fixed in (True,) if fixed_batch else (False, True):
        yield Exporter("torchscript", fixed)
        yield Exporter("dynamo", fixed)


def export(module: nn.Module, example: torch.Tensor, folder: Path, *, exporter: Exporter) -> Path:
    """The ONNX file in `folder`; weights that do not fit into it lie beside it.

    Args:
        module: In eval mode.
        example: Two inputs (2, C, H, W), of which a program with a fixed batch takes the first.
        folder: Empty.
        exporter: How.

    Raises:
        ModelError: The module decides by its input's values what to compute, which a trace misses.
        Exception: Whatever the exporter raises; there are many kinds.
    """
    path = folder / PROGRAM_NAME
    example = example[:1] if exporter.fixed_batch else example
    with torch.no_grad(), _plain_attention():
        if exporter.name == "torchscript":
            _trace(module, example, path, exporter)
        else:
            _export_by_dynamo(module, example, path, exporter)
    if list(folder.iterdir()) == [path]:  # else its weights lie beside it: above 2 GB
        fix_padding(path, input_shape=tuple(example.shape[1:]), fixed_batch=exporter.fixed_batch)
    return path


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch's fused encoder layers out of the trace: no exporter knows them."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _trace(module: nn.Module, example: torch.Tensor, path: Path, exporter: Exporter) -> None:
    axes = {} if exporter.fixed_batch else {INPUT_NAME: {0: "N"}, OUTPUT_NAME: {0: "N"}}
    parameters = inspect.signature(torch.onnx.export).parameters
    chosen: dict[str, Any] = {"dynamo": False} if "dynamo" in parameters else {}  # torch 2.4
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.onnx.export(
            module,
            (example,),
            str(path),  # a Path would lose the place for weights above 2 GB
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes=axes,
            opset_version=OPSET,
            **chosen,
        )
    suspicious = any(w.category.__name__ == "TracerWarning" for w in caught)
    if suspicious and decides_by_values(module, example):
        raise ModelError("what it computes depends on the values of its input")


def decides_by_values(module: nn.Module, example: torch.Tensor) -> bool:
    """Whether the module turns values of its input into Python's own numbers or branches.

    A trace keeps only the branch that its example took, and may agree on every reference input. The
    module is run on a tensor that has a shape and no values: reading one then fails.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            module(mode.from_tensor(example))
    except DataDependentOutputException:
        return True
    except Exception:  # not everything runs without values; the reference inputs decide then
        return False
    return False


def _export_by_dynamo(
    module: nn.Module, example: torch.Tensor, path: Path, exporter: Exporter
) -> None:
    shapes = None if exporter.fixed_batch else ({0: torch.export.Dim("N")},)
    program = torch.onnx.export(
        module,
        (example,),
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "without a file's name the dynamo exporter returns its program"
    graphs: Any = (program.model.graph, *program.model.functions.values())
    for graph in graphs:
        for node in graph.all_nodes():
            node.metadata_props.clear()  # the source files that it comes from, with their folders
    program.save(str(path), external_data=_weights_bytes(module) > _LARGEST_FILE_BYTES)


def _weights_bytes(module: nn.Module) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def fix_padding(path: Path, *, input_shape: tuple[int, ...], fixed_batch: bool) -> None:
    """Write the amounts of every `Pad` into the ONNX file, where they never change.

    TensorFlow's "same" padding (timm's tf_ models, EfficientNet-Lite) depends on the size of the
    input, which a trace computes anew in every run. With fixed amounts ONNX Runtime merges each
    `Pad` into its convolution, and keeps its own memory layout from one convolution to the next.

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
    batches = (1, 1) if fixed_batch else (1, 3)
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
