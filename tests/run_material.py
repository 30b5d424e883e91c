"""What the tests of runs share: a small model as a file, images of one colour, and killers."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

COLOURS = ("red", "green", "blue")
RECIPE = Preprocess(
    input_size=(8, 8), resize_mode="squash", resize_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)
)


class MeanEngine:
    """Says which colour dominates, in this process."""

    name = "onnxruntime"
    device = "cpu"
    normalises = None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return batch.mean(axis=(2, 3)) * 20

    def answer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self(batch), batch.mean(axis=(2, 3))


def local_predictor(**options: Any) -> Predictor:
    """A predictor without a bundle, which a run keeps on its own threads."""
    engine = MeanEngine()
    classifier = Classifier(
        name="test/colours@00000000",
        preprocess=RECIPE,
        labels=Labels(COLOURS),
        activation="softmax",
        open_engine=lambda threads, features=False: engine,
        parallel=True,
    )
    return Predictor(classifier, **options)


def save_model(folder: Path, *, scale: float = 20, last: str = "") -> dict[str, Any]:
    """The same as an ONNX file with its recipe; what `load` and `run` take to open it.

    Args:
        folder: Where to put it.
        scale: Of the logits.
        last: An operation that the network ends in, such as a sigmoid.
    """
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "matrix"], ["product"]),
        helper.make_node(last or "Identity", ["product"], ["logits"]),
    ]
    matrix = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32) * np.float32(scale), "matrix")
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [matrix],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "colours.onnx")
    (folder / "recipe.json").write_text(json.dumps(RECIPE.to_dict()))
    (folder / "labels.txt").write_text("\n".join(COLOURS))
    return {
        "model": str(folder / "colours.onnx"),
        "preprocess": str(folder / "recipe.json"),
        "labels": str(folder / "labels.txt"),
    }


def as_arguments(model: dict[str, Any]) -> list[str]:
    """What the command line takes for `save_model`'s model."""
    flags = {f"--{name.replace('_', '-')}": value for name, value in model.items()}
    return [part for flag, value in flags.items() for part in [flag, value][: 2 - (value is True)]]


def colour_bytes(index: int, size: int = 16) -> bytes:
    """A PNG of one of the colours, each index a little different."""
    pixels = np.zeros((size, size + index % 5, 3), np.uint8)
    pixels[..., index % 3] = 255 - index % 100
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def draw_colours(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """Files `00000.png` and so on; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(first, first + count):
        path = folder / f"{index:05d}.png"
        path.write_bytes(colour_bytes(index))
        paths.append(str(path))
    return paths


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def kill_with(folder: Path, name: str | tuple[str, ...], how: str = "os.abort()") -> None:
    """Make a folder that, on a worker's path, ends it when it reads an image with that name."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import os, time\n"
        "import PIL.PngImagePlugin\n"  # so that the first image takes no longer than the others
        "import toplabel.runs.labelling as labelling\n"
        "opened = labelling.open_source\n"
        "def open_source(entry):\n"
        f"    if entry.name.endswith({name!r}):\n"
        f"        {how}\n"
        "    return opened(entry)\n"
        "labelling.open_source = open_source\n"
    )


def children(pid: int) -> list[int]:
    """Processes that the process `pid` has begun and that still run."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                status = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry))
    return found
