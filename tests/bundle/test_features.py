"""Features: which layer they are found at, in small graphs, and what programs with them give."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper

from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.features import Features, find_features, with_features, with_head
from toplabel.bundle.program import Program
from toplabel.errors import BundleError, ModelError

BATCH = np.random.default_rng(0).normal(size=(3, 4, 5, 5)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)  # (D, K)
BIAS = np.arange(6, dtype=np.float32)
POOLED = BATCH.mean((2, 3))
LOGITS = POOLED @ WEIGHT + BIAS

node = helper.make_node
POOL = [node("GlobalAveragePool", ["x"], ["maps"]), node("Flatten", ["maps"], ["rows"])]
GEMM = node("Gemm", ["rows", "w", "b"], ["y"])
CONSTANTS = {"w": WEIGHT, "b": BIAS, "conv": WEIGHT.T.reshape(6, 4, 1, 1).copy()}

HEADS = {
    "gemm": ([*POOL, GEMM], "Gemm"),
    "gemm, transposed": (
        [
            *POOL,
            node("Transpose", ["w"], ["wt"]),
            node("Gemm", ["rows", "wt", "b"], ["y"], transB=1),
        ],
        "Gemm",
    ),
    "matmul and add": (
        [*POOL, node("MatMul", ["rows", "w"], ["p"]), node("Add", ["b", "p"], ["y"])],
        "MatMul",
    ),
    "matmul of (N, 1, D)": (
        [
            POOL[0],
            node("Reshape", ["maps", "one_row"], ["row"]),
            node("MatMul", ["row", "w"], ["p"]),
            node("Add", ["p", "b"], ["q"]),
            node("Squeeze", ["q", "axis"], ["y"]),
        ],
        "MatMul",
    ),
    "convolution, then pooled": (
        [
            node("Conv", ["x", "conv", "b"], ["m"], kernel_shape=[1, 1]),
            node("GlobalAveragePool", ["m"], ["p"]),
            node("Flatten", ["p"], ["y"]),
        ],
        "Conv",
    ),
    "pooled, then convolution": (
        [POOL[0], node("Conv", ["maps", "conv", "b"], ["m"]), node("Flatten", ["m"], ["y"])],
        "Conv",
    ),
    "behind a dropout, under a softmax": (
        [*POOL, node("Identity", ["rows"], ["same"]), node("Gemm", ["same", "w", "b"], ["y"])],
        "Gemm",
    ),
}
MORE = {"one_row": np.array([0, 1, -1]), "axis": np.array([1])}


def model_of(
    nodes: list, *, output: str = "y", ir_version: int = 8, **constants: np.ndarray
) -> bytes:
    held = [numpy_helper.from_array(v, k) for k, v in {**CONSTANTS, **MORE, **constants}.items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 5, 5])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", "K"])],
        held,
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version
    )
    return made.SerializeToString()


def program_of(content: bytes, folder: Path, *, output: str = "y", outputs: int = 6) -> Program:
    path = folder / "program.onnx"
    path.write_bytes(content)
    return Program(
        path=path,
        reference_path=path,
        key="0" * 64,
        input_name="x",
        output_name=output,
        input_shape=(4, 5, 5),
        outputs=outputs,
        fixed_batch=False,
        exporter="",
        agreement={},
    )


def run(content: bytes) -> list[np.ndarray]:
    onnx.checker.check_model(onnx.load_from_string(content))
    return ort.InferenceSession(content).run(None, {"x": BATCH})


def find(nodes: list, folder: Path, **constants: np.ndarray) -> Features:
    return find_features(program_of(model_of(nodes, **constants), folder))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("last", ["", "Softmax", "Sigmoid", "LogSoftmax"])
def test_features_are_what_the_last_linear_layer_takes(
    head: str, last: str, tmp_path: Path
) -> None:
    nodes, operator = HEADS[head]
    if last:
        nodes = [*nodes, node(last, ["y"], ["z"])]
    output = "z" if last else "y"
    content = model_of(nodes, output=output)
    found = find_features(program_of(content, tmp_path, output=output))
    assert (found.size, found.operator) == (4, operator)
    outputs, features = run(with_features(content, found))
    np.testing.assert_allclose(features, POOLED, atol=1e-6)
    np.testing.assert_array_equal(outputs, run(content)[0])


@pytest.mark.parametrize("head", HEADS)
def test_another_head_takes_the_place_of_all_that_the_old_one_was(
    head: str, tmp_path: Path
) -> None:
    content = model_of([*HEADS[head][0], node("Softmax", ["y"], ["z"])], output="z")
    found = find_features(program_of(content, tmp_path, output="z"))
    weight, bias = WEIGHT.T[:2] * 3, BIAS[:2] - 1
    changed = with_head(content, found, weight, bias)
    logits, features = run(changed)
    np.testing.assert_allclose(logits, POOLED @ weight.T + bias, atol=1e-5)
    np.testing.assert_allclose(features, POOLED, atol=1e-6)
    graph = onnx.load_from_string(changed).graph
    assert not {"w", "b", "conv"} & {one.name for one in graph.initializer}
    assert not {"Softmax", "Conv", "MatMul"} & {one.op_type for one in graph.node}
    assert [one.name for one in graph.output][0] == "logits"
    again = find_features(program_of(changed, tmp_path, output="logits", outputs=2))
    assert again.size == 4
    thrice = with_head(changed, again, WEIGHT.T[:5].copy(), BIAS[:5])
    np.testing.assert_allclose(run(thrice)[0], LOGITS[:, :5], atol=1e-5)


def test_two_heads_on_the_same_rows_have_features_each_behind_a_norm_of_its_own(
    tmp_path: Path,
) -> None:
    statistics = ["four", "four", "four", "four"]
    nodes = [
        *POOL,
        node("BatchNormalization", ["rows", *statistics], ["r"]),
        node("BatchNormalization", ["rows", *statistics[:3], "ones"], ["s"]),
        node("Gemm", ["r", "w"], ["p"]),
        node("Gemm", ["s", "w", "b"], ["q"]),
        node("Add", ["p", "q"], ["t"]),
        node("Mul", ["t", "half"], ["y"]),
    ]
    constants = {
        "four": np.arange(1, 5).astype(np.float32),
        "ones": np.ones(4, np.float32),
        "half": np.float32(0.5),
    }
    content = model_of(nodes, **constants)
    found = find_features(program_of(content, tmp_path))
    np.testing.assert_allclose(run(with_features(content, found))[1], POOLED, atol=1e-6)


def test_a_cosine_head_whose_weights_are_computed_has_features(tmp_path: Path) -> None:
    nodes = [
        *POOL,
        node("ReduceL2", ["w"], ["n"], axes=[0], keepdims=1),
        node("Div", ["w", "n"], ["unit"]),
        node("MatMul", ["rows", "unit"], ["cosine"]),
        node("Mul", ["cosine", "scale"], ["y"]),
    ]
    assert find(nodes, tmp_path, scale=np.float32(16)).size == 4


def test_outputs_of_half_precision_have_float32_features(tmp_path: Path) -> None:
    nodes = [
        *POOL,
        node("Cast", ["rows"], ["half"], to=TensorProto.FLOAT16),
        node("Gemm", ["half", "hw"], ["h"]),
        node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    content = model_of(nodes, hw=WEIGHT.astype(np.float16))
    found = find_features(program_of(content, tmp_path))
    assert not found.is_float32
    features = run(with_features(content, found))[1]
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, POOLED, atol=1e-3)
    logits = run(with_head(content, found, WEIGHT.T.copy(), BIAS))[0]
    np.testing.assert_allclose(logits, LOGITS, atol=1e-2)


def test_programs_whose_constants_are_inputs_too_can_get_another_head(tmp_path: Path) -> None:
    held = onnx.load_from_string(model_of([*POOL, GEMM]))
    held.graph.input.extend(
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in held.graph.initializer
    )
    content = held.SerializeToString()
    found = find_features(program_of(content, tmp_path))
    changed = onnx.load_from_string(with_head(content, found, WEIGHT.T.copy(), BIAS))
    assert [one.name for one in changed.graph.input] == ["x"]


NONE = "this model gives no features"


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (POOL, NONE),
        (
            [*POOL, node("Gemm", ["rows", "w"], ["p"]), node("TopK", ["p", "axis"], ["y", "i"])],
            NONE,
        ),
        (
            [
                *POOL,
                node("Relu", ["rows"], ["others"]),
                node("Gemm", ["rows", "w"], ["p"]),
                node("Gemm", ["others", "w", "b"], ["q"]),
                node("Add", ["p", "q"], ["y"]),
            ],
            "its class outputs come from 2 linear layers that take different rows",
        ),
        (
            [
                *POOL,
                node("QuantizeLinear", ["rows", "scale", "zero"], ["q8"]),
                node(
                    "QLinearMatMul",
                    ["q8", "scale", "zero", "w8", "scale", "zero"] + ["scale", "zero"],
                    ["p"],
                ),
                node("DequantizeLinear", ["p", "scale", "zero"], ["y"]),
            ],
            "its last linear layer is quantised",
        ),
        (
            [*POOL, node("Gemm", ["rows", "w"], ["p"]), node("MatMul", ["p", "p"], ["y"])],
            NONE,
        ),
        ([node("Conv", ["x", "wide"], ["m"]), node("GlobalAveragePool", ["m"], ["y"])], NONE),
    ],
)
def test_models_without_features_are_refused_by_name(
    nodes: list, message: str, tmp_path: Path
) -> None:
    more = {
        "scale": np.float32(0.1),
        "zero": np.uint8(0),
        "w8": np.zeros((4, 6), np.uint8),
        "wide": np.zeros((6, 4, 3, 3), np.float32),
    }
    with pytest.raises(ModelError, match=message):
        find(nodes, tmp_path, **more)


def test_the_distance_to_prototypes_is_no_linear_layer_of_the_classes(tmp_path: Path) -> None:
    nodes = [*POOL, GEMM, node("Sub", ["y", "b"], ["d"]), node("Mul", ["d", "d"], ["z"])]
    program = program_of(model_of(nodes, output="z"), tmp_path, output="z", outputs=9)
    with pytest.raises(ModelError, match="the last one makes 6 numbers, not 9"):
        find_features(program)


def test_a_damaged_program_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="damaged"):
        find_features(program_of(model_of([*POOL, GEMM])[:-100], tmp_path))


@given(
    head=st.sampled_from(sorted(HEADS)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=4),
)
@settings(max_examples=200)
def test_a_program_of_any_bytes_gives_features_or_a_named_error(
    head: str, changes: list[tuple[float, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(model_of(HEADS[head][0]))
    for where, new in changes:
        at = int(where * (len(content) - 1))
        content[at : at + max(1, len(new))] = new
    try:
        found = find_features(program_of(bytes(content), tmp_path_factory.getbasetemp()))
        with_features(bytes(content), found)
        if found.size == 4:
            with_head(bytes(content), found, WEIGHT.T.copy(), BIAS)
    except (ModelError, BundleError):
        pass


def test_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    content = model_of([*POOL, GEMM])
    found = find_features(program_of(content, tmp_path))
    with pytest.raises(ModelError, match=r"expected \(K, 4\) and \(K,\)"):
        with_head(content, found, WEIGHT, BIAS)


def test_the_built_in_model_has_features_and_takes_another_head() -> None:
    program = built_in_bundle().program
    content = program.path.read_bytes()
    found = find_features(program)
    assert (found.size, found.operator) == (1280, "Gemm")
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(5, 1280)).astype(np.float32), np.ones(5, np.float32)
    batch = rng.normal(size=(2, 3, 224, 224)).astype(np.float32)
    changed = with_head(content, found, weight, bias)
    logits, features = ort.InferenceSession(changed).run(None, {program.input_name: batch})
    np.testing.assert_allclose(logits, features @ weight.T + bias, rtol=1e-5, atol=1e-4)
    assert len(content) - len(changed) > 990 * 1280 * 4  # the old head is gone
