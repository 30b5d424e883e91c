"""Exporting: a module and an example in, an ONNX file out, by one of PyTorch's two exporters."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from toplabel.bundle.program import PROGRAM_NAME
from toplabel.errors import ModelError
from toplabel.models.compile.padding import fix_padding

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
        raise ModelError("it decides by the values of its input what to compute")


def decides_by_values(module: nn.Module, example: torch.Tensor) -> bool:
    """Whether the module turns values of its input into Python's own numbers or branches.

    A trace keeps only the branch that its example took, and may agree on every golden input. The
    module is run on a tensor that has a shape and no values: reading one then fails.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            module(mode.from_tensor(example))
    except DataDependentOutputException:
        return True
    except Exception:  # not everything runs without values; the golden inputs decide then
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
    program.save(str(path), external_data=_weights_bytes(module) > _LARGEST_FILE_BYTES)


def _weights_bytes(module: nn.Module) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
