"""Decode: an image file or a Pillow image in, upright RGB out. First frame only.

Pillow decodes; what it does not read right is read by `tiff`, `png` and `netpbm`. Each format's
plugin is called by itself, by content: `PIL.Image.open` would warn by a limit of its own, which is
global, and try formats that run other programs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
from toplabel.image.ends_early import ends_early
from toplabel.image.failures import cut_short, from_decoder
from toplabel.image.options import ReadOptions
from toplabel.image.pillow_globals import nothing_missing, silence_libtiff, silence_log
from toplabel.image.ranges import full_scale, invisible, nearly_black, unfilled

_MOST_BLOCKS = 20_000  # before the first frame; a comment of a page has a dozen
_MOST_COMMENTS = 1 << 20  # bytes: Pillow joins them again and again
_COUNTED_BYTES = 1 << 16  # smaller files cannot hold what takes long
_COLOURS, _FRAME, _EXTENSION, _COMMENT = 0x80, b",", b"!", b"\xfe"
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
_ORIENTATION, _BITS_PER_SAMPLE, _PROFILE = 274, 258, 34675
_MAX_FRAMES = 100  # looked at for one in which there is anything
_MAX_FRAME_PIXELS = 100_000_000  # of these together
_MAX_RLE_PIXELS = 16_000_000
_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 12, "HEIF": 12}  # measured; these libraries keep copies
_BAND_PIXELS = 2**22  # large images are converted in bands: a quarter of the peak memory
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

if TYPE_CHECKING:
    from toplabel.image.png import PngHeader

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
    pixels, orientation, warnings = _decode(content, format_name, options=options)
    pixels = upright(pixels, orientation)
    return DecodedImage(pixels, pixels.shape[0], pixels.shape[1], 1, warnings)


def decode_stored(
    content: bytes, format_name: str, *, options: ReadOptions
) -> tuple[Pixels, tuple[str, ...]]:
    """Pixels (H, W, 3) as stored, not turned upright, and warnings.

    Raises:
        ImageError: As `decode`.
    """
    pixels, _, warnings = _decode(content, format_name, options=options)
    return pixels, warnings


def decode_image(image: Image.Image, *, options: ReadOptions) -> DecodedImage:
    """The current frame of a Pillow image, upright by the EXIF block that it carries.

    Where its file is open and nothing of it decoded yet, it is read as files are: what Pillow
    gives of some kinds of TIFF and PNG is not what is stored.

    Raises:
        ImageError: It is too large, or its file cannot be decoded.
    """
    try:
        if not image.height or not image.width:
            raise ImageError("empty", f"the image is {image.width} x {image.height} pixels")
        check_pixels(image.height, image.width, max_pixels=options.max_pixels)
        if image.format in ("TIFF", "PNG", "GIF", "BMP") and _is_as_opened(image):
            pixels, orientation, warnings = _read_behind(image, options)
        else:
            with turn(image.height * image.width), nothing_missing():
                image.load()
                pixels, warnings = rgb_pixels(image, srgb=options.srgb, white=_white(image))
            orientation = stored_orientation(image)
        pixels = upright(pixels, orientation)
    except Exception as error:
        raise from_decoder(error, format_name=image.format or "Pillow") from error
    warnings = warnings or nearly_black(pixels)
    return DecodedImage(pixels, pixels.shape[0], pixels.shape[1], 1, warnings)


def _is_as_opened(image: Image.Image) -> bool:
    """Whether the image is the first of a file that is open, with nothing decoded."""
    file = getattr(image, "fp", None)
    return file is not None and bool(getattr(image, "tile", ())) and image.tell() == 0


def _read_behind(image: Image.Image, options: ReadOptions) -> tuple[Pixels, int, tuple[str, ...]]:
    """The first image of the file that a Pillow image was opened from; it stays as it was."""
    file: BinaryIO = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    try:
        with nothing_missing():
            if image.format == "TIFF":
                return _read_tiff(file, options, first=True)
            return _read(file, str(image.format), options)
    finally:
        file.seek(position)


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
) -> tuple[Pixels, int, tuple[str, ...]]:
    """Pixels as stored, their orientation and what is doubtful about them.

    The border: whatever a decoder raises becomes an `ImageError` here.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with nothing_missing():
            pixels, orientation, warnings = _read(file, format_name, options)
        return pixels, orientation, warnings or nearly_black(pixels)
    except Exception as error:
        # No local holds it: from its own traceback that would be a cycle, which keeps the pixels.
        raise _failure(error, file, format_name) from error


