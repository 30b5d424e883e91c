"""ONNX files from elsewhere: what they say, what they take, what is refused, and how."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from toplabel.bundle.bundle import Bundle
from toplabel.bundle.file import open_packed, pack
from toplabel.bundle.onnx_import import describe_onnx, open_onnx
from toplabel.errors import (
    BundleError,
    LabelsError,
    ModelError,
    PreprocessError,
    ToplabelWarning,
)
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

IMAGE = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)
LABELS = Labels(("cat", "dog", "fox", "owl"))


def preprocessing(size: int = 16, channels: int = 3) -> Preprocess:
    return Preprocess(
        input_size=(size, size),
        resize_mode="squash",
        resize_size=(size, size),
        channels="rgb" if channels == 3 else channels,
        mean=(0.4,) * channels,
        std=(0.25,) * channels,
        pad_value=(0,) * channels,
    )


PREPROCESS = preprocessing()


class Net:
    """Mean of each channel times a matrix; each part can be put in another way."""

    def __init__(self, **changes: Any) -> None:
        self.shape: list[Any] | None = ["N", 3, 16, 16]
        self.axes = [2, 3]
        self.dtype = TensorProto.FLOAT
        self.last: list[onnx.NodeProto] = [helper.make_node("Identity", ["product"], ["logits"])]
        self.outputs = {"logits": ["N", 4]}
        self.channels = 3
        self.classes = 4
        self.metadata: dict[str, str] = {}
        self.more_inputs: list[onnx.ValueInfoProto] = []
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def proto(self) -> onnx.ModelProto:
        generator = np.random.default_rng(0)
        matrix = generator.normal(size=(self.channels, self.classes)).astype(np.float32) * 9
        kind = helper.tensor_dtype_to_np_dtype(self.dtype)
        nodes = [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=self.axes, keepdims=0),
            helper.make_node("MatMul", ["mean", "matrix"], ["product"]),
            *self.last,
        ]
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("image", self.dtype, self.shape), *self.more_inputs],
            [
                helper.make_tensor_value_info(name, self.dtype, shape)
                for name, shape in self.outputs.items()
            ],
            [onnx.numpy_helper.from_array(matrix.astype(kind), "matrix")],
        )
        opsets = [helper.make_opsetid("", 13)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="maker")
        model.producer_version = "1.2"
        helper.set_model_props(model, self.metadata)
        return model

    def save(self, path: Path) -> Path:
        onnx.save(self.proto(), path)
        return path


def read(path: Path, **options: Any) -> Bundle:
    options = {"labels": LABELS, "preprocess": PREPROCESS} | options
    return open_onnx(path, **options)


def logits(bundle: Bundle, images: int = 1) -> list[dict[str, float]]:
    with Predictor(Classifier.of_bundle(bundle), threads=1) as model:
        return [
            {top.label: top.score for top in prediction.top}
            for prediction in model([IMAGE] * images)
        ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Net().save(tmp_path / "net.onnx")


def test_an_onnx_file_becomes_a_bundle_that_gives_its_outputs(path: Path) -> None:
    bundle = read(path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"image": PREPROCESS(IMAGE)[None]})
    expected = np.exp(outputs[0]) / np.exp(outputs[0]).sum()
    (scores,) = logits(bundle)
    assert [scores[name] for name in LABELS] == pytest.approx(expected.tolist(), abs=1e-6)
    assert bundle.name.startswith("net.onnx@")
    assert bundle.program.exporter == "maker 1.2"
    assert "without PyTorch" in str(bundle.program.agreement["checked_with"])
    assert bundle.provenance["producer"] == "maker 1.2"
    assert not bundle.program.fixed_batch


def test_the_second_opening_reads_nothing_and_runs_nothing(path: Path) -> None:
    first = read(path)
    code = f"""
