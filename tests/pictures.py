"""Drawn pictures and short ways to read them, for the tests of reading."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A picture whose four corners differ, so that every turn shows."""
    image = Image.new("RGB", (width, height), (40, 120, 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 3, height // 3), fill=(230, 30, 30))
    draw.rectangle((width // 2, 0, width, height // 4), fill=(30, 220, 60))
    draw.ellipse((width // 20, height // 2, width // 2, height * 15 // 16), fill=(250, 240, 20))
    return image


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def noisy(width: int = 96, height: int = 64) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels that a camera held in this way stores."""
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image.copy()


def code_of(content: object, **options: object) -> str:
    with pytest.raises(ImageError, match="cannot read") as caught:
        read_image(content, options=ReadOptions(**options))
    return caught.value.code


def mean_colour(content: object) -> np.ndarray:
    return read_image(content).pixels.reshape(-1, 3).mean(axis=0)