def _read(
    file: BinaryIO, format_name: str, options: ReadOptions
) -> tuple[Pixels, int, tuple[str, ...]]:
    """Pixels as stored, their orientation and what is doubtful about them."""
    if format_name == "TIFF":
        return _read_tiff(file, options)
    if format_name == "PNG":
        from toplabel.image.png import check_chunks

        check_chunks(file)
        return _read_png(file, options)
    if format_name == "GIF":
        _check_blocks(file)
    if format_name == "PPM":
        return _read_netpbm(file, options)
    if format_name == "BMP":
        return _read_bmp(file, options)
    return _read_by_pillow(file, format_name, options)


def _read_by_pillow(
    file: BinaryIO, format_name: str, options: ReadOptions
) -> tuple[Pixels, int, tuple[str, ...]]:
    image = _open(file, format_name)
    _check(image, format_name, max_pixels=options.max_pixels)
    tiles = getattr(image, "tile", ())
    frame = tiles[0].extents if format_name == "GIF" and tiles else None
    with turn(image.height * image.width):
        warnings = _load(image, format_name, allow_truncated=options.allow_truncated)
        if format_name == "BMP":
            image = _without_empty_alpha(image)
        pixels, doubts = rgb_pixels(image, srgb=options.srgb)
        if frame is not None:
            pixels = _on_white(pixels, frame)
        if doubts and getattr(image, "is_animated", False):
            pixels, doubts = _first_seen(image, options) or (pixels, doubts)
    return pixels, stored_orientation(image), warnings + doubts + _odd_gamma(image)