import sys
from toplabel.labels.labels import Labels
from toplabel.bundle.onnx_import import open_onnx
from toplabel.preprocess.preprocess import Preprocess
preprocess = Preprocess.from_json({PREPROCESS.to_json()!r})
labels = Labels({LABELS.names!r})
bundle = open_onnx({str(path)!r}, labels=labels, preprocess=preprocess)
print(bundle.name, sorted({{"onnxruntime", "onnx", "torch"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{first.name} []\n"


def test_other_labels_use_the_same_program_and_a_changed_file_another(path: Path) -> None:
    first = read(path)
    other = read(path, labels=Labels(("w", "x", "y", "z")))
    assert other.program == first.program
    assert other.labels.names == ("w", "x", "y", "z")
    Net(axes=[2, 3], metadata={"a": "b"}).save(path)
    assert read(path).program.key != first.program.key


def test_what_came_from_an_onnx_file_can_be_packed(path: Path, tmp_path: Path) -> None:
    bundle = read(path)
    pack(bundle, tmp_path / "net.toplabel")
    assert logits(open_packed(tmp_path / "net.toplabel")) == logits(bundle)


def test_labels_and_preprocessing_come_from_the_metadata(tmp_path: Path) -> None:
    metadata = {
        "toplabel.labels": json.dumps(LABELS.names),
        "toplabel.preprocess": PREPROCESS.to_json(),
        "license": "AGPL-3.0",
    }
    bundle = read(Net(metadata=metadata).save(tmp_path / "net.onnx"), labels=None, preprocess=None)
    assert (bundle.labels, bundle.preprocess) == (LABELS, PREPROCESS)
    assert bundle.provenance["licence"] == "AGPL-3.0"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'cat', 1: 'dog', 2: 'fox', 3: 'owl'}"),  # as Ultralytics writes them
        ("names", '{"0": "cat", "1": "dog", "2": "fox", "3": "owl"}'),
        ("classes", "['cat', 'dog', 'fox', 'owl']"),
        ("id2label", '{"3": "owl", "2": "fox", "1": "dog", "0": "cat"}'),
        ("labels", '{"cat": 0, "dog": 1, "fox": 2, "owl": 3}'),
    ],
)
def test_labels_of_common_metadata_are_understood(tmp_path: Path, key: str, text: str) -> None:
    path = Net(metadata={key: text}).save(tmp_path / "net.onnx")
    assert read(path, labels=None).labels == LABELS
    assert read(path, labels=Labels(("w", "x", "y", "z"))).labels[0] == "w"


@pytest.mark.parametrize("text", ["cat,dog", "__import__('os').getcwd()", "[" * 5000, "7", "[1]"])
def test_labels_that_are_none_are_refused_and_nothing_is_run(tmp_path: Path, text: str) -> None:
    path = Net(metadata={"names": text}).save(tmp_path / "net.onnx")
    with pytest.raises(LabelsError, match="metadata 'names' holds no class names"):
        read(path, labels=None)


def test_labels_of_another_count_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="got 2 labels for a model with 4 outputs"):
        read(path, labels=Labels(("a", "b")))
    two = Net(metadata={"names": "['a', 'b']"}).save(tmp_path / "two.onnx")
    with pytest.raises(LabelsError, match="got 2 labels for a model with 4 outputs"):
        read(two, labels=None)


def test_without_labels_answers_are_indices_and_that_is_said_each_time(path: Path) -> None:
    for _ in range(2):
        with pytest.warns(ToplabelWarning, match="labels are class indices"):
            bundle = read(path, labels=None)
        assert bundle.labels == Labels.indices(4)


def test_without_a_preprocessing_it_says_what_to_pass(path: Path, tmp_path: Path) -> None:
    with pytest.raises(PreprocessError, match=r"takes \(N, 3, 16, 16\): pass preprocess="):
        read(path, preprocess=None)
    wrong = Net(metadata={"toplabel.preprocess": "{}"}).save(tmp_path / "wrong.onnx")
    with pytest.raises(
        PreprocessError,
        match=r"metadata 'toplabel\.preprocess': the preprocessing has no 'input_size'",
    ):
        read(wrong, preprocess=None)


@pytest.mark.parametrize("given", [preprocessing(32), preprocessing(16, channels=4)])
def test_a_preprocessing_that_does_not_fit_is_refused(path: Path, given: Preprocess) -> None:
    with pytest.raises(PreprocessError, match=r"net\.onnx takes \(N, 3, 16, 16\)"):
        read(path, preprocess=given)


def test_free_sizes_come_from_the_preprocessing(tmp_path: Path) -> None:
    path = Net(shape=["N", 3, "height", None]).save(tmp_path / "net.onnx")
    assert read(path, preprocess=preprocessing(24)).program.input_shape == (3, 24, 24)
    assert read(path, preprocess=preprocessing(32)).program.input_shape == (3, 32, 32)


