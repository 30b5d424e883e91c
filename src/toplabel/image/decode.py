"""Decode: an image file or a Pillow image in, upright RGB out, by Pillow. First frame only.

Each format's plugin is called by itself, by content: `PIL.Image.open` would warn by a limit of
its own, which is global, and try formats that run other programs.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, _imaging

from toplabel._internal.optional import require
from toplabel.errors import ImageError, MissingDependency
from toplabel.image.decoded_image import (
    USUAL_BYTES,
    DecodedImage,
    Pixels,
    check_pixels,
    exif_orientation,
    turn,
    upright,
)
from toplabel.image.failures import cut_short, from_decoder
from toplabel.image.options import ReadOptions

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "HEIF": ("pi_heif.as_plugin", "HeifImageFile"),
}
_ORIENTATION, _BITS_PER_SAMPLE = 274, 258
_STRIPS, _TILES = (273, 279), (324, 325)  # tags of their offsets and of their lengths
_MAX_RLE_PIXELS = 16_000_000
_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "HEIF": 12}  # measured; these libraries keep copies
_PPM_HEADER = re.compile(rb"P[456]((\s|#[^\r\n]*[\r\n])+\d+){2,3}\s")
_PPM_HEADER_BYTES = 1 << 16
_BAND_PIXELS = 2**22  # large images are converted in bands: a quarter of the peak memory
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

Converter = Callable[[Image.Image], NDArray[np.uint8]]


def decode(content: bytes | BinaryIO, format_name: str, *, options: ReadOptions) -> DecodedImage:
    """The first image in a file of a known format.

    Args:
        content: The whole file, or the file open for reading.
        format_name: As `toplabel.image.files.sniff` gives it.
        options: How to read.

    Raises:
        ImageError: It is too large, truncated, corrupt, or of a kind that cannot be decoded.
    """
    image, pixels, warnings = _decode(content, format_name, options=options)
    pixels = upright(pixels, stored_orientation(image))
    return DecodedImage(pixels, pixels.shape[0], pixels.shape[1], 1, warnings)


def decode_stored(
    content: bytes, format_name: str, *, options: ReadOptions
) -> tuple[Pixels, tuple[str, ...]]:
    """Pixels (H, W, 3) as stored, not turned upright, and warnings.

    Raises:
        ImageError: As `decode`.
    """
    _, pixels, warnings = _decode(content, format_name, options=options)
    return pixels, warnings


def decode_image(image: Image.Image, *, options: ReadOptions) -> DecodedImage:
    """The current frame of a Pillow image, upright by the EXIF block that it carries.

    Raises:
        ImageError: It is too large, or its file cannot be decoded.
    """
    try:
        if not image.height or not image.width:
            raise ImageError("empty", f"the image is {image.width} x {image.height} pixels")
        check_pixels(image.height, image.width, max_pixels=options.max_pixels)
        with turn(image.height * image.width):
            image.load()
            pixels, warnings = rgb_pixels(image, srgb=options.srgb, white=_white(image))
        pixels = upright(pixels, stored_orientation(image))
    except Exception as error:
        raise from_decoder(error, format_name=image.format or "Pillow") from error
    return DecodedImage(pixels, pixels.shape[0], pixels.shape[1], 1, warnings)


def stored_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that the loaded pixels still have to be turned by."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # Pillow turns a TIFF when it is loaded whole, and drops the tag
        value = tags.get(_ORIENTATION, 1)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
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
            if format_name == "PPM" and image.mode != "1":
                return image, *_load_ppm(image, file, options.allow_truncated)
            warnings = _load(image, format_name, allow_truncated=options.allow_truncated)
            pixels, doubts = rgb_pixels(image, srgb=options.srgb, white=_white(image))
        return image, pixels, warnings + doubts
    except Exception as error:
        # No local holds it: from its own traceback that would be a cycle, which keeps the pixels.
        raise _failure(error, file, format_name) from error


def _failure(error: Exception, file: BinaryIO, format_name: str) -> ImageError:
    """What a decoder's error means: a file that ends early is `truncated`, whatever it raised."""
    failure = from_decoder(error, format_name=format_name)
    if failure.code == "corrupt" and _ends_early(file, format_name):
        return cut_short(format_name)
    return failure