def _first_seen(image: Image.Image, options: ReadOptions) -> tuple[Pixels, tuple[str, ...]] | None:
    """The first frame in which there is anything, of an animation that begins with nothing."""
    if not _nothing_to_see(image):
        return None
    most = min(_MAX_FRAMES, 1 + _MAX_FRAME_PIXELS // (image.height * image.width))
    for frame in range(1, most):
        try:
            image.seek(frame)
        except EOFError:  # counting them first would read the whole file
            break
        image.load()
        if not _nothing_to_see(image):
            pixels, doubts = rgb_pixels(image, srgb=options.srgb)
            told = f"the animation begins with nothing to be seen; frame {frame + 1} is read"
            return pixels, (told, *doubts)
    return None


def _odd_gamma(image: Image.Image) -> tuple[str, ...]:
    """A word on a PNG whose stated gamma makes another image of it where that is applied."""
    gamma = image.info.get("gamma")
    usual = gamma is None or 0.25 < gamma < 0.8
    if usual or image.format != "PNG" or not image.info.keys().isdisjoint({"srgb", "icc_profile"}):
        return ()
    return (
        f"the PNG states a gamma of {gamma:g} (gAMA), which some viewers apply and training does"
        " not; pixels are as stored",
    )


def _without_empty_alpha(image: Image.Image) -> Image.Image:
    """A BMP whose alpha is zero everywhere has none, as all viewers take it."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image


def _on_white(pixels: Pixels, frame: tuple[int, int, int, int]) -> Pixels:
    """What the first frame of a GIF leaves of the canvas is transparent, as browsers show it."""
    left, top, right, bottom = frame
    for outside in (pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:]):
        outside[...] = 255
    return pixels


def _read_bmp(file: BinaryIO, options: ReadOptions) -> tuple[Pixels, int, tuple[str, ...]]:
    try:
        return _read_by_pillow(file, "BMP", options)
    except OSError as error:
        if "bitfields layout" not in str(error):
            raise
    from toplabel.image.bmp import read_masked

    pixels, warnings = read_masked(file, options)
    return pixels, 1, warnings


def _read_netpbm(file: BinaryIO, options: ReadOptions) -> tuple[Pixels, int, tuple[str, ...]]:
    from toplabel.image.netpbm import decode_netpbm

    pixels, warnings = decode_netpbm(file, options)
    return pixels, 1, warnings


def _read_tiff(
    file: BinaryIO, options: ReadOptions, *, first: bool = False
) -> tuple[Pixels, int, tuple[str, ...]]:
    """The main image of a TIFF, or the first one, which Pillow reads or the readers of `tiff`."""
    from toplabel.image.tiff.directory import read_directories
    from toplabel.image.tiff.layout import layout_of, reads_with_pillow
    from toplabel.image.tiff.pages import main_image
    from toplabel.image.tiff.pixels import read_pixels

    silence_log()
    silence_libtiff()
    tags, told = main_image(file)
    if first and not tags.is_first:
        told = ("the first image of the TIFF is a thumbnail or a mask; pass the path of its file",)
        tags = next(read_directories(file))
    layout = layout_of(tags)
    if reads_with_pillow(tags, layout):
        found, orientation, warnings = _read_by_pillow(tags.as_first(), "TIFF", options)
        return found, orientation, told + warnings
    with turn(layout.height * layout.width):
        pixels, warnings = read_pixels(tags, layout, options)
        profile = bytes(tags.values(_PROFILE)) if options.srgb else b""
        pixels, doubts = _with_profile(pixels, profile)
    return pixels, tags.value(_ORIENTATION, 1), told + warnings + doubts


def _with_profile(pixels: Pixels, profile: bytes) -> tuple[Pixels, tuple[str, ...]]:
    """Pixels converted from a colour profile to sRGB, where there is one; and a warning."""
    if not profile:
        return pixels, ()
    image = Image.fromarray(pixels)
    image.info["icc_profile"] = profile
    return rgb_pixels(image, srgb=True)


def _read_png(file: BinaryIO, options: ReadOptions) -> tuple[Pixels, int, tuple[str, ...]]:
    """By Pillow, but for Xcode's variant and for colours of which 8 of 16 bits are not enough."""
    file.seek(0)
    head = file.read(26)
    if head[12:16] != b"CgBI" and head[24:25] != b"\x10":
        return _read_by_pillow(file, "PNG", options)
    from toplabel.image.png import pixels_of_apple, read_header, standard_form

    header = read_header(file)
    if header is None:
        return _read_by_pillow(file, "PNG", options)
    if not header.is_apple:
        return _read_deep_png(file, header, options)
    check_pixels(header.height, header.width, max_pixels=options.max_pixels, bytes_per_pixel=20)
    with turn(header.height * header.width):
        image = _open(io.BytesIO(standard_form(file, header)), "PNG")
        image.load()
        if image.mode not in ("RGB", "RGBA"):
            raise NotImplementedError(f"Xcode's variant (CgBI) with mode {image.mode}")
        return pixels_of_apple(np.asarray(image)), stored_orientation(image), ()


def _read_deep_png(
    file: BinaryIO, header: PngHeader, options: ReadOptions
) -> tuple[Pixels, int, tuple[str, ...]]:
    """A PNG of 16 bits a sample.

    All bits are read where the file states a key or that fewer carry something, or where the
    upper eight that Pillow gives of colours are small.
    """
    from toplabel.image.png import exact_pixels

    image = _open(file, "PNG")
    _check(image, "PNG", max_pixels=options.max_pixels)
    with turn(image.height * image.width):
        if not header.key and not header.significant:
            warnings = _load(image, "PNG", allow_truncated=options.allow_truncated)
            if warnings or image.mode in _DEEP or not _is_dark(image):
                pixels, doubts = rgb_pixels(image, srgb=options.srgb)
                return pixels, stored_orientation(image), warnings + doubts
        pixels, warnings = exact_pixels(file, header, options)
        profile = image.info.get("icc_profile", b"") if options.srgb else b""
        pixels, doubts = _with_profile(pixels, profile)
    return pixels, stored_orientation(image), warnings + doubts


def _is_dark(image: Image.Image) -> bool:
    """Whether the colours fill a quarter of their range at most; bright rows end the search."""
    colours = len(image.getbands()) - (image.mode in ("LA", "RGBA"))
    middle = image.crop((0, image.height // 2, image.width, image.height // 2 + 1))
    for part in (middle, image):
        extrema: Any = [part.getchannel(at).getextrema() for at in range(colours)]
        if max(high for _, high in extrema) > 63:
            return False
    return True


def _failure(error: Exception, file: BinaryIO, format_name: str) -> ImageError:
    """What a decoder's error means: a file that ends early is `truncated`, whatever it raised."""
    failure = from_decoder(error, format_name=format_name)
    if failure.code == "corrupt" and ends_early(file, format_name):
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
    silence_log()
    if format_name == "TIFF":
        silence_libtiff()
    module, name = _PLUGINS[format_name]
    image: Image.Image = getattr(import_module(module), name)(file, "")
    if format_name == "PNG":
        _scale_key(image)
    return image


def _scale_key(image: Image.Image) -> None:
    """Pillow scales grey of 2 and 4 bits to 8, and leaves the transparent one as it was."""
    key = image.info.get("transparency")
    tiles = getattr(image, "tile", ())
    bits = {"L;2": 2, "L;4": 4}.get(str(tiles[0].args)) if tiles else None
    if bits is not None and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**bits - 1)


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
    warnings += _nothing_to_see(image)
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
    rgba = _rgba(image)
    flat = Image.new("RGB", image.size, (255, 255, 255))
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


def _rgba(image: Image.Image) -> Image.Image:
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _nothing_to_see(image: Image.Image) -> tuple[str, ...]:
    """A word on an image that is transparent all over; an opaque middle ends the search."""
    if not image.has_transparency_data:
        return ()
    middle = image.crop((0, image.height // 2, image.width, image.height // 2 + 1))
    if not invisible(_highest_alpha(middle)):
        return ()
    return invisible(max(_highest_alpha(band) for _, band in _bands(image)))


def _highest_alpha(image: Image.Image) -> float:
    return float(_rgba(image).getchannel("A").getextrema()[1])  # type: ignore[arg-type]


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
        white, warnings = _white_of(image)
    factor = np.float32(255 / white)

    def convert(band: Image.Image) -> NDArray[np.uint8]:
        values = np.asarray(band).astype(np.float32)
        values *= factor
        values += np.float32(0.5)
        return np.clip(values, 0, 255, out=values).astype(np.uint8)

    return convert, warnings


def _white_of(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """The value of white of a deep image that does not state it."""
    low, high = np.inf, -np.inf
    for _, band in _bands(image):
        values = np.asarray(band)
        low, high = min(low, values.min()), max(high, values.max())
    if image.mode in ("I", "F"):
        return full_scale(float(low), float(high), floats=image.mode == "F")
    return 65_535, unfilled(float(high), 65_535)


def _check_blocks(file: BinaryIO) -> None:
    """Refuse a GIF with more blocks than any program writes before its first frame.

    Pillow would read them one by one.

    Raises:
        ImageError: `corrupt`.
    """
    if file.seek(0, io.SEEK_END) < _COUNTED_BYTES:
        return
    file.seek(0)
    head = file.read(13)
    if len(head) == 13 and head[10] & _COLOURS:
        file.seek(3 << ((head[10] & 7) + 1), io.SEEK_CUR)
    blocks, comments = 0, 0
    while (kind := file.read(1)) and kind != _FRAME:
        blocks += 1
        is_comment = kind == _EXTENSION and file.read(1) == _COMMENT
        while kind == _EXTENSION and (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], io.SEEK_CUR)
            blocks += 1
            comments += length[0] if is_comment else 0
            if blocks > _MOST_BLOCKS:
                break
        if blocks > _MOST_BLOCKS or comments > _MOST_COMMENTS:
            raise ImageError("corrupt", "the GIF has more blocks than any program writes")