def test_any_number_of_channels_is_taken(tmp_path: Path) -> None:
    path = Net(shape=["N", 5, 16, 16], channels=5).save(tmp_path / "net.onnx")
    assert read(path, preprocess=preprocessing(16, channels=5)).program.input_shape == (5, 16, 16)


def test_a_program_for_one_image_is_run_one_by_one(tmp_path: Path) -> None:
    path = Net(shape=[1, 3, 16, 16], outputs={"logits": [1, 4]}).save(tmp_path / "net.onnx")
    bundle = read(path)
    assert bundle.program.fixed_batch
    one, *others = logits(bundle, images=3)
    assert others == [one, one]


def test_a_batch_that_is_free_by_name_only_is_found_out(tmp_path: Path) -> None:
    shape = onnx.numpy_helper.from_array(np.array([1, 4]), "shape")
    constant = helper.make_node("Constant", [], ["shape"], value=shape)
    last = [constant, helper.make_node("Reshape", ["product", "shape"], ["logits"])]
    assert read(Net(last=last).save(tmp_path / "net.onnx")).program.fixed_batch


def refused(net: Net, tmp_path: Path, match: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=match):
        read(net.save(tmp_path / "net.onnx"), **options)


@pytest.mark.parametrize("shape", [["N", 16, 16, 3], ["N", None, None, 3]])
def test_channels_last_is_refused_by_name(tmp_path: Path, shape: list[Any]) -> None:
    refused(
        Net(shape=shape, axes=[1, 2]), tmp_path, r"channels last; expected \(N, C, H, W\).*tf2onnx"
    )


def test_other_kinds_of_input_are_refused_by_name(tmp_path: Path) -> None:
    refused(Net(dtype=TensorProto.FLOAT16), tmp_path, "takes float16; expected float32")
    refused(Net(shape=[8, 3, 16, 16]), tmp_path, "takes exactly 8 images at once")
    refused(Net(shape=["N", 3, 16], axes=[2]), tmp_path, r"shape \(N, 3, 16\); expected \(N, C")
    second = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1])
    refused(Net(more_inputs=[second]), tmp_path, r"has 2 inputs \('image', 'mask'\)")


