"""Quantising: the same network in int8, its last layer and its norms in float32; or why not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from quantised_material import SIZE, make_program, network
from toplabel._internal.onnxruntime import open_session
from toplabel.bundle.features import find_features
from toplabel.bundle.program import NotCompiled, Program
from toplabel.errors import UsageError
from toplabel.models.compile.quantise import float_layers, quantise


def tensors(count: int = 8) -> Iterator[NDArray[np.float32]]:
    generator = np.random.default_rng(2)
    for _ in range(count):
        yield generator.uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32)


def in_int8(program: Program, folder: Path, **options: int) -> onnx.ModelProto:
    path = folder / "reduced.onnx"
    assert quantise(program, tensors, path, reduce_range=False, **options) is None
    assert [one.name for one in folder.iterdir() if one.is_file()] == [path.name]
    return onnx.load(path)


def quantised_layers(model: onnx.ModelProto) -> list[str]:
    """The operators whose weights are int8."""
    scaled = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    linear = ("Conv", "Gemm", "MatMul")
    return [n.op_type for n in model.graph.node if n.op_type in linear and n.input[1] in scaled]


def answers(path: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    (logits,) = open_session(path).run(["logits"], {"input": batch})
    return np.asarray(logits, np.float32)


def test_all_layers_but_the_last_are_int8_for_each_channel_and_any_batch(tmp_path: Path) -> None:
    program = make_program(tmp_path / "made", network())
    model = in_int8(program, tmp_path)
    assert quantised_layers(model) == ["Conv"] * 3
    sizes = [
        len(one.dims) and one.dims[0] for one in model.graph.initializer if "scale" in one.name
    ]
    assert 16 in sizes  # a scale for each channel
    batch = np.concatenate(list(tensors(5)))
    exact, reduced = answers(program.path, batch), answers(tmp_path / "reduced.onnx", batch)
    assert 0 < np.abs(exact - reduced).max() < 0.1 * np.ptp(exact)
    alone = [answers(tmp_path / "reduced.onnx", one[None]) for one in batch]
    np.testing.assert_allclose(np.concatenate(alone), reduced, atol=0.02 * np.ptp(exact))


def test_the_features_of_a_quantised_program_are_those_of_the_same_layer(tmp_path: Path) -> None:
    program = make_program(tmp_path / "made", network())
    in_int8(program, tmp_path)
    reduced = find_features(replace(program, path=tmp_path / "reduced.onnx"))
    assert (reduced.size, reduced.operator) == (16, "Gemm")


def test_the_last_layer_keeps_its_weights_in_half_the_bytes_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    program = make_program(tmp_path / "made", network())
    model = in_int8(program, tmp_path, float_layers=1)
    half = {w.name for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT16}
    assert half == {"head.half"}
    exact = onnx.load(program.path)
    (weight,) = (w for w in exact.graph.initializer if w.name == "head")
    rounded = onnx.numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(rounded, "head"))
    onnx.save(exact, program.path)
    (tmp_path / "again").mkdir()
    in_int8(program, tmp_path / "again", float_layers=1)  # of weights that lose nothing
    batch = np.concatenate(list(tensors(2)))
    found, expected = (
        answers(folder / "reduced.onnx", batch) for folder in (tmp_path, tmp_path / "again")
    )
    np.testing.assert_array_equal(found, expected)


def test_where_norms_are_computed_layers_give_float32(tmp_path: Path) -> None:
    program = make_program(tmp_path / "made", network(norm=True))
    model = in_int8(program, tmp_path)
    assert quantised_layers(model) == ["Conv"] * 3
    taken = next(n.input[0] for n in model.graph.node if n.op_type == "InstanceNormalization")
    pool = next(n for n in model.graph.node if n.op_type == "GlobalAveragePool")
    assert pool.input[0] == "normed"
    assert taken


def test_the_first_layers_of_depth_wise_networks_are_tried_in_float32(tmp_path: Path) -> None:
    plain = make_program(tmp_path / "plain", network())
    depthwise = make_program(tmp_path / "depthwise", network(depthwise=True, layers=5))
    normed = make_program(tmp_path / "normed", network(depthwise=True, norm=True))
    assert [float_layers(one) for one in (plain, depthwise, normed)] == [(0,), (1, 3), (0,)]
    model = in_int8(depthwise, tmp_path, float_layers=3)
    assert quantised_layers(model) == ["Conv"] * 2


def test_weights_of_seven_bits_stay_within_them(tmp_path: Path) -> None:
    program = make_program(tmp_path / "made", network())
    path = tmp_path / "reduced.onnx"
    assert quantise(program, tensors, path, reduce_range=True) is None
    weights = [
        onnx.numpy_helper.to_array(one)
        for one in onnx.load(path).graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4
    ]
    assert len(weights) == 3
    assert max(np.abs(one.astype(int)).max() for one in weights) == 64


def test_a_network_of_one_layer_has_nothing_to_quantise(tmp_path: Path) -> None:
    program = make_program(tmp_path / "made", network(layers=0))
    found = quantise(program, tensors, tmp_path / "reduced.onnx", reduce_range=False)
    assert isinstance(found, NotCompiled)
    assert found.reason == "it has no layers that int8 would make faster"
    assert [one.name for one in tmp_path.iterdir()] == ["made"]


def test_images_that_cannot_be_read_and_a_quantiser_that_fails_are_told(tmp_path: Path) -> None:
    program = make_program(tmp_path / "made", network())

    def none() -> Iterator[NDArray[np.float32]]:
        return iter(())

    with pytest.raises(UsageError, match="none of the images"):
        quantise(program, none, tmp_path / "reduced.onnx", reduce_range=False)

    def wrong() -> Iterator[NDArray[np.float32]]:
        yield np.zeros((1, 3, SIZE, SIZE + 1), np.float32)

    found = quantise(program, wrong, tmp_path / "reduced.onnx", reduce_range=False)
    assert isinstance(found, NotCompiled)
    assert "Got invalid dimensions for input" in found.reason
