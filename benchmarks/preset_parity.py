"""How far presets lie from the libraries that they are named for, or that people take them for.

Run: python benchmarks/preset_parity.py [FOLDER OF PHOTOS]
Libraries that are not installed are left out: albumentations, fastai, Keras, transformers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toplabel.models.transforms.verify import drawn_photos
from toplabel.models.zoo_import import import_torchvision
from toplabel.preprocess.presets import preset

Pixels = NDArray[np.uint8]
Transform = Callable[[Pixels], NDArray[np.float32]]
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_SHAPES = ((375, 500), (500, 333), (224, 224), (480, 640), (100, 130))


class Parity(NamedTuple):
    """How a preset differs from a library, in steps of 1/255 of a pixel's value.

    `share` is of the values that differ by more than half a step.
    """

    share: float
    mean: float
    largest: float

    def __str__(self) -> str:
        if not self.largest:
            return "equal to the bit"
        differ = f"{self.share:.1%} of the values differ"
        return f"{differ}, by {self.mean:.2f} on average, {self.largest:.0f} at most"


def parity(name: str, transform: Transform, photos: list[Pixels]) -> Parity:
    """A preset's tensors beside those that a library gives, float32 (C, h, w)."""
    preprocess = preset(name)
    low, high = preprocess.range
    step = abs(high - low) / 255 / np.abs(np.asarray(preprocess.std))[:, None, None]
    steps = [np.abs(preprocess(p).astype(np.float64) - transform(p)) / step for p in photos]
    values = np.concatenate([one.ravel() for one in steps])
    largest = float(values.max())
    return Parity(
        float((values > 0.5).mean()), float(values.mean()), largest if largest > 1e-4 else 0
    )


def torchvision_cases() -> Iterator[tuple[str, str, Transform]]:
    """By torchvision."""
    import_torchvision()
    from torchvision import transforms as v1
    from torchvision.transforms import v2

    def of(*steps: Any, mean: Any = (0.485, 0.456, 0.406), std: Any = (0.229, 0.224, 0.225)) -> Any:
        compose = v1.Compose([*steps, v1.ToTensor(), v1.Normalize(mean, std)])
        return lambda pixels: compose(Image.fromarray(pixels)).numpy()

    yield (
        "imagenet-crop-256-224",
        "Resize(256), CenterCrop(224)",
        of(v1.Resize(256), v1.CenterCrop(224)),
    )
    yield "imagenet-squash-224", "Resize((224, 224))", of(v1.Resize((224, 224)))
    yield (
        "imagenet-squash-256-224",
        "Resize((256, 256)), CenterCrop(224)",
        of(v1.Resize((256, 256)), v1.CenterCrop(224)),
    )
    yield "half-none-32", "CenterCrop(32)", of(v1.CenterCrop(32), mean=[0.5] * 3, std=[0.5] * 3)
    tensors = v2.Compose(
        [v2.ToImage(), v2.Resize((224, 224)), v2.ToDtype(torch_float(), scale=True)]
    )
    yield (
        "raw-1-224",
        "v2: ToImage(), Resize((224, 224))",
        lambda p: tensors(Image.fromarray(p)).numpy(),
    )


def torch_float() -> Any:
    """torch.float32."""
    import torch

    return torch.float32


def albumentations_cases() -> Iterator[tuple[str, str, Transform]]:
    """By albumentations, whose resize is OpenCV's, without antialias."""
    import albumentations

    def of(*steps: Any) -> Transform:
        compose = albumentations.Compose([*steps, albumentations.Normalize()])
        return lambda pixels: np.moveaxis(compose(image=pixels)["image"], 2, 0)

    yield "imagenet-squash-224", "Resize(224, 224)", of(albumentations.Resize(224, 224))
    yield (
        "imagenet-crop-256-224",
        "SmallestMaxSize(256), CenterCrop(224, 224)",
        of(albumentations.SmallestMaxSize(256), albumentations.CenterCrop(224, 224)),
    )


def fastai_cases() -> Iterator[tuple[str, str, Transform]]:
    """By fastai, as its validation split does it."""
    from fastai.vision.augment import Resize, ResizeMethod
    from fastai.vision.core import PILImage

    def of(method: str) -> Transform:
        resize = Resize(224, method=getattr(ResizeMethod, method))

        def call(pixels: Pixels) -> NDArray[np.float32]:
            resized = np.asarray(resize(PILImage.create(pixels), split_idx=1), np.float32)
            return np.moveaxis(resized / 255, 2, 0)

        return call

    yield "raw-1-crop-224-224", "Resize(224)", of("Crop")
    yield "raw-1-squash-224", "Resize(224, method='squish')", of("Squish")


def keras_cases() -> Iterator[tuple[str, str, Transform]]:
    """By Keras."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import io

    import keras

    def of(mode: str, interpolation: str) -> Transform:
        def call(pixels: Pixels) -> NDArray[np.float32]:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            file.seek(0)
            image = keras.utils.load_img(file, target_size=(224, 224), interpolation=interpolation)
            array = keras.utils.img_to_array(image)
            if mode == "rescale":
                array = array / 255
            elif mode != "none":
                array = keras.applications.imagenet_utils.preprocess_input(array, mode=mode)
            return np.moveaxis(np.asarray(array, np.float32), 2, 0)

        return call

    yield (
        "caffe-103-squash-224-nearest",
        "load_img, preprocess_input (VGG, ResNet50)",
        of("caffe", "nearest"),
    )
    yield (
        "half-squash-224-nearest",
        "load_img, preprocess_input (MobileNet, Xception)",
        of("tf", "nearest"),
    )
    yield "half-squash-224", "the same", of("tf", "nearest")
    yield "raw-255-squash-224-nearest", "load_img (EfficientNet)", of("none", "nearest")
    yield "raw-1-squash-224-nearest", "load_img, rescale=1/255", of("rescale", "nearest")


def transformers_cases() -> Iterator[tuple[str, str, Transform]]:
    """By transformers, on Pillow."""
    import_torchvision()
    from transformers import ViTImageProcessorPil

    vit = ViTImageProcessorPil()
    yield (
        "half-squash-224",
        "ViTImageProcessorPil()",
        lambda p: np.asarray(vit(Image.fromarray(p))["pixel_values"][0]),
    )


LIBRARIES = {
    "torchvision": torchvision_cases,
    "albumentations": albumentations_cases,
    "fastai": fastai_cases,
    "Keras": keras_cases,
    "transformers": transformers_cases,
}


def main() -> None:
    """Print a row for each preset and library."""
    photos = list(drawn_photos(_SHAPES))
    if sys.argv[1:]:
        files = sorted(Path(sys.argv[1]).iterdir())[::10][:40]
        photos = [np.asarray(Image.open(path).convert("RGB")) for path in files]
    print("| preset | library | how far apart |\n|---|---|---|")
    for library, cases in LIBRARIES.items():
        try:
            for name, what, transform in cases():
                print(f"| `{name}` | {library}: `{what}` | {parity(name, transform, photos)} |")
        except ImportError as error:
            print(f"{library} is left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
