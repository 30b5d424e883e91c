"""Modes: a loaded Pillow image of any mode in, RGB pixels out.

Transparent pictures are composited on white: what is wholly transparent becomes white. High bit
depths are scaled, never clipped: see `full_scale`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toplabel.errors import ImageError
from toplabel.image.picture import Pixels

_BAND_PIXELS = 2**22  # large pictures are converted in bands: a quarter of the peak memory
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def rgb_pixels(
    image: Image.Image, *, srgb: bool = False, white: int | None = None
) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels of shape (H, W, 3), as stored, and what is doubtful about them.

    Args:
        image: Loaded.
        srgb: Convert from the embedded colour profile, where there is one.
        white: The sample value that means white, where the format states one (deep modes).

    Raises:
        ImageError: `non_finite`, or `unsupported_format` for samples that have no known scale.
    """
    if image.mode in _DEEP:
        convert, warnings = _deep_converter(image, white)
    else:
        convert, warnings = _colour_converter(image, srgb=srgb)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, band in _bands(image):
        values = convert(band)
        target = pixels[top : top + band.height]
        target[...] = values if values.ndim == 3 else values[:, :, None]
    return pixels, warnings


def _bands(image: Image.Image) -> list[tuple[int, Image.Image]] | Any:
    """Horizontal bands (top, band) that cover the image; the image itself where it is small."""
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


Converter = Callable[[Image.Image], NDArray[np.uint8]]


def _colour_converter(image: Image.Image, *, srgb: bool) -> tuple[Converter, tuple[str, ...]]:
    """For modes of 8 bits a sample, and 1."""
    transform, warnings = _profile_transform(image) if srgb else (None, ())
    lab = _lab_transform() if image.mode == "LAB" and transform is None else None

    def convert(band: Image.Image) -> NDArray[np.uint8]:
        flat = _flatten(band)
        if transform is not None or lab is not None:
            flat = _apply(flat, transform or lab)
        elif flat.mode not in ("L", "RGB"):
            flat = flat.convert("L" if flat.mode == "1" else "RGB")
        return np.asarray(flat)

    return convert, warnings


def _flatten(image: Image.Image) -> Image.Image:
    """Without transparency, composited on white; a palette becomes its colours."""
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode == "P" else image
    rgba = _with_alpha(image)
    flat = Image.new("RGB", image.size, (255, 255, 255))
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


def _with_alpha(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The colour key of a 16-bit PNG, which Pillow reads as 8 bits without its key.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image.convert("RGBA")


def _profile_transform(image: Image.Image) -> tuple[Any, tuple[str, ...]]:
    """What converts from the image's profile to sRGB, or None; and a warning where it is bad."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None, ()
    from PIL import ImageCms  # 10 ms, needed only here

    mode = image.mode if image.mode in ("L", "CMYK", "LAB") else "RGB"
    if image.mode in ("1", "LA", "La"):
        mode = "L"
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB"), ()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return None, (f"the colour profile cannot be used ({error}); colours are as stored",)


def _lab_transform() -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _apply(image: Image.Image, transform: Any) -> Image.Image:
    if image.mode != transform.inputMode:
        image = image.convert(transform.inputMode)
    applied: Image.Image = transform.apply(image)
    return applied


def _deep_converter(image: Image.Image, white: int | None) -> tuple[Converter, tuple[str, ...]]:
    """For modes of 16 and 32 bits a sample; grey in every case."""
    warnings: tuple[str, ...] = ()
    if white is None:
        white = 65_535
        if image.mode in ("I", "F"):
            white, warnings = _full_scale_of(image)
    factor = np.float32(255 / white)

    def convert(band: Image.Image) -> NDArray[np.uint8]:
        values = np.asarray(band).astype(np.float32)
        values *= factor
        values += np.float32(0.5)
        return np.clip(values, 0, 255, out=values).astype(np.uint8)

    return convert, warnings


def _full_scale_of(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    low, high = np.inf, -np.inf
    for _, band in _bands(image):
        values = np.asarray(band)
        low, high = min(low, values.min()), max(high, values.max())
        if not np.isfinite(values).all():
            raise ImageError("non_finite", "some samples are NaN or infinite; expected numbers")
    return full_scale(float(low), float(high), floats=image.mode == "F")


def full_scale(low: float, high: float, *, floats: bool) -> tuple[int, tuple[str, ...]]:
    """The sample value that means white in a 32-bit picture, which does not state it.

    The first of 1 (floats only), 255, 65,535 and 2**31 - 1 (integers only) that no sample passes.
    What is usual, 1 for floats and 65,535 for integers, gives no warning; the others do.

    Raises:
        ImageError: `unsupported_format` where samples are negative or too large for that.
    """
    steps = (1, 255, 65_535) if floats else (255, 65_535, 2**31 - 1)
    white = next((step for step in steps if high <= step), None)
    if low < 0 or white is None:
        raise ImageError(
            "unsupported_format",
            f"32-bit samples from {low:g} to {high:g} have no known scale; expected"
            f" {'0 to 1' if floats else '0 to 65535'}; scale them to 8 or 16 bits",
        )
    if white == (1 if floats else 65_535):
        return white, ()
    kind = "float" if floats else "integer"
    return white, (f"32-bit {kind} samples do not state their range; read as 0 to {white}",)
