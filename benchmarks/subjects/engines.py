"""Engines of programs, in turn, on one thread each: processor time for an image, and their logits.

python engines.py NETWORK WEIGHTS ROUNDS PHOTO...

Prints JSON: by way, milliseconds of each round, the largest difference of a logit from ONNX
Runtime's in float32, and how many labels differ from its.
"""

import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import toplabel
from toplabel.bundle.program import Program
from toplabel.errors import EngineError
from toplabel.image.reading import read_image
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine
from toplabel.inference.engines.openvino import OpenVinoEngine

EXACT = "onnxruntime float32"


def load(network: str, weights: str) -> toplabel.Predictor:
    """The built-in model, or a network with random weights, compiled."""
    if network == "lite0":
        return toplabel.load()
    sys.path.append(str(Path(__file__).parents[1] / "rivals"))
    from networks import build

    module, transform = build(network, weights=weights)
    model = toplabel.wrap(module, preprocess=transform)
    model.compile()
    return model


def ways(model: toplabel.Predictor) -> dict:
    """An engine for each way to compute the model that there is here, by name."""
    bundle = model.classifier.bundle
    program, reduced = bundle.program, bundle.reduced
    found = {EXACT: OnnxRuntimeEngine(program), "openvino float32": OpenVinoEngine(program)}
    try:
        found["openvino bfloat16"] = OpenVinoEngine(_loose(program), precision="bfloat16")
    except EngineError as error:  # this processor has none
        print(error, file=sys.stderr)
    if reduced is not None:
        found["onnxruntime int8"] = OnnxRuntimeEngine(reduced.as_program(program))
        loose = _loose(reduced.as_program(program))
        found["openvino int8, the same file"] = OpenVinoEngine(loose)
    return found


def _loose(program: Program) -> Program:
    """The same with any logits: by how much they are others is what is measured here."""
    return replace(program, tolerance=math.inf)


def main() -> None:
    """Measure, and print."""
    network, weights, rounds, *photos = sys.argv[1:]
    model = load(network, weights)
    tensors = np.stack([model.preprocess(read_image(photo).pixels) for photo in photos])
    pairs = [tensors[at : at + 2] for at in range(0, len(tensors), 2)]
    engines = ways(model)
    logits = {name: np.concatenate(list(map(engine, pairs))) for name, engine in engines.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(int(rounds)):
        for name, engine in engines.items():
            started = time.process_time()  # all threads of the process: each engine has one
            for pair in pairs[:16]:
                engine(pair)
            used = time.process_time() - started
            milliseconds[name].append(1000 * used / sum(map(len, pairs[:16])))
    exact = logits[EXACT]
    print(
        json.dumps(
            {
                name: {
                    "milliseconds": milliseconds[name],
                    "difference": float(np.abs(rows - exact).max()),
                    "spread": float(np.ptp(exact, axis=0).max()),
                    "changed": int((rows.argmax(1) != exact.argmax(1)).sum()),
                    "images": len(exact),
                }
                for name, rows in logits.items()
            }
        )
    )


main()
