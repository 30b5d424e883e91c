"""A small network as a bundle, and images whose colours tell its classes apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toplabel._internal.onnxruntime import open_session
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.program import Program
from toplabel.bundle.reference import ReferenceOutputs, draw_inputs
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

SIZE = 24
PREPROCESS = Preprocess(
    input_size=(SIZE, SIZE), resize_mode="none", mean=(0.5,) * 3, std=(0.5,) * 3
)


def drawn_images(count: int, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Noise around a colour of its own: uint8 (24, 24, 3) each."""
    generator = np.random.default_rng(seed)
    colours = generator.integers(0, 256, (count, 1, 1, 3))
    noise = generator.integers(-24, 25, (count, SIZE, SIZE, 3))
    return list(np.clip(colours + noise, 0, 255).astype(np.uint8))


def network(*, depthwise: bool = False, norm: bool = False, layers: int = 3) -> onnx.ModelProto:
    """Convolutions, a mean, and a linear layer of five classes; N is free."""
    generator = np.random.default_rng(1)
    nodes, weights, taken, channels = [], [], "input", 3

    def weight(name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        values = generator.normal(size=shape).astype(np.float32) * (2 / fan_in) ** 0.5
        weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    for place in range(layers):
        group = channels if depthwise and place % 2 else 1
        names = [weight(f"w{place}", 16, channels // group, 3, 3), weight(f"b{place}", 16)]
        nodes.append(
            onnx.helper.make_node("Conv", [taken, *names], [f"c{place}"], pads=[1] * 4, group=group)
        )
        nodes.append(onnx.helper.make_node("Relu", [f"c{place}"], [f"r{place}"]))
        taken, channels = f"r{place}", 16
    if norm:
        names = [weight("scale", 16), weight("shift", 16)]
        nodes.append(onnx.helper.make_node("InstanceNormalization", [taken, *names], ["normed"]))
        taken = "normed"
    nodes += [
        onnx.helper.make_node("GlobalAveragePool", [taken], ["mean"]),
        onnx.helper.make_node("Flatten", ["mean"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", weight("head", channels, 5)], ["logits"], alpha=9.0),
    ]
    tensor, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [tensor("input", kind, ["N", 3, SIZE, SIZE])],
        [tensor("logits", kind, ["N", 5])],
        weights,
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def make_program(folder: Path, model: onnx.ModelProto) -> Program:
    """The network as a program, with its reference outputs, in a new folder."""
    folder.mkdir(parents=True)
    onnx.save(model, folder / "program.onnx")
    program = Program(
        path=folder / "program.onnx",
        reference_path=folder / "goldens.npz",
        key="cd" * 32,
        input_name="input",
        output_name="logits",
        input_shape=(3, SIZE, SIZE),
        outputs=5,
        fixed_batch=False,
        exporter="by hand",
        agreement={"max_difference": 0.0, "checked_with": "onnxruntime"},
    )
    pixels = draw_inputs((3, SIZE, SIZE))
    scale, offset = np.full(3, 2 / 255, np.float32), np.full(3, -1, np.float32)
    reference = ReferenceOutputs(pixels, scale, offset, np.zeros((len(pixels), 5), np.float32))
    (logits,) = open_session(program.path).run(["logits"], {"input": reference.inputs()})
    replace(reference, logits=logits).save(program.reference_path)
    program.write(folder)
    return program


def make_bundle(folder: Path, model: onnx.ModelProto | None = None) -> Bundle:
    """The network as a bundle of five classes, in a new folder."""
    return Bundle(
        name="test/small@01234567",
        program=make_program(folder, network() if model is None else model),
        preprocess=PREPROCESS,
        labels=Labels(("cat", "dog", "fox", "hen", "owl")),
        provenance={"source": "test", "licence": "MIT"},
    )