def test_outputs_that_are_no_single_row_of_scores_are_refused_by_name(tmp_path: Path) -> None:
    twice = [
        helper.make_node("Identity", ["product"], ["one"]),
        helper.make_node("Neg", ["product"], ["other"]),
    ]
    both = {"one": ["N", 4], "other": ["N", 4]}
    refused(Net(last=twice, outputs=both), tmp_path, "'one' .*'other' .*found 2; pass output=")
    best = [
        helper.make_node("ArgMax", ["product"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["logits"], to=TensorProto.FLOAT),
    ]
    index = Net(last=best, outputs={"logits": ["N"]})
    refused(index, tmp_path, "whole number, as the index", labels=None)


def test_of_several_outputs_the_one_with_scores_is_taken(tmp_path: Path) -> None:
    last = [
        helper.make_node("Identity", ["product"], ["logits"]),
        helper.make_node("Relu", ["image"], ["features"]),
    ]
    outputs = {"features": ["N", 3, 16, 16], "logits": ["N", 4]}
    path = Net(last=last, outputs=outputs).save(tmp_path / "net.onnx")
    assert read(path).program.output_name == "logits"
    assert len(logits(read(path), 3)) == 3


def test_the_output_that_is_named_is_taken_by_name_or_place(tmp_path: Path) -> None:
    twice = [
        helper.make_node("Identity", ["product"], ["first"]),
        helper.make_node("Neg", ["product"], ["second"]),
    ]
    net = Net(last=twice, outputs={"first": ["N", 4], "second": ["N", 4]})
    path = net.save(tmp_path / "net.onnx")
    (first,) = logits(read(path, output="first"))
    (second,) = logits(read(path, output=1))
    assert list(first) == list(reversed(second))
    assert logits(read(path, output="1")) == [second]
    refused(net, tmp_path, "got output='third' .*'first' .*'second'", output="third")


@pytest.mark.parametrize("shape", [[-1, 4, 1, 1], [-1, 1, 4], [-1, 4, 1], [-1, 1, 1, 4]])
def test_axes_of_one_are_taken_away(tmp_path: Path, shape: list[int]) -> None:
    wanted = onnx.numpy_helper.from_array(np.array(shape), "shape")
    last = [
        helper.make_node("Constant", [], ["shape"], value=wanted),
        helper.make_node("Reshape", ["product", "shape"], ["logits"]),
    ]
    shown = ["N", *shape[1:]]
    path = Net(last=last, outputs={"logits": shown}).save(tmp_path / "shaped.onnx")
    assert logits(read(path), 3) == logits(read(Net().save(tmp_path / "net.onnx")), 3)


def test_one_output_says_yes_or_no(tmp_path: Path) -> None:
    path = Net(classes=1, outputs={"logits": ["N", 1]}).save(tmp_path / "net.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ((logit,),) = session.run(None, {"image": PREPROCESS(IMAGE)[None]})[0]
    yes = 1 / (1 + np.exp(-logit))
    one = read(path, labels=Labels(("dog",)), multi_label=True)
    assert (one.activation, one.multi_label, tuple(one.labels)) == ("sigmoid", True, ("dog",))
    for labels, names in ((("cat", "dog"), ("cat", "dog")), (("dog",), ("not dog", "dog"))):
        (scores,) = logits(read(path, labels=Labels(labels)))
        assert scores == pytest.approx(dict(zip(names, (1 - yes, yes), strict=True)), abs=1e-6)
    with pytest.warns(ToplabelWarning, match="one output and no class names"):
        bundle = read(path, labels=None)
    assert logits(bundle)[0]["yes"] == pytest.approx(yes, abs=1e-6)
    with pytest.warns(ToplabelWarning, match="one output and no class names"):  # from the cache
        read(path, labels=None)
    with pytest.raises(LabelsError, match="one output means yes or no"):
        read(path)


def test_what_is_done_to_the_outputs_is_packed_with_them(tmp_path: Path) -> None:
    net = Net(
        classes=1,
        outputs={"logits": ["N", 1]},
        last=[helper.make_node("Sigmoid", ["product"], ["logits"])],
    )
    bundle = read(net.save(tmp_path / "net.onnx"), labels=Labels(("cat", "dog")))
    assert bundle.conversion.pair == "scores"
    pack(bundle, tmp_path / "net.toplabel")
    opened = open_packed(tmp_path / "net.toplabel")
    assert opened.conversion == bundle.conversion
    assert logits(opened) == logits(bundle)
    manifest = opened.to_manifest()
    assert manifest["schema"] == 2  # an older toplabel must not read it
    assert read(Net().save(tmp_path / "four.onnx")).to_manifest()["schema"] == 1


def _of(*kinds: Any) -> list[onnx.NodeProto]:
    """Operators one behind the other, from the product to the logits."""
    names = ["product", *(f"step{place}" for place in range(len(kinds) - 1)), "logits"]
    nodes = []
    for (kind, inputs, attributes), given, made in zip(kinds, names, names[1:], strict=False):
        for place, value in enumerate(inputs):
            constant = onnx.numpy_helper.from_array(np.asarray(value), f"{made}{place}")
            nodes.append(helper.make_node("Constant", [], [f"{made}{place}"], value=constant))
        held = [f"{made}{place}" for place in range(len(inputs))]
        nodes.append(helper.make_node(kind, [given, *held], [made], **attributes))
    return nodes


@pytest.mark.parametrize(
    "last",
    [
        _of(("Sigmoid", [], {}), ("Clip", [np.float32(1e-6), np.float32(1)], {})),
        _of(("Sigmoid", [], {}), ("Cast", [], {"to": 10}), ("Cast", [], {"to": 1})),
        _of(("Sigmoid", [], {}), ("Reshape", [np.array([-1, 4])], {})),
        _of(("HardSigmoid", [], {})),
        _of(("Neg", [], {}), ("Exp", [], {}), ("Add", [np.float32(1)], {}), ("Reciprocal", [], {})),
        _of(("Tanh", [], {}), ("Add", [np.float32(1)], {}), ("Div", [np.float32(2)], {})),
        _of(
            ("Sigmoid", [], {}),
            ("Mul", [np.float32(100)], {}),
            ("Round", [], {}),
            ("Div", [np.float32(100)], {}),
        ),
    ],
    ids=["clip", "cast", "reshape", "hard", "exp", "tanh", "rounded"],
)
def test_an_own_sigmoid_is_known_by_the_graph(tmp_path: Path, last: list[onnx.NodeProto]) -> None:
    path = Net(last=last).save(tmp_path / "net.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"image": PREPROCESS(IMAGE)[None]})[0]
    bundle = read(path, multi_label=True)
    expected = {n: float(s) for n, s in zip(LABELS, scores, strict=True) if s >= 0.5}
    assert logits(bundle) == [pytest.approx(expected, abs=1e-6)]


def test_logits_that_happen_to_lie_between_0_and_1_are_logits(tmp_path: Path) -> None:
    last = _of(("Mul", [np.float32(1e-2)], {}), ("Add", [np.float32(0.5)], {}))
    bundle = read(Net(last=last).save(tmp_path / "net.onnx"), multi_label=True)
    assert (bundle.activation, bundle.conversion.to_dict()["scale"]) == ("sigmoid", 1.0)


def test_a_class_that_is_masked_with_minus_infinity_is_none(tmp_path: Path) -> None:
    last = _of(("Add", [np.array([0, -np.inf, 0, 0], np.float32)], {}))
    (scores,) = logits(read(Net(last=last).save(tmp_path / "net.onnx")))
    assert scores["dog"] == 0
    assert sum(scores.values()) == pytest.approx(1)


def test_scores_that_are_probabilities_already_stay_as_they_are(tmp_path: Path) -> None:
    softmax = Net(last=[helper.make_node("Softmax", ["product"], ["logits"], axis=1)])
    assert read(softmax.save(tmp_path / "softmax.onnx")).activation == "none"
    sigmoid = Net(last=[helper.make_node("Sigmoid", ["product"], ["logits"])])
    bundle = read(sigmoid.save(tmp_path / "sigmoid.onnx"), multi_label=True)
    assert bundle.activation == "none"


def test_answers_that_depend_on_the_batch_or_on_chance_are_refused(tmp_path: Path) -> None:
    mean = helper.make_node("ReduceMean", ["product"], ["all"], axes=[0], keepdims=1)
    batch = [mean, helper.make_node("Sub", ["product", "all"], ["logits"])]
    refused(Net(last=batch), tmp_path, "cannot be used as a classifier|depends on the other")
    half = helper.make_node("Constant", [], ["half"], value_float=0.5)
    scaled = [
        helper.make_node("ReduceMean", ["product"], ["all"], axes=[0], keepdims=1),
        half,
        helper.make_node("Mul", ["all", "half"], ["part"]),
        helper.make_node("Sub", ["product", "part"], ["logits"]),
    ]
    refused(Net(last=scaled), tmp_path, "depends on the other images of its batch")
    noise = helper.make_node("RandomNormalLike", ["product"], ["noise"])
    random = [noise, helper.make_node("Add", ["product", "noise"], ["logits"])]
    refused(Net(last=random), tmp_path, "gives different outputs for the same image")


def test_operators_that_onnxruntime_does_not_know_are_named(tmp_path: Path) -> None:
    mine = Net(last=[helper.make_node("MyOp", ["product"], ["logits"], domain="my.own")])
    refused(mine, tmp_path, "cannot run net.onnx: .*(MyOp|my.own).*standard operators")


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(99), b"\x08\x07", os.urandom(4096)])
def test_what_is_no_onnx_file_is_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="is not an ONNX file, or is damaged"):
        read(path)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read '.*nowhere.onnx'"):
        read(tmp_path / "nowhere.onnx")
    with pytest.raises(BundleError, match="is not a file"):
        read(tmp_path)


