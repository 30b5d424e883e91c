"""Decode: a picture file in, upright RGB out, by Pillow. First frame only.

Each format's plugin is called by itself, by content: `PIL.Image.open` would warn by a limit of
its own, which is global, and try formats that run other programs.
"""

from __future__ import annotations

import io
import logging
from functools import cache
from importlib import import_module
from typing import BinaryIO

from PIL import Image, _imaging

from toplabel._internal.optional import require
from toplabel.errors import ImageError, MissingDependency
from toplabel.image.container import ends_early
from toplabel.image.failures import cut_short, from_decoder
from toplabel.image.limits import USUAL_BYTES, check_pixels, turn
from toplabel.image.modes import rgb_pixels
from toplabel.image.options import ReadOptions
from toplabel.image.orientation import exif_orientation, upright
from toplabel.image.picture import Picture, Pixels

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pi_heif.as_plugin", "HeifImageFile"),
}
_ORIENTATION, _BITS_PER_SAMPLE = 274, 258
_MAX_RLE_PIXELS = 16_000_000
_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "HEIF": 12}  # measured; these libraries keep copies


def decode(content: bytes | BinaryIO, format_name: str, *, options: ReadOptions) -> Picture:
    """The first picture in a file of a known format.

    Args:
        content: The whole file, or the file open for reading.
        format_name: As `toplabel.image.sniff.sniff` gives it.
        options: How to read.

    Raises:
        ImageError: It is too large, truncated, corrupt, or of a kind that nobody decodes.
    """
    image, pixels, warnings = _decode(content, format_name, options=options)
    pixels = upright(pixels, stored_orientation(image))
    return Picture(pixels, pixels.shape[0], pixels.shape[1], 1, warnings)


def decode_stored(
    content: bytes, format_name: str, *, options: ReadOptions
) -> tuple[Pixels, tuple[str, ...]]:
    """Pixels (H, W, 3) as stored, not turned upright, and warnings.

    Raises:
        ImageError: As `decode`.
    """
    _, pixels, warnings = _decode(content, format_name, options=options)
    return pixels, warnings


def decode_image(image: Image.Image, *, options: ReadOptions) -> Picture:
    """The current frame of a Pillow image, upright by the EXIF block that it carries.

    Raises:
        ImageError: It is too large, or its file cannot be decoded.
    """
    try:
        if not image.height or not image.width:
            raise ImageError("empty", f"the picture is {image.width} x {image.height} pixels")
        check_pixels(image.height, image.width, max_pixels=options.max_pixels)
        with turn(image.height * image.width):
            image.load()
            pixels, warnings = rgb_pixels(image, srgb=options.srgb, white=_white(image))
        pixels = upright(pixels, stored_orientation(image))
    except Exception as error:
        raise from_decoder(error, format_name=image.format or "Pillow") from error
    return Picture(pixels, pixels.shape[0], pixels.shape[1], 1, warnings)


def stored_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that the loaded pixels still have to be turned by."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # Pillow turns a TIFF when it is loaded whole, and drops the tag
        stated = tags.get(_ORIENTATION, 1)
        return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif_orientation(exif)
    text = image.info.get("Raw profile type exif")  # how ImageMagick wrote EXIF into PNG
    if isinstance(text, str):
        try:
            return exif_orientation(bytes.fromhex("".join(text.split("\n")[3:])))
        except ValueError:
            return 1
    return 1


def _decode(
    content: bytes | BinaryIO, format_name: str, *, options: ReadOptions
) -> tuple[Image.Image, Pixels, tuple[str, ...]]:
    """The border: whatever a decoder raises becomes an `ImageError` here."""
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        image = _open(file, format_name)
        _check(image, format_name, max_pixels=options.max_pixels)
        with turn(image.height * image.width):
            warnings = _load(image, format_name, allow_truncated=options.allow_truncated)
            pixels, doubts = rgb_pixels(image, srgb=options.srgb, white=_white(image))
        return image, pixels, warnings + doubts
    except Exception as error:
        # No local holds it: from its own traceback that would be a cycle, which keeps the pixels.
        raise _failure(error, file, format_name) from error


def _failure(error: Exception, file: BinaryIO, format_name: str) -> ImageError:
    """What a decoder's error means: a file that ends early is `truncated`, whatever it said."""
    failure = from_decoder(error, format_name=format_name)
    if failure.code == "corrupt" and _is_cut(file, format_name):
        return cut_short(format_name)
    return failure


def _is_cut(file: BinaryIO, format_name: str) -> bool:
    try:
        return ends_early(file, format_name)
    except (OSError, ValueError):  # the file went away or was closed
        return False


def _open(file: BinaryIO, format_name: str) -> Image.Image:
    """The picture with its header read and nothing decoded."""
    file.seek(0)
    if format_name == "HEIF":
        try:
            require("pi_heif", extra="heif", purpose="reading HEIC photos")
        except MissingDependency as error:
            raise ImageError("unsupported_format", f"it is HEIC, and {error}") from error
    _silence_log()
    if format_name == "TIFF":
        _silence_libtiff()
    module, name = _PLUGINS[format_name]
    image: Image.Image = getattr(import_module(module), name)(file, "")
    return image


def _check(image: Image.Image, format_name: str, *, max_pixels: int) -> None:
    """Refuse by the header; run-length BMP sooner, for Pillow decodes it in Python."""
    needed = _BYTES_PER_PIXEL.get(format_name, USUAL_BYTES)
    check_pixels(image.height, image.width, max_pixels=max_pixels, bytes_per_pixel=needed)
    slow = any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ()))
    if slow and image.height * image.width > _MAX_RLE_PIXELS:
        raise ImageError(
            "too_large",
            f"the run-length encoded BMP has {image.width} x {image.height} pixels; accepted are up"
            f" to {_MAX_RLE_PIXELS:,}; convert it to PNG",
        )


def _load(image: Image.Image, format_name: str, *, allow_truncated: bool) -> tuple[str, ...]:
    """Decode the pixels; where part of them is missing and that is allowed, warn."""
    try:
        image.load()
    except Exception as error:
        partial = allow_truncated and getattr(image, "_im", None) is not None
        if not partial or isinstance(error, MemoryError):
            raise
        # What was decoded so far stays in the image; without tiles it counts as loaded.
        image.tile = []  # type: ignore[attr-defined]
        return (f"the {format_name} data ends early or is damaged; a part is missing ({error})",)
    return ()


def _white(image: Image.Image) -> int | None:
    """The sample value of white that a TIFF of 9 to 15 bits states, which Pillow does not scale."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
    if image.mode.startswith("I;16") and isinstance(bits, tuple) and bits[:1] and 8 < bits[0] < 16:
        return (1 << int(bits[0])) - 1
    return None


@cache
def _silence_log() -> None:
    """Keep Python from printing Pillow's log where the program has not set up logging.

    What goes wrong arrives as an exception; programs that do set up logging still get the log.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing its complaints straight to file descriptor 2.

    Its errors arrive as exceptions all the same. Where its functions cannot be found (a Pillow
    that was linked in another way) it goes on writing.
    """
    import ctypes  # 5 ms, needed only for TIFF

    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
    except (AttributeError, OSError):
        return
