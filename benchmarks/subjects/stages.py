"""One thread, one photo at a time: mean seconds of reading with preprocessing, and of the engine.

python stages.py guarded|exact PHOTO...
"""

import json
import sys
import time

import numpy as np

from toplabel.bundle.bundle import built_in_bundle
from toplabel.image.reading import read_image
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine

mode, *photos = sys.argv[1:]
bundle = built_in_bundle()
preprocess = bundle.preprocess
engine = OnnxRuntimeEngine(bundle.program, threads=1)
batch = np.empty((1, preprocess.num_channels, *preprocess.input_size), np.float32)
seconds = {"read": 0.0, "preprocess": 0.0, "engine": 0.0}


def label(photo: str) -> None:
    at = [time.perf_counter()]
    image = read_image(photo, resized_size=None if mode == "exact" else preprocess.resized_size)
    at.append(time.perf_counter())
    preprocess(
        image.pixels,
        original_size=(image.height, image.width),
        scale=image.scale,
        out=batch[0],
    )
    at.append(time.perf_counter())
    engine(batch)
    at.append(time.perf_counter())
    for stage, start, end in zip(seconds, at, at[1:], strict=False):
        seconds[stage] += end - start


for photo in photos[:4]:
    label(photo)
seconds = dict.fromkeys(seconds, 0.0)
for photo in photos:
    label(photo)
print(json.dumps({stage: total / len(photos) for stage, total in seconds.items()}))
