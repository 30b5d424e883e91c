"""Networks and pictures of which it is known where the label comes from."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import nn

import toplabel

CLASSES = ("red", "green", "blue")
RECIPE = toplabel.Preprocess(
    input_size=(64, 64),
    resize_mode="shortest",
    resize_size=(64, 64),
    interpolation="bilinear",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


class Colours(nn.Module):
    """Says which of the three colours there is most of: a channel each, over the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 4, stride=4, bias=False), nn.ReLU())
        weight = torch.full((3, 3, 4, 4), -0.5 / 16)
        for channel in range(3):
            weight[channel, channel] = 1 / 16
        self.features[0].weight.data = weight
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight.data = 40 * torch.eye(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


class Tokens(nn.Module):
    """The same over tokens: patches in rows behind a class token, as a ViT has them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, 3, 8, stride=8, bias=False), nn.ReLU())
        weight = torch.full((3, 3, 8, 8), -0.5 / 64)
        for channel in range(3):
            weight[channel, channel] = 1 / 64
        self.patches[0].weight.data = weight
        self.first = nn.Parameter(torch.zeros(1, 1, 3))
        self.block = nn.LayerNorm(3, elementwise_affine=False)
        self.mix = nn.Identity()
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight.data = 40 * torch.eye(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.mix(torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1))
        return self.head(tokens[:, 1:].mean(dim=1))


def wrapped(module: nn.Module, **options: object) -> toplabel.Predictor:
    """A predictor for one of these networks."""
    return toplabel.wrap(module.eval(), labels=CLASSES, preprocess=RECIPE, **options)


def picture(
    *, size: tuple[int, int] = (96, 160), red: tuple[int, int, int, int] = (40, 60, 64, 90)
) -> np.ndarray:
    """Grey, with a red part (top, left, bottom, right) and a smaller blue one: uint8 (H, W, 3)."""
    pixels = np.full((*size, 3), 110, np.uint8)
    top, left, bottom, right = red
    pixels[top:bottom, left:right] = (250, 20, 20)
    pixels[4:18, 104:118] = (20, 20, 250)
    return pixels


def turned_jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG that holds the picture on its side, and says so in EXIF."""
    image = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def centre_of(heat: np.ndarray) -> tuple[float, float]:
    """The (row, column) that the heat weighs around."""
    rows, columns = np.indices(heat.shape)
    total = float(heat.sum())
    return float((rows * heat).sum()) / total, float((columns * heat).sum()) / total
