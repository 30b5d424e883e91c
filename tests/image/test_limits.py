"""Pixel bombs, and the limits that refuse them."""

import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from pictures import FORMATS, code_of, encoded, scene
from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image


def bomb_png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(4096)))
        + chunk(b"IEND", b"")
    )


def bombs() -> dict[str, bytes]:
    """Small files that state huge sizes, one for each format."""
    jpeg = bytearray(encoded(scene(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    gif = bytearray(encoded(scene().quantize(4), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    bmp = bytearray(encoded(scene(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    tiff = bytearray(encoded(scene(), "TIFF"))
    for tag in (256, 257):
        at = tiff.index(struct.pack("<HHI", tag, 4, 1))
        tiff[at + 8 : at + 12] = struct.pack("<I", 60_000)
    webp = bytearray(encoded(scene().convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    webp[24:30] = struct.pack("<I", 16_382)[:3] * 2
    return {
        "PNG": bomb_png(50_000, 50_000),
        "JPEG": bytes(jpeg),
        "GIF": bytes(gif),
        "BMP": bytes(bmp),
        "TIFF": bytes(tiff),
        "WEBP": bytes(webp),
        "PPM": b"P6 60000 60000 255\n" + bytes(99),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_pixel_bombs_are_refused_by_the_header(name: str) -> None:
    program = (
        "import sys, time\n"
        "from toplabel.image.reading import read_image\n"
        "from toplabel.errors import ImageError\n"
        "import PIL.Image, toplabel.image.decode, toplabel.image.jpeg\n"
        "def peak():\n"
        "    for line in open('/proc/self/status'):\n"
        "        if line.startswith('VmHWM'): return int(line.split()[1])\n"
        "content = sys.stdin.buffer.read()\n"
        "good = bytes.fromhex(sys.argv[1])\n"
        "read_image(good)\n"
        "before, start = peak(), time.process_time()\n"
        "try: read_image(content)\n"
        "except ImageError as error: print(error.code)\n"
        "print(time.process_time() - start, peak() - before)\n"
    )
    good = encoded(scene(8, 8), name).hex()
    answer = subprocess.run(
        [sys.executable, "-c", program, good], input=bombs()[name], capture_output=True
    )
    code, seconds, growth = answer.stdout.split()
    assert code == b"too_large"
    assert float(seconds) < 1  # below 0.001 on an idle machine
    assert int(growth) < 20_000  # kB


def test_the_pixel_limit_is_a_setting() -> None:
    content = encoded(scene(), "PNG")
    assert read_image(content, options=ReadOptions(max_pixels=64 * 96)).pixels.size
    for name in FORMATS:
        assert code_of(encoded(scene(), name), max_pixels=64 * 96 - 1) == "too_large"
    assert code_of(scene(), max_pixels=64 * 96 - 1) == "too_large"


def test_our_limit_is_ours_and_pillows_global_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    picture = read_image(encoded(Image.new("1", (10_000, 10_000)), "PNG"))  # above Pillow's limit
    assert picture.pixels.shape == (10_000, 10_000, 3)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size", [(20_000, 1), (1, 65_500), (8_000, 1), (1, 1)])
def test_thin_images_are_read(size: tuple[int, int]) -> None:
    picture = read_image(bomb_free_png(size))
    assert picture.pixels.shape == (size[1], size[0], 3)


def bomb_free_png(size: tuple[int, int]) -> bytes:
    return encoded(Image.new("RGB", size), "PNG")


def test_run_length_bmp_is_read_and_large_ones_refused() -> None:
    rows = (bytes([8, 1]) + b"\0\0") * 8 + b"\0\1"
    palette = bytes([0, 0, 0, 0, 10, 20, 30, 0])

    def bmp(width: int, height: int) -> bytes:
        offset = 14 + 40 + len(palette)
        header = struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset)
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 2, 0)
        return header + info + palette + rows

    assert read_image(bmp(8, 8)).pixels[4, 4].tolist() == [30, 20, 10]
    assert code_of(bmp(5000, 5000)) == "too_large"


def test_kinds_that_take_more_memory_have_a_lower_limit() -> None:
    options = ReadOptions(max_pixels=64 * 96)
    for name, extra in (("WEBP", {}), ("JPEG", {"progressive": True, "subsampling": 0})):
        with pytest.raises(ImageError, match="for this kind") as caught:
            read_image(encoded(scene(), name, **extra), options=options)
        assert caught.value.code == "too_large"
    for extra in ({"subsampling": 0}, {"progressive": True, "subsampling": 2}):
        assert read_image(encoded(scene(), "JPEG", **extra), options=options)
