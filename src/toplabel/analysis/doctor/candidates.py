"""Candidates: the ways in which networks' inputs are usually normalised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from toplabel.preprocess import Preprocess
from toplabel.preprocess.constants import (
    CIFAR10_IMAGE_STD,
    CIFAR10_MEAN,
    CIFAR10_STD,
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MNIST_MEAN,
    MNIST_STD,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Family = Literal["0 to 1", "0 to 255", "-1 to 1", "-0.5 to 0.5", "z-score", "caffe", "per image"]
"""What values an input has. "z-score": about mean 0 and std 1 over a data set, by constants;
"caffe": 0 to 255 less a mean; "per image": less each picture's own mean, by its own std."""

Colour = Literal["rgb", "bgr", "grey"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One normalisation.

    Args:
        family: Its family.
        name: Of its constants.
        colour: The channels' order.
        high: What 255 becomes before mean and std; 0 stays 0.
        mean: One for each channel, in the channels' order, subtracted; () for the picture's own.
        std: One for each channel, divided by.
    """

    family: Family
    name: str
    colour: Colour
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.name}, {self.colour.upper() if self.colour != 'grey' else 'grey'}"

    def tensor(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a network is given of pictures, RGB or grey: uint8 (N, h, w, C) -> (N, C, h, w)."""
        values = pixels[..., ::-1] if self.colour == "bgr" else pixels
        count, height, width, channels = pixels.shape
        scale = np.float32(self.high / 255) * np.arange(256, dtype=np.float32)
        given = np.empty((count, channels, height, width), np.float32)
        for channel in range(channels):  # by a table: 256 values are normalised, not millions
            table = scale
            if self.mean:
                table = (scale - np.float32(self.mean[channel])) / np.float32(self.std[channel])
            given[:, channel] = table[values[..., channel]]
        if self.mean:
            return given
        axes = (2, 3) if self.name == "each channel by its own" else (1, 2, 3)
        own = given.mean(axis=axes, keepdims=True), given.std(axis=axes, keepdims=True)
        return np.asarray((given - own[0]) / np.maximum(own[1], np.float32(1e-3)))

    def recipe(self, like: Preprocess) -> Preprocess | None:
        """The same as a recipe, with the geometry of another; None where no recipe says it."""
        if not self.mean:
            return None
        return Preprocess(
            input_size=like.input_size,
            resize_mode=like.resize_mode,
            resize_size=like.resize_size,
            interpolation=like.interpolation,
            channels=self.colour,
            range=(0, self.high),
            mean=self.mean,
            std=self.std,
            convention=like.convention,
        )


_CONSTANTS: tuple[tuple[Family, str, float, tuple[float, ...], tuple[float, ...]], ...] = (
    ("z-score", "ImageNet's mean and std", 1, IMAGENET_MEAN, IMAGENET_STD),
    ("z-score", "CLIP's", 1, CLIP_MEAN, CLIP_STD),
    ("z-score", "CIFAR-10's, std 0.247", 1, CIFAR10_MEAN, CIFAR10_STD),
    ("z-score", "CIFAR-10's, std 0.202", 1, CIFAR10_MEAN, CIFAR10_IMAGE_STD),
    ("z-score", "caffe's mean, std 58", 255, (123.675, 116.28, 103.53), (58.4, 57.1, 57.4)),
    ("-1 to 1", "mean and std 0.5", 1, (0.5,) * 3, (0.5,) * 3),
    ("-1 to 1", "less 127, by 128", 255, (127.0,) * 3, (128.0,) * 3),
    ("-0.5 to 0.5", "mean 0.5", 1, (0.5,) * 3, (1.0,) * 3),
    ("-0.5 to 0.5", "ImageNet's mean alone", 1, IMAGENET_MEAN, (1.0,) * 3),
    ("0 to 1", "divided by 255", 1, (0.0,) * 3, (1.0,) * 3),
    ("0 to 255", "as they are", 255, (0.0,) * 3, (1.0,) * 3),
    ("caffe", "caffe's mean", 255, (123.68, 116.779, 103.939), (1.0,) * 3),
    ("per image", "the picture by its own", 1, (), ()),
    ("per image", "each channel by its own", 1, (), ()),
)
_GREY: tuple[tuple[Family, str, float, tuple[float, ...], tuple[float, ...]], ...] = (
    ("z-score", "MNIST's mean and std", 1, MNIST_MEAN, MNIST_STD),
    ("z-score", "Fashion-MNIST's", 1, (0.2860,), (0.3530,)),
    ("z-score", "ImageNet's, grey", 1, (0.449,), (0.226,)),
    ("-1 to 1", "mean and std 0.5", 1, (0.5,), (0.5,)),
    ("-0.5 to 0.5", "mean 0.5", 1, (0.5,), (1.0,)),
    ("0 to 1", "divided by 255", 1, (0.0,), (1.0,)),
    ("0 to 255", "as they are", 255, (0.0,), (1.0,)),
    ("per image", "the picture by its own", 1, (), ()),
)


def candidates(channels: int) -> tuple[Candidate, ...]:
    """What a network that takes 1 or 3 channels may have been trained with.

    A mean goes with its colour: of "bgr" it is turned round as the picture is.
    """
    if channels == 1:
        return tuple(Candidate(f, n, "grey", high, mean, std) for f, n, high, mean, std in _GREY)
    return tuple(
        Candidate(family, name, "rgb", high, mean, std)
        if colour == "rgb"
        else Candidate(family, name, "bgr", high, mean[::-1], std[::-1])
        for family, name, high, mean, std in _CONSTANTS
        for colour in ("rgb", "bgr")
    )


def usual(family: Family, colour: Colour | None, channels: int) -> Candidate:
    """The most usual constants of a family; RGB where the colour order is not known."""
    wanted = colour or ("grey" if channels == 1 else "rgb")
    return next(one for one in candidates(channels) if (one.family, one.colour) == (family, wanted))


def families(every: Iterable[Candidate]) -> tuple[Family, ...]:
    """The families of some candidates, each once."""
    return tuple(dict.fromkeys(one.family for one in every))