def test_a_file_of_a_million_fields_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x01" * 1_500_000)
    with pytest.raises(BundleError, match="more than 1,000,000 fields"):
        read(path)


def test_graphs_within_graphs_end_somewhere(tmp_path: Path) -> None:
    def wrapped(content: bytes, *numbers: int) -> bytes:
        for number in numbers:
            size, length = len(content), bytearray()
            while size >= 0x80:
                length.append(size & 0x7F | 0x80)
                size >>= 7
            length.append(size)
            content = bytes([number << 3 | 2]) + bytes(length) + content
        return content

    graph = b""
    for _ in range(200):
        graph = wrapped(graph, 6, 5, 1)  # a graph in an attribute of a node of a graph
    (tmp_path / "net.onnx").write_bytes(wrapped(graph, 7))
    with pytest.raises(BundleError, match="subgraphs nested more than"):
        read(tmp_path / "net.onnx")


def save_with_weights(folder: Path, location: str) -> Path:
    folder.mkdir(exist_ok=True)
    model = Net().proto()
    (tensor,) = model.graph.initializer
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_weights_beside_the_file_are_taken_and_watched(tmp_path: Path) -> None:
    path = save_with_weights(tmp_path / "net", "weights.bin")
    before = logits(read(path))
    assert before == logits(read(Net().save(tmp_path / "whole.onnx")))
    weights = np.fromfile(path.parent / "weights.bin", np.float32)
    (weights[::-1] * 2).tofile(path.parent / "weights.bin")
    assert logits(read(path)) != before


