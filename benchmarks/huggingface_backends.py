"""How far the two image backends of transformers lie apart: Pillow's, which is ours, and the other.

Run: python benchmarks/huggingface_backends.py [FOLDER OF PHOTOS]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from toplabel.models.transforms.huggingface import DEFAULTS, from_processor
from toplabel.models.transforms.verify import drawn_photos
from toplabel.models.zoo_import import import_torchvision


class Agreement(NamedTuple):
    """How much of the default backend's tensors differs from ours, over all photos.

    `steps` are steps of 1/255 of a pixel's value: 1 is the smallest change an image can have.
    """

    share_beyond_half_a_step: float
    mean_steps: float
    max_steps: float


def agreement(processor: object, photos: Iterable[np.ndarray]) -> Agreement:
    """Compare a processor of the torchvision backend with ours on uint8 (H, W, 3) photos."""
    preprocess = from_processor(processor)
    beyond, total, count, largest = 0, 0.0, 0, 0.0
    low, high = preprocess.range
    again = np.asarray(preprocess.std_again or (1.0,) * 3)
    one_step = (high - low) / 255 / np.asarray(preprocess.std) / again
    for pixels in photos:
        theirs = np.asarray(processor(Image.fromarray(pixels))["pixel_values"][0])
        steps = np.abs(theirs.astype(np.float64) - preprocess(pixels)) / one_step[:, None, None]
        beyond += int((steps > 0.5).sum())
        total += float(steps.sum())
        count += steps.size
        largest = max(largest, float(steps.max()))
    return Agreement(beyond / count, total / count, largest)


def read_photos(arguments: list[str]) -> Iterator[np.ndarray]:
    """Each fifth photo of a folder, or drawn ones."""
    if not arguments:
        yield from drawn_photos([(375, 500), (500, 333), (224, 224), (800, 640)] * 5)
        return
    for path in sorted(Path(arguments[0]).iterdir())[::5]:
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB"))


def main() -> None:
    import_torchvision()
    import transformers

    photos = list(read_photos(sys.argv[1:]))
    print(f"{len(photos)} photos, transformers {transformers.__version__}")
    print(f"{'class':28} {'differ':>8} {'mean':>8} {'max':>8}   (steps of 1/255)")
    for name in DEFAULTS:
        found = agreement(getattr(transformers, name)(), photos)
        print(
            f"{name:28} {found.share_beyond_half_a_step:8.2%} {found.mean_steps:8.3f}"
            f" {found.max_steps:8.2f}"
        )


if __name__ == "__main__":
    main()
