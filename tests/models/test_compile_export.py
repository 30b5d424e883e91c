"""Padding: amounts that a program computes from sizes are written down; all else stays."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional

from toplabel.models.compile.export import Exporter, export, fix_padding


class SamePadding(nn.Module):
    """A strided convolution with TensorFlow's padding, as timm writes it."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        stride = self.convolution.stride[0]
        down = max((-(-height // stride) - 1) * stride + 3 - height, 0)
        across = max((-(-width // stride) - 1) * stride + 3 - width, 0)
        padding = [across // 2, across - across // 2, down // 2, down - down // 2]
        return self.convolution(functional.pad(x, padding))


class PaddedByBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, [0, x.shape[0], 0, 0]).sum((1, 2, 3))


def exported(module: nn.Module, folder: Path, *, example_batch: int = 2) -> Path:
    path = folder / "program.onnx"
    torch.onnx.export(
        module.eval(),
        (torch.zeros(example_batch, 3, 15, 16),),
        str(path),
        input_names=["input"],
        dynamic_axes={"input": {0: "N"}},
        opset_version=18,
        dynamo=False,
    )
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize("name", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_a_program_names_no_file_of_this_machine(name: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)).eval()
    exporter = Exporter(name=name, fixed_batch=False)
    program = export(module, torch.zeros(2, 3, 3, 3), tmp_path, exporter=exporter).read_bytes()
    assert b".py" not in program
    assert str(Path.home()).encode() not in program


def run(path: Path, inputs: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(str(path)).run(None, {"input": inputs})[0]


def operations(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((5, 3, 15, 16), np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_amounts_computed_from_sizes_are_written_down(tmp_path, images, stride):
    path = exported(SamePadding(stride), tmp_path)
    before = run(path, images)
    fix_padding(path, input_shape=(3, 15, 16), fixed_batch=False)
    assert set(operations(path)) <= {"Pad", "Conv", "Constant"}
    assert np.array_equal(run(path, images), before)
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.filterwarnings("ignore")
def test_amounts_that_depend_on_the_batch_stay_computed(tmp_path, images):
    path = exported(PaddedByBatch(), tmp_path)
    assert "Pad" in operations(path)
    before = run(path, images)
    fix_padding(path, input_shape=(3, 15, 16), fixed_batch=False)
    assert np.array_equal(run(path, images), before)


@pytest.mark.filterwarnings("ignore")
def test_a_program_that_pads_nothing_by_itself_is_not_touched(tmp_path):
    path = exported(nn.Conv2d(3, 4, 3, padding=1), tmp_path)
    written = path.read_bytes()
    fix_padding(path, input_shape=(3, 15, 16), fixed_batch=False)
    assert path.read_bytes() == written


def test_what_only_a_branch_takes_is_kept(tmp_path):
    """Tensors taken inside an `If` count as taken."""
    text = """
        <ir_version: 8, opset_import: ["" : 18]>
        branching (float[N, 3, 15, 16] input) => (float[M, C, H, W] output) {
            size = Shape(input)
            two = Constant<value = int64[1] {2}>()
            zero = Constant<value = float {0.0}>()
            height = Gather(size, two)
            none = Sub(height, height)
            amounts = Concat<axis = 0>(none, none, none, none, none, none, two, two)
            padded = Pad(input, amounts, zero)
            inside = Neg(padded)
            yes = Greater(height, none)
            number = Cast<to = 6>(yes)
            sure = ReduceMax<keepdims = 0>(number)
            is_true = Cast<to = 9>(sure)
            output = If (is_true) <
                then_branch = one () => (float[M, C, H, W] a) { a = Abs(inside) },
                else_branch = other () => (float[M, C, H, W] b) { b = Identity(input) }
            >
        }
    """
    path = tmp_path / "program.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    images = np.ones((2, 3, 15, 16), np.float32)
    before = run(path, images)
    fix_padding(path, input_shape=(3, 15, 16), fixed_batch=False)
    assert "Neg" in operations(path)
    assert "Shape" in operations(path)
    assert np.array_equal(run(path, images), before)
    assert before.shape == (2, 3, 17, 18)
