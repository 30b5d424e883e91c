"""What the scaled decode does to the logits of each photo, as stored or enlarged in some way.

python margins.py VARIANT PHOTO...    VARIANT: stored, or MEGAPIXELS:QUALITY:SUBSAMPLING
"""

import io
import json
import multiprocessing
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import toplabel
from toplabel.bundle.bundle import built_in_bundle
from toplabel.image.reading import read_image
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine


def content(photo: str, variant: str) -> bytes:
    """The photo's file, or that of the enlarged photo."""
    if variant == "stored":
        return Path(photo).read_bytes()
    megapixels, quality, subsampling = variant.split(":", 2)
    with Image.open(photo) as file:
        image = file.convert("RGB")
    factor = (float(megapixels) * 1e6 / (image.width * image.height)) ** 0.5
    size = round(image.width * factor), round(image.height * factor)
    encoded = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(
        encoded, "JPEG", quality=int(quality), subsampling=subsampling
    )
    return encoded.getvalue()


@cache
def parts() -> tuple:
    bundle = built_in_bundle()
    engine = OnnxRuntimeEngine(bundle.program, threads=1)
    return bundle.preprocess, engine, toplabel.load(threads=1)


def logits(image) -> np.ndarray:
    preprocess, engine, _ = parts()
    size = image.height, image.width
    return engine(preprocess(image.pixels, original_size=size, scale=image.scale)[None])[0]


def compare(task: tuple[str, str]) -> dict:
    """The photo's margins: `label_changed` is about the scaled decode without any guard."""
    photo, variant = task
    preprocess, _, model = parts()
    data = content(photo, variant)
    scaled = read_image(data, resized_size=preprocess.resized_size)
    full = logits(read_image(data))
    fast = full if scaled.scale == 1 else logits(scaled)
    best, second = np.argsort(fast)[[-1, -2]]
    return {
        "photo": Path(photo).name,
        "variant": variant,
        "scale": scaled.scale,
        "ratio": min(scaled.pixels.shape[:2])
        / min(preprocess.resized_size(*scaled.pixels.shape[:2])),
        "margin": float(fast[best] - fast[second]),
        "margin_exact": float(full[best] - full[second]),
        "change": float(np.abs(fast - full).max()),
        "label_changed": bool(fast.argmax() != full.argmax()),
        "guarded_label_changed": bool(model(data, top_k=1).index != full.argmax()),
    }


if __name__ == "__main__":
    variant, *photos = sys.argv[1:]
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        print(json.dumps(pool.map(compare, [(photo, variant) for photo in photos], chunksize=4)))
