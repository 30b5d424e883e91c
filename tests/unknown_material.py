"""A model of three colours that tells images unlike its training images: grey ones, say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import toplabel
from run_material import save_model
from toplabel.bundle.bundle import Bundle
from toplabel.training.unknown import fit_unknown


def training_features(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Features of images of mostly one colour, float32 (3 x count, 3), and their classes."""
    chance = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), count)
    return np.eye(3)[targets].astype(np.float32) + chance.uniform(0, 0.2, (len(targets), 3)).astype(
        np.float32
    ), targets


def unknown_bundle(folder: Path, *, scale: float = 20) -> Bundle:
    """The model with its detector."""
    bundle = toplabel.load(**save_model(folder, scale=scale)).classifier.bundle
    assert bundle is not None
    return replace(bundle, unknown=fit_unknown(*training_features()))


def draw_unknown(path: Path) -> str:
    """A grey image, a little red."""
    pixels = np.full((16, 16, 3), 120, np.uint8)
    pixels[..., 0] = 130
    Image.fromarray(pixels).save(path)
    return str(path)
