"""Modes of pixels: grey, palettes, alpha, inks, high bit depths, colour profiles."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from pictures import code_of, encoded, mean_colour, scene
from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image


def test_grey_and_bilevel_images_become_grey_rgb() -> None:
    grey = scene().convert("L")
    assert np.array_equal(read_image(encoded(grey, "PNG")).pixels[:, :, 1], np.asarray(grey))
    bilevel = scene().convert("1")
    expected = np.asarray(bilevel).astype(np.uint8) * 255
    for name in ("PNG", "BMP", "TIFF", "PPM"):
        pixels = read_image(encoded(bilevel, name)).pixels
        assert np.array_equal(pixels[:, :, 2], expected)


def test_palettes_become_their_colours() -> None:
    palette = scene().quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    for name in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(read_image(encoded(palette, name)).pixels, expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_alpha_is_composited_on_white(mode: str, name: str) -> None:
    image = Image.new(mode, (8, 8), (200, 100, 0, 64) if mode == "RGBA" else (100, 64))
    colour = np.array([200, 100, 0]) if mode == "RGBA" else np.array([100, 100, 100])
    expected = colour * (64 / 255) + 255 * (1 - 64 / 255)
    assert np.abs(mean_colour(encoded(image, name)) - expected).max() <= 1


def test_webp_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 0, 0))
    assert (read_image(encoded(image, "WEBP", lossless=True)).pixels == 255).all()


def test_transparent_palette_entries_become_white() -> None:
    palette = scene().quantize(8)
    index = palette.getpixel((0, 0))
    for name in ("PNG", "GIF"):
        pixels = read_image(encoded(palette, name, transparency=index)).pixels
        assert (pixels[0, 0] == 255).all()
        assert not (pixels[40, 80] == 255).all()
    levels = bytes([128] * 8)
    half = read_image(encoded(palette, "PNG", transparency=levels)).pixels
    expected = np.asarray(palette.convert("RGB")) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(half - expected).max() <= 1


def test_colour_keys_become_white() -> None:
    image = scene()
    key = image.getpixel((0, 0))
    assert (read_image(encoded(image, "PNG", transparency=key)).pixels[0, 0] == 255).all()
    grey = image.convert("L")
    content = encoded(grey, "PNG", transparency=grey.getpixel((0, 0)))
    assert (read_image(content).pixels[0, 0] == 255).all()


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(name: str) -> None:
    image = Image.fromarray(np.full((8, 8), 30_000, np.uint16))
    assert (read_image(encoded(image, name)).pixels == 117).all()


def test_big_endian_16_bit_grey_is_scaled() -> None:
    image = Image.frombytes("I;16B", (4, 4), struct.pack(">16H", *[30_000] * 16))
    assert (read_image(image).pixels == 117).all()


def test_dark_16_bit_grey_stays_dark() -> None:
    for name in ("PNG", "TIFF", "PPM"):
        image = Image.fromarray(np.full((8, 8), 200, np.uint16))
        assert (read_image(encoded(image, name)).pixels == 1).all()


def png_of_16_bit_rgb(values: np.ndarray, colour_type: int = 2) -> bytes:
    height, width, _ = values.shape

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colour_png_is_scaled() -> None:
    values = np.random.default_rng(1).integers(0, 65_536, (16, 16, 3))
    pixels = read_image(png_of_16_bit_rgb(values)).pixels
    assert np.abs(pixels - values / 257).max() <= 1
    opaque = np.concatenate([values, np.full((16, 16, 1), 65_535)], axis=2)
    pixels = read_image(png_of_16_bit_rgb(opaque, 6)).pixels
    assert np.abs(pixels - values / 257).max() <= 1


@pytest.mark.parametrize(
    ("mode", "value", "expected", "warns"),
    [
        ("I", 30_000, 117, False),
        ("I", 200, 200, True),
        ("I", 2**31 - 1, 255, True),
        ("F", 0.5, 128, False),
        ("F", 1.0, 255, False),
        ("F", 0.0, 0, False),
        ("F", 200.0, 200, True),
        ("F", 30_000.0, 117, True),
    ],
)
def test_32_bit_samples_follow_the_written_rule(
    mode: str, value: float, expected: int, warns: bool
) -> None:
    image = Image.new(mode, (8, 8), value)
    for source in (image, encoded(image, "TIFF")):
        picture = read_image(source)
        assert (picture.pixels == expected).all()
        assert bool(picture.warnings) is warns


@pytest.mark.parametrize(
    ("mode", "value", "code"),
    [
        ("I", -5, "unsupported_format"),
        ("F", -0.5, "unsupported_format"),
        ("F", 1e9, "unsupported_format"),
        ("F", float("nan"), "non_finite"),
        ("F", float("inf"), "non_finite"),
    ],
)
def test_32_bit_samples_without_a_scale_are_refused(mode: str, value: float, code: str) -> None:
    assert code_of(encoded(Image.new(mode, (8, 8), value), "TIFF")) == code


def test_cmyk_and_ycck_jpeg_have_the_right_colours() -> None:
    # Half cyan ink, no other: paper white less half of the red.
    cmyk = Image.new("CMYK", (32, 32), (128, 0, 0, 0))
    for name in ("JPEG", "TIFF"):
        assert np.abs(mean_colour(encoded(cmyk, name)) - [127, 255, 255]).max() <= 3
    dark = Image.new("CMYK", (32, 32), (0, 0, 0, 204))
    assert np.abs(mean_colour(encoded(dark, "JPEG")) - 51).max() <= 3
    # The same inks as Adobe's YCCK: libjpeg applies YCbCr to the first three.
    content = bytearray(encoded(Image.new("CMYK", (32, 32), (128, 128, 128, 0)), "JPEG"))
    adobe = content.index(b"Adobe")
    assert content[adobe + 11] == 0
    content[adobe + 11] = 2  # now Y = 127, Cb = 127, Cr = 127: a grey of the same value
    assert np.abs(mean_colour(bytes(content)) - 127).max() <= 3


def test_lab_is_converted() -> None:
    lab = Image.new("LAB", (8, 8), (255, 128, 128))
    assert np.abs(mean_colour(encoded(lab, "TIFF")) - 255).max() <= 3
    grey = Image.new("LAB", (8, 8), (137, 128, 128))  # L* = 53.7
    assert np.abs(mean_colour(encoded(grey, "TIFF")) - 128).max() <= 3


def test_a_pillow_image_without_pixels_is_empty() -> None:
    with pytest.raises(ImageError, match="0 x 5") as caught:
        read_image(Image.new("RGB", (0, 5)))
    assert caught.value.code == "empty"


def test_ycbcr_tiff_is_converted() -> None:
    content = encoded(scene().convert("YCbCr"), "TIFF")
    assert np.abs(mean_colour(content) - np.asarray(scene()).mean((0, 1))).max() <= 3


def test_large_images_are_converted_in_bands() -> None:
    image = Image.effect_mandelbrot((2500, 2000), (-2, -1, 1, 1), 5).convert("RGBA")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    assert np.array_equal(read_image(image).pixels, np.asarray(flat))


def with_profile() -> bytes:
    """An image with a profile whose red and blue are swapped, so that using it shows."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
def test_profiles_are_left_alone_unless_asked(name: str) -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10))
    content = encoded(red, name, icc_profile=with_profile())
    plain = read_image(content).pixels[8, 8].astype(int)
    converted = read_image(content, options=ReadOptions(srgb=True)).pixels[8, 8].astype(int)
    assert np.abs(plain - [250, 10, 10]).max() <= 3
    assert converted[2] > 200 > converted[0]


def test_a_damaged_profile_is_a_warning() -> None:
    content = encoded(scene(), "PNG", icc_profile=b"rubbish")
    picture = read_image(content, options=ReadOptions(srgb=True))
    assert np.array_equal(picture.pixels, np.asarray(scene()))
    assert "profile" in picture.warnings[0]
