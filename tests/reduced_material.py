"""A small network with a reduced program: int8 by ONNX Runtime's quantiser, and its margin."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from toplabel.bundle import cache
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.file import open_packed, pack
from toplabel.bundle.margin import Margin
from toplabel.bundle.program import Program
from toplabel.bundle.reduced import REDUCED_NAME, REDUCED_REFERENCE_NAME, ReducedProgram
from toplabel.bundle.reference import ReferenceOutputs
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine
from toplabel.inference.margin import fit_margin
from toplabel.inference.scoring import Question
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

SIZE = 16
KINDS = ("ant", "bee", "cat", "dog", "emu")
RECIPE = Preprocess(
    input_size=(SIZE, SIZE),
    resize_mode="shortest",
    resize_size=(SIZE, SIZE),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)


def reduced_bundle(folder: Path, *, multi_label: bool = False) -> Bundle:
    """The bundle in an empty folder, with both programs; made anew, in a second."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    exact_model = _network()
    onnx.save(exact_model, folder / "program.onnx")
    bundle = _exact_bundle(folder, multi_label=multi_label)
    photos = random_tensors(600)
    quantize_static(
        folder / "program.onnx",
        folder / REDUCED_NAME,
        _Reader(photos[:50]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=["last"],
    )
    return replace(bundle, reduced=_reduced(bundle, photos[50:]))


def packed_with_reduced(folder: Path, bundle: Bundle) -> Path:
    """A bundle file whose reduced program is in the cache; what `load` takes."""
    assert bundle.reduced is not None
    path = folder / "kinds.toplabel"
    pack(replace(bundle, reduced=None), path)
    opened = open_packed(path)
    there = opened.program.path.parent
    reduced = replace(
        bundle.reduced, path=there / REDUCED_NAME, reference_path=there / REDUCED_REFERENCE_NAME
    )
    shutil.copyfile(bundle.reduced.path, reduced.path)
    shutil.copyfile(bundle.reduced.reference_path, reduced.reference_path)
    signature = cache.FileSignature.of(path)
    manifest = replace(opened, reduced=reduced).to_manifest()
    cache.store_entry(signature.real_path, manifest, weights_files=[signature])
    return path


def random_tensors(count: int, *, seed: int = 0) -> np.ndarray:
    """float32 (N, 3, SIZE, SIZE): blotches of colour, as the recipe makes them."""
    return np.stack([RECIPE(pixels) for pixels in random_pixels(count, seed=seed)])


def random_pixels(count: int, *, seed: int = 0) -> np.ndarray:
    """uint8 (N, SIZE, SIZE, 3): blotches of colour."""
    generator = np.random.Generator(np.random.PCG64(seed))
    coarse = generator.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def draw_photos(folder: Path, count: int, *, seed: int = 1) -> list[str]:
    """Files of such blotches; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / f"{index:05d}.png") for index in range(count)]
    for path, pixels in zip(paths, random_pixels(count, seed=seed), strict=True):
        Image.fromarray(pixels).save(path, compress_level=1)
    return paths


class _Reader:
    """What the quantiser reads images from."""

    def __init__(self, tensors: np.ndarray) -> None:
        self._tensors = iter(tensors)

    def get_next(self) -> dict[str, np.ndarray] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {"image": tensor[None]}


def _network() -> Any:
    """Two convolutions and a linear layer, with weights of the same luck every time."""
    import onnxruntime

    generator = np.random.Generator(np.random.PCG64(7))
    shapes = ((16, 3, 3, 3), (16, 16, 3, 3), (5, 16))
    weights = [
        generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for shape in shapes
    ]
    raw = _graph([*weights, np.zeros(5, np.float32)])
    session = onnxruntime.InferenceSession(raw.SerializeToString())
    logits = session.run(["logits"], {"image": random_tensors(200, seed=3)})[0]
    scale = 2 / logits.std(axis=0)  # so that each class has its images
    weights[2] *= scale[:, None]
    return _graph([*weights, (-logits.mean(axis=0) * scale).astype(np.float32)])


def _graph(weights: list[np.ndarray]) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], kernel_shape=[3, 3], name="first"),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], kernel_shape=[3, 3], name="second"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "w3"], ["logits"], transB=1, name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array, f"w{place}") for place, array in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _exact_bundle(folder: Path, *, multi_label: bool) -> Bundle:
    program = Program(
        path=folder / "program.onnx",
        reference_path=folder / "goldens.npz",
        key="e" * 64,
        input_name="image",
        output_name="logits",
        input_shape=(3, SIZE, SIZE),
        outputs=5,
        fixed_batch=False,
        exporter="a test",
        agreement={},
    )
    _draw_references(program.path, program.reference_path)
    program.write(folder)
    return Bundle(
        name="test/kinds@00000000",
        program=program,
        preprocess=RECIPE,
        labels=Labels(KINDS),
        activation="sigmoid" if multi_label else "softmax",
        multi_label=multi_label,
    )


def _draw_references(program: Path, target: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])

    def run(batch: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["logits"], {"image": batch})[0])

    ReferenceOutputs.draw(RECIPE, run).save(target)


def _reduced(bundle: Bundle, tensors: np.ndarray) -> ReducedProgram:
    folder = bundle.program.path.parent
    _draw_references(folder / REDUCED_NAME, folder / REDUCED_REFERENCE_NAME)
    draft = ReducedProgram(
        path=folder / REDUCED_NAME,
        reference_path=folder / REDUCED_REFERENCE_NAME,
        key="d" * 64,
        precision="int8",
        engine="onnxruntime",
        margin=Margin(logits=10.0, images=1),
        speedup=1.0,
        processor="this one",
        images=len(tensors),
    )
    exact = OnnxRuntimeEngine(bundle.program)
    reduced = OnnxRuntimeEngine(draft.as_program(bundle.program))
    margin = fit_margin(
        exact(tensors),
        reduced(tensors),
        Question(activation=bundle.activation, multi_label=bundle.multi_label),
    )
    assert isinstance(margin, Margin), margin
    return replace(draft, margin=margin)


def with_wrong_program(bundle: Bundle, folder: Path) -> Bundle:
    """The same with a program in `folder` that is sure of the opposite, as no gate lets through."""
    import onnx
    from onnx import numpy_helper

    assert bundle.reduced is not None
    wrong = onnx.load(bundle.program.path)
    for array in wrong.graph.initializer:
        if array.name in ("w2", "w3"):
            opposite = -100 * numpy_helper.to_array(array)
            array.CopyFrom(numpy_helper.from_array(opposite, array.name))
    onnx.save(wrong, folder / REDUCED_NAME)
    _draw_references(folder / REDUCED_NAME, folder / REDUCED_REFERENCE_NAME)
    reduced = replace(
        bundle.reduced,
        key="c" * 64,
        path=folder / REDUCED_NAME,
        reference_path=folder / REDUCED_REFERENCE_NAME,
    )
    return replace(bundle, reduced=reduced)


def with_margin(bundle: Bundle, margin: float) -> Bundle:
    """The same with another margin, as if it had been found."""
    assert bundle.reduced is not None
    found = replace(bundle.reduced.margin, logits=margin)
    return replace(bundle, reduced=replace(bundle.reduced, margin=found))
