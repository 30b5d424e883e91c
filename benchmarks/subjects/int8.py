"""Make a network in int8 and time it against float32, on one thread.

python int8.py NAME PHOTO...    NAME: library/architecture, with random weights of a fixed seed
python int8.py lite0 PHOTO...   the built-in model: all that toplabel optimize finds
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from toplabel.bundle.program import Program
from toplabel.image.reading import read_image
from toplabel.models.compile.export import INPUT_NAME, OUTPUT_NAME, Exporter, export
from toplabel.models.compile.quantise import float_layers, quantise
from toplabel.models.optimize import optimize
from toplabel.models.reduce import time_both
from toplabel.models.zoo_import import import_timm, import_torchvision
from toplabel.preprocess.presets import preset

CALIBRATING = 16


def main(name: str, photos: list[str]) -> None:
    """Print what was found as JSON."""
    if name == "lite0":
        print(json.dumps([asdict(one) for one in optimize(None, photos).candidates]))
        return
    with tempfile.TemporaryDirectory() as folder:
        program = _program(name, Path(folder))
        recipe = preset("imagenet-crop-256-224")
        tensors = [recipe(read_image(photo).pixels)[None] for photo in photos[:CALIBRATING]]
        found = [_measure(program, layers, tensors) for layers in float_layers(program)]
    print(json.dumps(min(found, key=lambda one: one["int8"])))


def _measure(
    program: Program, layers: int, tensors: list[np.ndarray]
) -> dict[str, float | int | str]:
    path = program.path.with_name("reduced.onnx")
    failure = quantise(program, lambda: tensors, path, reduce_range=False, float_layers=layers)
    if failure is not None:
        return {"int8": float("inf"), "reason": failure.reason}
    timing = time_both(program, path, tensors[:3])
    return {
        "float32": timing.exact,
        "int8": timing.reduced,
        "float_layers": layers,
        "size": path.stat().st_size / program.path.stat().st_size,
    }


def _program(name: str, folder: Path) -> Program:
    """The network's program; it has not been checked, for weights of chance answer nothing."""
    import torch

    library, architecture = name.split("/")
    torchvision, timm = import_torchvision(), import_timm()
    torch.manual_seed(0)
    build = torchvision.models.get_model if library == "torchvision" else timm.create_model
    module = build(architecture).eval()
    exporter = Exporter("torchscript", fixed_batch=False)
    path = export(module, torch.zeros(2, 3, 224, 224), folder, exporter=exporter)
    return Program(
        path=path,
        reference_path=path.with_name("none"),
        key="",
        input_name=INPUT_NAME,
        output_name=OUTPUT_NAME,
        input_shape=(3, 224, 224),
        outputs=1000,
        fixed_batch=False,
        exporter="",
        agreement={},
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
