"""Every image comes out upright."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pictures import encoded, scene, turned
from toplabel.image.reading import read_image

ORIENTATION = 0x0112


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {} if name in ("TIFF", "PNG") else {"quality": 95}
    picture = read_image(encoded(turned(scene(), orientation), name, exif=exif, **options))
    assert picture.pixels.shape == (64, 96, 3)
    assert picture.pixels.flags.c_contiguous
    assert (picture.height, picture.width) == (64, 96)
    difference = np.abs(picture.pixels.astype(int) - np.asarray(scene()).astype(int))
    assert difference.mean() < 6


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_do_not_exist_leave_pixels_as_stored(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95} if name == "JPEG" else {}
    picture = read_image(encoded(scene(), name, exif=exif, **options))
    assert np.abs(picture.pixels.astype(int) - np.asarray(scene()).astype(int)).mean() < 6


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_orientation_is_read_in_both_byte_orders(byte_order: str) -> None:
    mark = b"II" if byte_order == "<" else b"MM"
    exif = b"Exif\0\0" + mark + struct.pack(byte_order + "HIH", 42, 8, 2)
    exif += struct.pack(byte_order + "HHIHH", 0x0110, 3, 1, 7, 0)
    exif += struct.pack(byte_order + "HHIHH", ORIENTATION, 3, 1, 6, 0)
    content = encoded(turned(scene(), 6), "JPEG", exif=exif)
    assert read_image(content).pixels.shape == (64, 96, 3)


def test_orientation_in_an_old_imagemagick_png_is_used() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    block = exif.tobytes()
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n")
    content = encoded(turned(scene(), 6), "PNG", pnginfo=chunks)
    assert np.array_equal(read_image(content).pixels, np.asarray(scene()))


@pytest.mark.parametrize("cut", range(6, 40))
def test_damaged_exif_is_ignored(cut: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(scene(), "JPEG", exif=exif.tobytes()[:cut])
    assert read_image(content).pixels.shape in ((64, 96, 3), (96, 64, 3))


@pytest.mark.shared_data
def test_real_orientations_agree_with_each_other(shared_data: Path) -> None:
    for scene_name in ("Landscape", "Portrait"):
        upright = read_image(shared_data / "orientation" / f"{scene_name}_1.jpg").pixels
        for orientation in range(2, 9):
            path = shared_data / "orientation" / f"{scene_name}_{orientation}.jpg"
            pixels = read_image(path).pixels
            assert pixels.shape == upright.shape
            assert np.abs(pixels[::7, ::7].astype(int) - upright[::7, ::7]).mean() < 5
