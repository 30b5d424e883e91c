"""A photo in; the same photo corrupted in nine ways at three strengths out, always to the byte.

Noise, blur, pixels, JPEG and low contrast are those of ImageNet-C (Hendrycks and Dietterich 2019,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"), its severities 1,
3 and 5; it does not have the others. It defines them for images of which the shorter side has 256
pixels (before a crop of 224), so lengths grow and shrink with the photo.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, cos, radians, sin
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter, ImageStat

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORTER_SIDE = 256
"""Pixels of the shorter side for which ImageNet-C's lengths are meant."""

STRENGTHS = (1, 2, 3)


@dataclass(eq=False)
class Photo:
    """What corruptions need of an image: uint8 (H, W, 3), and chance that is its own."""

    pixels: NDArray[np.uint8]

    @cached_property
    def image(self) -> Image.Image:
        """The pixels, for Pillow."""
        return Image.fromarray(self.pixels)

    @property
    def scale(self) -> float:
        """How large it is, against `SHORTER_SIDE`."""
        height, width = self.pixels.shape[:2]
        return int(min(height, width)) / SHORTER_SIDE

    @cached_property
    def noise(self) -> NDArray[np.float32]:
        """Standard normal noise, (H, W, 3), the same for each strength."""
        return self.chance("noise").standard_normal(self.pixels.shape, np.float32)

    @cached_property
    def means(self) -> list[float]:
        """The mean of each channel, 0 to 255."""
        return ImageStat.Stat(self.image).mean

    @cached_property
    def mirrored(self) -> tuple[Image.Image, int]:
        """It with mirrored margins, so that it can be rotated by 45 degrees, and their width."""
        height, width = self.pixels.shape[:2]
        margin = ceil(max(height, width) * 0.71 - min(height, width) / 2) + 1
        margins = ((margin, margin), (margin, margin), (0, 0))
        return Image.fromarray(np.pad(self.pixels, margins, "symmetric")), margin

    @cached_property
    def digest(self) -> bytes:
        """Identifies the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).digest()

    def chance(self, name: str) -> np.random.Generator:
        """Random numbers that follow from the pixels and a corruption's name, nothing else."""
        return np.random.default_rng([*self.digest, *name.encode()])


def _noise(photo: Photo, deviation: float) -> NDArray[np.uint8]:
    noisy = photo.noise * np.float32(255 * deviation)
    noisy += photo.pixels
    return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


def _blur(photo: Photo, deviation: float) -> NDArray[np.uint8]:
    blurred = photo.image.filter(ImageFilter.GaussianBlur(deviation * photo.scale))
    return np.asarray(blurred)


def _pixelate(photo: Photo, share: float) -> NDArray[np.uint8]:
    share = min(share, share / photo.scale)  # of a large photo no more than of one of that size
    height, width = photo.pixels.shape[:2]
    few = (max(1, int(width * share)), max(1, int(height * share)))
    small = photo.image.resize(few, Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def _jpeg(photo: Photo, quality: float) -> NDArray[np.uint8]:
    file = io.BytesIO()
    photo.image.save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file).convert("RGB"))


def _darken(photo: Photo, times: float) -> NDArray[np.uint8]:
    return np.asarray(photo.image.point([*_darker(times)] * 3))


def _darker(times: float) -> NDArray[np.uint8]:
    """What 0 to 255 become with so many times less light, by the curve of sRGB."""
    values = np.arange(256) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = light / times
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * values).astype(np.uint8)


def _flatten(photo: Photo, share: float) -> NDArray[np.uint8]:
    means = np.array(photo.means)[:, None]
    values = (np.arange(256) - means) * share + means
    return np.asarray(photo.image.point([*values.clip(0, 255).astype(np.uint8).ravel()]))


def _rotate(photo: Photo, degrees: float) -> NDArray[np.uint8]:
    """About the centre, to the left or right; the corners mirror what is beside them."""
    height, width = photo.pixels.shape[:2]
    image, margin = photo.mirrored
    side = 1 if photo.chance("rotated").random() < 0.5 else -1
    turn = side * radians(degrees)
    x, y = width / 2, height / 2  # where the centre comes to lie
    across, down = cos(turn), sin(turn)
    left = x + margin - across * x + down * y
    top = y + margin - down * x - across * y
    matrix = (across, -down, left, down, across, top)
    turned = image.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(turned)


def _turn(photo: Photo, degrees: float) -> NDArray[np.uint8]:
    return np.rot90(photo.pixels, round(degrees / 90))


def _crop(photo: Photo, area: float) -> NDArray[np.uint8]:
    """A part of the same shape, somewhere; of each strength within that of the one before."""
    height, width = photo.pixels.shape[:2]
    rows, columns = (max(1, round(side * area**0.5)) for side in (height, width))
    down, across = photo.chance("cropped").random(2)
    top, left = round(down * (height - rows)), round(across * (width - columns))
    return photo.pixels[top : top + rows, left : left + columns]


@dataclass(frozen=True, slots=True)
class Corruption:
    """A way to corrupt a photo.

    Args:
        name: As in JSON, CSV and tables.
        settings: Of the three strengths.
        unit: What they are, in words; `{}` stands for the setting.
        apply: A photo and a setting in, uint8 (h, w, 3) out.
    """

    name: str
    settings: tuple[float, float, float]
    unit: str
    apply: Callable[[Photo, float], NDArray[Any]]

    def setting(self, strength: int) -> str:
        """The setting of a strength, in words."""
        return self.unit.format(f"{self.settings[strength - 1]:g}")


CORRUPTIONS = (
    Corruption("noise", (0.08, 0.12, 0.18), "Gaussian, deviation {}", _noise),
    Corruption("blur", (1, 2, 3), "Gaussian, radius {}", _blur),
    Corruption("pixelated", (0.6, 0.5, 0.4), "{} of the pixels a side", _pixelate),
    Corruption("jpeg", (25, 18, 15), "quality {}", _jpeg),
    Corruption("dark", (2, 4, 16), "1/{} of the light", _darken),
    Corruption("low_contrast", (0.4, 0.3, 0.2), "{} of the contrast", _flatten),
    Corruption("rotated", (5, 15, 30), "{} degrees", _rotate),
    Corruption("upside_down", (90, 270, 180), "turned by {} degrees", _turn),
    Corruption("cropped", (0.75, 0.5, 0.25), "{} of the area", _crop),
)


def corrupt(pixels: NDArray[np.uint8], name: str, strength: int) -> NDArray[np.uint8]:
    """One corrupted image: uint8 (h, w, 3), C-contiguous; only crops and turns change its size.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        name: Of one of `CORRUPTIONS`.
        strength: 1 to 3.
    """
    (found,) = (one for one in CORRUPTIONS if one.name == name)
    return _corrupt(Photo(pixels), found, strength)


def corrupt_all(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Each of `CORRUPTIONS` at each of `STRENGTHS`, in this order; as `corrupt` gives them."""
    photo = Photo(pixels)
    for one in CORRUPTIONS:
        for strength in STRENGTHS:
            yield _corrupt(photo, one, strength)


def _corrupt(photo: Photo, one: Corruption, strength: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(one.apply(photo, one.settings[strength - 1]))