def _open(file: BinaryIO, format_name: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    file.seek(0)
    if format_name == "HEIF":
        try:
            require("pi_heif", extra="heif", purpose="reading HEIC photos")
        except MissingDependency as error:
            raise ImageError("unsupported_format", f"it is HEIC, and {error}") from error
    if format_name == "PPM":  # Pillow reads a header, with its comments, byte by byte in Python
        head = file.read(_PPM_HEADER_BYTES)
        if len(head) == _PPM_HEADER_BYTES and not _PPM_HEADER.match(head):
            raise ValueError("its header has no size")
        file.seek(0)
    _silence_log()
    if format_name == "TIFF":
        _silence_libtiff()
    module, name = _PLUGINS[format_name]
    image: Image.Image = getattr(import_module(module), name)(file, "")
    return image


def _check(image: Image.Image, format_name: str, *, max_pixels: int) -> None:
    """Refuse by the header; run-length BMP sooner, for Pillow decodes it in Python."""
    if image.height < 1 or image.width < 1:
        raise ValueError(f"its header gives a size of {image.width} x {image.height}")
    needed = _BYTES_PER_PIXEL.get(format_name, USUAL_BYTES)
    check_pixels(image.height, image.width, max_pixels=max_pixels, bytes_per_pixel=needed)
    slow = any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ()))
    if slow and image.height * image.width > _MAX_RLE_PIXELS:
        raise ImageError(
            "too_large",
            f"the run-length encoded BMP has {image.width} x {image.height} pixels; the limit is"
            f" {_MAX_RLE_PIXELS:,}; convert it to PNG",
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


def _load_ppm(image: Any, file: BinaryIO, allow_truncated: bool) -> tuple[Pixels, tuple[str, ...]]:
    """RGB of a PGM or PPM. Pillow scales samples of an unusual maximum one at a time, in Python."""
    decoder, _, offset, arguments = image.tile[0]
    white = arguments[1] if decoder == "ppm" else 65_535 if image.mode == "I" else 255
    shape = image.height, image.width, 3 if image.mode == "RGB" else 1
    dtype = np.dtype(">u2" if white > 255 else np.uint8)
    size = int(np.prod(shape)) * dtype.itemsize
    file.seek(offset)
    content = file.read(size)
    warnings: tuple[str, ...] = ()
    if len(content) < size:
        if not allow_truncated:
            raise cut_short("PPM")
        content += bytes(size - len(content))
        warnings = ("the PPM data ends early; the rest is missing",)
    samples = np.frombuffer(content, dtype).reshape(shape)
    if white != 255:
        levels = np.minimum(np.arange(256**dtype.itemsize) / white, 1)  # beyond it is white, too
        samples = np.rint(levels * 255).astype(np.uint8)[samples]
    pixels = np.empty((*shape[:2], 3), np.uint8)
    pixels[...] = samples
    return pixels, warnings


def _white(image: Image.Image) -> int | None:
    """The sample value of white that a TIFF of 9 to 15 bits states, which Pillow does not scale."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
    if image.mode.startswith("I;16") and isinstance(bits, tuple) and bits[:1] and 8 < bits[0] < 16:
        return (1 << int(bits[0])) - 1
    return None


def rgb_pixels(
    image: Image.Image, *, srgb: bool = False, white: int | None = None
) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels of shape (H, W, 3), as stored, and what is doubtful about them.

    Transparent images are composited on white: what is wholly transparent becomes white. High bit
    depths are scaled, never clipped: see `full_scale`.

    Args:
        image: Loaded, of any mode.
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


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Horizontal bands (top, band) that cover the image; the image itself where it is small."""
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _colour_converter(image: Image.Image, *, srgb: bool) -> tuple[Converter, tuple[str, ...]]:
    """For modes of 8 bits a sample, and 1."""
    transform, warnings = _profile_transform(image) if srgb else (None, ())
    if image.mode == "LAB" and transform is None:
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, rgb, "LAB", "RGB")

    def convert(band: Image.Image) -> NDArray[np.uint8]:
        flat = _flatten(band)
        if transform is not None:
            if flat.mode != transform.inputMode:
                flat = flat.convert(transform.inputMode)
            flat = transform.apply(flat)
        elif flat.mode not in ("L", "RGB"):
            flat = flat.convert("L" if flat.mode == "1" else "RGB")
        return np.asarray(flat)

    return convert, warnings


def _flatten(image: Image.Image) -> Image.Image:
    """Without transparency, composited on white; a palette becomes its colours."""
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode == "P" else image
    if image.mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The colour key of a 16-bit PNG, which Pillow reads as 8 bits without its key.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", image.size, (255, 255, 255))
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


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
    """The sample value that means white in a 32-bit image, which does not state it.

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


def _ends_early(file: BinaryIO, format_name: str) -> bool:
    """Whether the file is cut short, by the lengths that its own structure states.

    Only asked once decoding has failed: many good files have careless structures.
    """
    check = {
        "PNG": _png_ends_early,
        "WEBP": _riff_ends_early,
        "AVIF": _boxes_end_early,
        "HEIF": _boxes_end_early,
        "GIF": _gif_ends_early,
        "TIFF": _tiff_ends_early,
    }.get(format_name)
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return check is not None and check(file, size)
    except (OSError, ValueError, SyntaxError, KeyError):  # damaged; or the file was closed
        return False


def _png_ends_early(file: BinaryIO, size: int) -> bool:
    position = 8
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        if head[4:] == b"IEND":
            return False
        position += 12 + int.from_bytes(head[:4], "big")
    return True


def _riff_ends_early(file: BinaryIO, size: int) -> bool:
    return size < 12 or int.from_bytes(file.read(8)[4:], "little") + 8 > size


def _gif_ends_early(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 1))
    return file.read(1) != b";"


def _boxes_end_early(file: BinaryIO, size: int) -> bool:
    """AVIF and HEIF: a sequence of boxes, each with its length."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 0:  # to the end
            return False
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        position += max(8, length)
    return position != size


def _tiff_ends_early(file: BinaryIO, size: int) -> bool:
    """The first directory, or a strip or tile of the image, lies beyond the end."""
    head = file.read(8)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    if len(head) < 8:
        return True
    if head[2:4] in (b"*\0", b"\0*"):  # else BigTIFF
        start = int.from_bytes(head[4:], order)
        file.seek(start)
        if start + 2 + 12 * int.from_bytes(file.read(2), order) > size:
            return True
    tags: Any = _open(file, "TIFF").tag_v2  # type: ignore[attr-defined]
    return any(
        offset + length > size
        for offsets, lengths in (_STRIPS, _TILES)
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    )


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
