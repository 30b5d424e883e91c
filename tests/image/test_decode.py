"""Decoding: each format, truncated and damaged files, first frames."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from pictures import FORMATS, code_of, encoded, mean_colour, noisy, scene
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

TRUNCATED = ReadOptions(allow_truncated=True)


@pytest.mark.parametrize("name", FORMATS)
def test_reads_each_format_by_content(name: str) -> None:
    picture = read_image(encoded(scene(), name))
    assert picture.pixels.shape == (64, 96, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert (picture.height, picture.width, picture.scale, picture.warnings) == (64, 96, 1, ())
    assert np.abs(picture.pixels.mean((0, 1)) - np.asarray(scene()).mean((0, 1))).max() < 3


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_to_the_bit(name: str) -> None:
    assert np.array_equal(read_image(encoded(noisy(), name)).pixels, np.asarray(noisy()))


@pytest.mark.shared_data
def test_reads_a_real_heic(shared_data: Path) -> None:
    pytest.importorskip("pi_heif")
    for path in (shared_data / "hostile").rglob("*.hei?"):
        assert read_image(path).pixels.shape[2] == 3


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_truncated_files_say_so(name: str, part: float) -> None:
    content = encoded(noisy(), name)
    assert code_of(content[: max(16, int(len(content) * part))]) == "truncated"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "PPM", "GIF", "TIFF"])
def test_truncated_files_can_be_read_in_part_with_a_warning(name: str) -> None:
    options = {"interlace": 0} if name == "GIF" else {}
    content = encoded(noisy(96, 256), name, **options)
    whole = read_image(content).pixels
    content = content[: int(len(content) * 0.7)]
    assert code_of(content) == "truncated"
    picture = read_image(content, options=TRUNCATED)
    assert picture.pixels.shape == whole.shape
    assert "ends early" in picture.warnings[0]
    rows = slice(150, 250) if name == "BMP" else slice(0, 100)  # BMP begins at the bottom
    assert np.array_equal(picture.pixels[rows], whole[rows])


def test_a_truncated_cmyk_jpeg_can_be_read_in_part() -> None:
    content = encoded(noisy(96, 256).convert("CMYK"), "JPEG")
    picture = read_image(content[: len(content) // 2], options=TRUNCATED)
    assert picture.pixels.shape == (256, 96, 3)
    assert picture.warnings


@pytest.mark.parametrize("name", ["WEBP", "AVIF"])
def test_formats_that_cannot_be_read_in_part_stay_truncated(name: str) -> None:
    content = encoded(noisy(), name)
    assert code_of(content[: len(content) // 2], allow_truncated=True) == "truncated"


def test_compressed_tiff_that_ends_early_is_truncated() -> None:
    for compression in ("tiff_lzw", "tiff_deflate", "packbits"):
        content = encoded(noisy(), "TIFF", compression=compression)
        assert code_of(content[: len(content) // 2]) == "truncated"


def test_damaged_data_is_corrupt() -> None:
    content = bytearray(encoded(noisy(), "PNG"))
    content[content.index(b"IDAT") + 40 :] = bytes(len(content) - content.index(b"IDAT") - 40)
    assert code_of(bytes(content)) in ("corrupt", "truncated")
    webp = bytearray(encoded(noisy(), "WEBP"))
    webp[20:80] = bytes(60)
    assert code_of(bytes(webp)) == "corrupt"
    whole = encoded(scene(), "JPEG")
    assert code_of(whole[:2] + whole[whole.index(b"\xff\xda") :]) == "corrupt"


def animation(name: str, frames: int) -> bytes:
    first = Image.new("RGB", (16, 16), (200, 0, 0))
    others = [Image.new("RGB", (16, 16), (0, i % 256, i // 256)) for i in range(1, frames)]
    return encoded(first, name, save_all=True, append_images=others)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_animations_give_their_first_frame(name: str) -> None:
    assert np.abs(mean_colour(animation(name, 3)) - [200, 0, 0]).max() <= 3


def test_many_frames_cost_no_more_than_one(tmp_path: Path) -> None:
    from time import process_time

    def cost(path: Path) -> float:
        times = []
        for _ in range(9):
            start = process_time()
            read_image(path)
            times.append(process_time() - start)
        return min(times)

    one, many = tmp_path / "one.gif", tmp_path / "many.gif"
    one.write_bytes(animation("GIF", 1))
    frames = animation("GIF", 11)
    # A thousand times the last ten frames: 10,000 frames in all.
    start = animation("GIF", 1)
    many.write_bytes(frames[:-1] + frames[len(start) - 1 : -1] * 999 + b";")
    with Image.open(many) as image:
        assert image.n_frames >= 9_000
    assert cost(many) < 2 * cost(one) + 1e-3


@pytest.mark.parametrize("size", [108, 124])
@pytest.mark.parametrize("alpha", [0, 255])
def test_an_alpha_of_zero_all_over_is_none_in_a_bmp(size: int, alpha: int) -> None:
    image = scene(20, 10).convert("RGBA")
    image.putalpha(alpha)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    body = np.asarray(image)[::-1, :, [2, 1, 0, 3]].tobytes()
    info = struct.pack("<IiiHHIIiiII", size, 20, 10, 1, 32, 3, len(body), 0, 0, 0, 0) + masks
    info = info.ljust(size, b"\0")
    head = struct.pack("<2sIHHI", b"BM", 14 + size + len(body), 0, 0, 14 + size)
    found = read_image(head + info + body)
    assert np.array_equal(found.pixels, np.asarray(scene(20, 10)))
    assert found.warnings == ()


def test_the_canvas_around_the_first_frame_of_a_gif_is_white() -> None:
    small = scene(40, 30).quantize(16)
    content = bytearray(encoded(small, "GIF"))
    content[6:10] = struct.pack("<HH", 64, 50)
    content[11] = 3  # the background colour, which browsers do not show
    frame = content.index(b"\x2c\0\0\0\0")
    content[frame + 1 : frame + 5] = struct.pack("<HH", 16, 12)
    expected = np.full((50, 64, 3), 255, np.uint8)
    expected[12:42, 16:56] = np.asarray(small.convert("RGB"))
    assert np.array_equal(read_image(bytes(content)).pixels, expected)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_what_other_code_tolerates_is_truncated_all_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    half = encoded(noisy(), name)[:-3000]
    assert code_of(half) == "truncated"
    if name != "TIFF":
        assert code_of(Image.open(io.BytesIO(half))) == "truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def masked_bmp(masks: tuple[int, ...], bits: int, *, upside_down: bool = False) -> bytes:
    """`scene` with as many bits for each colour, and alpha, as the masks have."""
    colours = np.dstack([np.asarray(scene(21, 10)), np.full((10, 21), 255)])
    words = np.zeros((10, 21), np.uint64)
    for at, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        levels = np.rint(colours[:, :, at] / 255 * (mask >> shift)).astype(np.uint64)
        words |= levels << np.uint64(shift)
    rows = words.astype(f"<u{bits // 8}")
    rows = np.pad(rows, [(0, 0), (0, 21 * bits // 8 % 4 // (bits // 8))])
    body = (rows if upside_down else rows[::-1]).tobytes()
    size = 56 if len(masks) == 4 else 40
    height = -10 if upside_down else 10
    info = struct.pack("<IiiHHIIiiII", size, 21, height, 1, bits, 3, len(body), 0, 0, 0, 0)
    info += struct.pack(f"<{len(masks)}I", *masks)
    start = 14 + len(info)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + info + body


@pytest.mark.parametrize(
    ("masks", "bits", "within"),
    [
        ((0xF00, 0xF0, 0xF), 16, 9),
        ((0xF00, 0xF0, 0xF, 0xF000), 16, 9),
        ((0x1F, 0x7E0, 0xF800), 16, 5),
        ((0x3FF00000, 0xFFC00, 0x3FF), 32, 1),
        ((0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000), 32, 1),
    ],
)
@pytest.mark.parametrize("upside_down", [False, True])
def test_bmp_masks_of_any_bits(
    masks: tuple[int, ...], bits: int, within: int, upside_down: bool
) -> None:
    content = masked_bmp(masks, bits, upside_down=upside_down)
    found = read_image(content)
    assert np.abs(found.pixels.astype(int) - np.asarray(scene(21, 10))).max() <= within
    assert found.warnings == ()
    assert code_of(content[:-9]) == "truncated"
    assert code_of(content, max_pixels=200) == "too_large"
