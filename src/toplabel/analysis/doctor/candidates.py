"""Candidates: the usual ways to normalise a network's input, and distortions that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from toplabel.preprocess import constants
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

Family = Literal["0 to 1", "0 to 255", "-1 to 1", "-0.5 to 0.5", "z-score", "caffe", "per image"]
"""The range of an input's values. "z-score": about mean 0 and std 1 over a data set, by constants;
"caffe": 0 to 255 less a mean; "per image": less each image's own mean, by its own std."""

Colour = Literal["rgb", "bgr", "grey"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One normalisation.

    Args:
        family: Its family.
        name: Of its constants.
        colour: The channel order.
        high: What 255 becomes before mean and std; 0 stays 0.
        mean: One for each channel, in channel order, subtracted; () for the image's own.
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
        """The network's input for images, RGB or grey: uint8 (N, h, w, C) -> (N, C, h, w)."""
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
        axes = (2, 3) if self.name == _EACH_CHANNEL else (1, 2, 3)
        own = given.mean(axis=axes, keepdims=True), given.std(axis=axes, keepdims=True)
        return np.asarray((given - own[0]) / np.maximum(own[1], np.float32(1e-3)))

    def preprocess(self, like: Preprocess) -> Preprocess | None:
        """The same with the geometry of another; None where `Preprocess` cannot express it."""
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


Constants = tuple[Family, str, float, tuple[float, ...], tuple[float, ...]]

_EACH_CHANNEL = "each channel by its own"
_COLOURED: tuple[Constants, ...] = (
    ("z-score", "ImageNet's mean and std", 1, constants.IMAGENET_MEAN, constants.IMAGENET_STD),
    ("z-score", "CLIP's", 1, constants.CLIP_MEAN, constants.CLIP_STD),
    ("z-score", "CIFAR-10's, std 0.247", 1, constants.CIFAR10_MEAN, constants.CIFAR10_STD),
    ("z-score", "CIFAR-10's, std 0.202", 1, constants.CIFAR10_MEAN, constants.CIFAR10_IMAGE_STD),
    ("z-score", "caffe's mean, std 58", 255, (123.675, 116.28, 103.53), (58.4, 57.1, 57.4)),
    ("-1 to 1", "mean and std 0.5", 1, (0.5,) * 3, (0.5,) * 3),
    ("-1 to 1", "less 127, by 128", 255, (127.0,) * 3, (128.0,) * 3),
    ("-0.5 to 0.5", "mean 0.5", 1, (0.5,) * 3, (1.0,) * 3),
    ("-0.5 to 0.5", "ImageNet's mean alone", 1, constants.IMAGENET_MEAN, (1.0,) * 3),
    ("0 to 1", "divided by 255", 1, (0.0,) * 3, (1.0,) * 3),
    ("0 to 255", "as they are", 255, (0.0,) * 3, (1.0,) * 3),
    ("caffe", "caffe's mean", 255, (123.68, 116.779, 103.939), (1.0,) * 3),
    ("per image", "the image by its own", 1, (), ()),
    ("per image", _EACH_CHANNEL, 1, (), ()),
)
_GREY: tuple[Constants, ...] = (
    ("z-score", "MNIST's mean and std", 1, constants.MNIST_MEAN, constants.MNIST_STD),
    ("z-score", "Fashion-MNIST's", 1, (0.2860,), (0.3530,)),
    ("z-score", "ImageNet's, grey", 1, (0.449,), (0.226,)),
    ("-1 to 1", "mean and std 0.5", 1, (0.5,), (0.5,)),
    ("-0.5 to 0.5", "mean 0.5", 1, (0.5,), (1.0,)),
    ("0 to 1", "divided by 255", 1, (0.0,), (1.0,)),
    ("0 to 255", "as they are", 255, (0.0,), (1.0,)),
    ("per image", "the image by its own", 1, (), ()),
)


def candidates(channels: int) -> tuple[Candidate, ...]:
    """The normalisations with which a network of 1 or 3 channels may have been trained.

    A mean goes with its channel order: of "bgr" it is reversed as the image is.
    """
    if channels == 1:
        return tuple(Candidate(f, n, "grey", high, mean, std) for f, n, high, mean, std in _GREY)
    orders: tuple[tuple[Colour, int], ...] = (("rgb", 1), ("bgr", -1))
    return tuple(
        Candidate(family, name, colour, high, mean[::step], std[::step])
        for family, name, high, mean, std in _COLOURED
        for colour, step in orders
    )


def usual(family: Family, colour: Colour | None, channels: int) -> Candidate:
    """The most usual constants of a family; RGB where the channel order is unknown."""
    wanted = colour or ("grey" if channels == 1 else "rgb")
    return next(one for one in candidates(channels) if (one.family, one.colour) == (family, wanted))


def families(every: Iterable[Candidate]) -> tuple[Family, ...]:
    """The families of some candidates, each once."""
    return tuple(dict.fromkeys(one.family for one in every))


@dataclass(frozen=True, slots=True)
class Distortion:
    """What images may have gone through in training that no candidate expresses.

    Nobody is offered one: they are tried to notice that the true preprocessing is none of the
    candidates, which then fit worse.

    Args:
        words: What the network was trained on, for a sentence.
        apply: uint8 (N, h, w, C) in and out, RGB or grey.
    """

    words: str
    apply: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def distortions(channels: int) -> tuple[Distortion, ...]:
    """Those of images of 1 or 3 channels."""
    of_any = (
        Distortion("inverted images", lambda pixels: 255 - pixels),
        Distortion("images of squared values", lambda pixels: _power(pixels, 2)),
        Distortion("images of cubed values", lambda pixels: _power(pixels, 3)),
        Distortion("images of the square roots of their values", lambda p: _power(p, 0.5)),
    )
    if channels == 1:
        return of_any
    return (
        *of_any,
        Distortion("hue, saturation and value", lambda pixels: _converted(pixels, "HSV")),
        Distortion("luma and chroma", lambda pixels: _converted(pixels, "YCbCr")),
    )


def _power(pixels: NDArray[np.uint8], exponent: float) -> NDArray[np.uint8]:
    table = np.round(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return np.asarray(table[pixels])


def _converted(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.fromarray(one).convert(mode)) for one in pixels])