@pytest.mark.parametrize(
    "location", ["../weights.bin", "sub/weights.bin", "..", "", "a\\b", "link.bin", "/abs"]
)
def test_weights_anywhere_else_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    location = str(tmp_path / "weights.bin") if location == "/abs" else location
    path = save_with_weights(tmp_path / "net", location)
    (tmp_path / "net" / "sub").mkdir()
    (tmp_path / "net" / "sub" / "weights.bin").write_bytes(bytes(48))
    (tmp_path / "net" / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(BundleError, match="keeps its weights in .*; expected a file beside it"):
        read(path)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    path = save_with_weights(tmp_path / "net", "gone.bin")
    with pytest.raises(BundleError, match=r"cannot read .*gone\.bin' No such file"):
        read(path)


def test_links_into_one_folder_of_blobs_are_followed(tmp_path: Path) -> None:
    path = save_with_weights(tmp_path / "blobs", "weights.bin")  # as Hugging Face's cache has it
    (tmp_path / "snapshot").mkdir()
    for name in ("net.onnx", "weights.bin"):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / name)
    assert logits(read(tmp_path / "snapshot" / "net.onnx")) == logits(read(path))


def test_weights_under_a_name_that_a_program_needs_are_refused(tmp_path: Path) -> None:
    path = save_with_weights(tmp_path / "net", "goldens.npz")
    (tmp_path / "net" / "goldens.npz").write_bytes(bytes(48))
    with pytest.raises(BundleError, match="a name that toplabel needs itself"):
        read(path)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_is_an_error_or_an_answer_and_never_a_crash(
    path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = path.read_bytes()
    generator = np.random.default_rng(5)
    messages: list[str] = []
    for step in range(5, 100, 5) if damage == "cut" else range(60):
        content = bytearray(whole)
        if damage == "cut":
            content = content[: len(whole) * step // 100]
        else:
            content[int(generator.integers(len(whole)))] ^= 1 << int(generator.integers(8))
        path.write_bytes(content)
        try:
            read(path)
        except (BundleError, ModelError, PreprocessError) as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
    assert capfd.readouterr() == ("", "")


def test_names_that_are_no_text_are_refused_and_nothing_is_printed(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path.write_bytes(path.read_bytes().replace(b"logits", b"log\xe5ts"))
    with pytest.raises((BundleError, ModelError)):
        read(path)
    assert capfd.readouterr() == ("", "")


def test_an_onnx_file_is_described(tmp_path: Path) -> None:
    net = Net(metadata={"names": "{0: 'cat', 1: 'dog', 2: 'fox', 3: 'owl'}", "license": "MIT"})
    found = describe_onnx(net.save(tmp_path / "net.onnx"))
    assert found["input"] == "image float32 (N, 3, 16, 16)"
    assert (found["classes"], found["labels"]) == (4, list(LABELS))
    assert (found["outputs"], found["producer"], found["licence"]) == (
        ["logits"],
        "maker 1.2",
        "MIT",
    )
    assert found["preprocess"] is None
    json.dumps(found)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"", "an empty file"),
    ],
)
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    for use in (read, describe_onnx):
        with pytest.raises(BundleError, match=f"is {kind}"):
            use(path)


def test_weights_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    proto = Net().proto()
    onnx.external_data_helper.convert_model_to_external_data(
        proto, location="weights.bin", size_threshold=0
    )
    onnx.save(proto, tmp_path / "net.onnx")
    (tmp_path / "weights.bin").unlink()
    os.mkfifo(tmp_path / "weights.bin")
    with pytest.raises(BundleError, match="which is not a file"):
        describe_onnx(tmp_path / "net.onnx")
