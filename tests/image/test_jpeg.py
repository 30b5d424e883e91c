"""JPEG: to the bit what Pillow gives, at full size and scaled."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pictures import code_of, encoded, noisy, scene, turned
from toplabel.errors import ImageError
from toplabel.image.jpeg import read_header
from toplabel.image.reading import read_image

ORIENTATION = 0x0112


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_equals_pillow_to_the_bit(subsampling: int, progressive: bool, mode: str) -> None:
    image = noisy(61, 47).convert(mode)
    content = encoded(image, "JPEG", subsampling=subsampling, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(read_image(content).pixels, expected)


@pytest.mark.shared_data
def test_real_photos_equal_pillow_to_the_bit(shared_data: Path) -> None:
    paths = sorted((shared_data / "imagenet").iterdir())
    assert len(paths) == 200
    for path in paths:
        with Image.open(path) as image:
            assert np.array_equal(read_image(path).pixels, np.asarray(image.convert("RGB"))), path


def test_scaled_decode_is_the_largest_reduction_that_leaves_twice_the_size() -> None:
    content = encoded(scene(1003, 805), "JPEG")

    def scale(height: int, width: int) -> tuple[int, tuple[int, ...]]:
        picture = read_image(content, resized_size=lambda h, w: (height, width))
        assert (picture.height, picture.width) == (805, 1003)
        return picture.scale, picture.pixels.shape

    assert scale(50, 62) == (8, (101, 126, 3))
    assert scale(51, 62) == (4, (202, 251, 3))
    assert scale(101, 125) == (4, (202, 251, 3))
    assert scale(201, 251) == (2, (403, 502, 3))
    assert scale(202, 252) == (1, (805, 1003, 3))


def test_scaled_decode_of_a_turned_photo_counts_upright_sides() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(turned(scene(800, 400), 6), "JPEG", exif=exif)
    asked = []

    def resized_size(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return 100, 200

    picture = read_image(content, resized_size=resized_size)
    assert asked == [(400, 800)]
    assert (picture.scale, picture.pixels.shape) == (2, (200, 400, 3))
    assert (picture.height, picture.width) == (400, 800)


def test_a_photo_that_has_to_be_turned_is_scaled_only_by_what_divides_its_sides() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3

    def scale(width: int, height: int, **more) -> int:
        content = encoded(scene(width, height), "JPEG", **more)
        return read_image(content, resized_size=lambda h, w: (20, 20)).scale

    assert scale(800, 404) == 8
    assert scale(800, 404, exif=exif) == 4
    assert scale(800, 405, exif=exif) == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 7), (5, 200), (17, 9)])
def test_scaled_decode_of_tiny_images_is_right_or_exact(size: tuple[int, int]) -> None:
    picture = read_image(encoded(scene(*size), "JPEG"), resized_size=lambda h, w: (1, 1))
    expected = (-(-size[1] // picture.scale), -(-size[0] // picture.scale), 3)
    assert picture.pixels.shape == expected


def test_an_error_of_the_callers_own_function_stays_what_it_is() -> None:
    def resized_size(height: int, width: int) -> tuple[int, int]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_image(encoded(scene(), "JPEG"), resized_size=resized_size)


def test_jpegs_of_other_depths_are_unsupported() -> None:
    content = bytearray(encoded(scene(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 4] = 12
    assert code_of(bytes(content)) == "unsupported_format"


def test_a_jpeg_with_stray_bytes_is_read_with_a_warning() -> None:
    content = encoded(scene(), "JPEG")
    table = content.index(b"\xff\xdb")
    picture = read_image(content[:table] + b"stray" + content[table:])
    assert picture.pixels.shape == (64, 96, 3)
    assert "extraneous" in picture.warnings[0]


def test_many_scans_over_a_large_jpeg_are_a_bomb() -> None:
    content = encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    scan = content[content.rfind(b"\xff\xda") : -2]
    assert code_of(content[:-2] + scan * 200 + b"\xff\xd9") == "too_large"


def test_simplejpeg_is_asked_for_simd_fractions_only() -> None:
    content = encoded(scene(1003, 805), "JPEG")
    for scale in (2, 4, 8):
        height, width = -(-805 // scale), -(-1003 // scale)
        expected = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width)
        assert expected.shape == (height, width, 3)


@pytest.mark.parametrize(("offset", "size"), [(5, "96 x 0"), (7, "0 x 64")])
def test_a_side_of_no_pixels_is_corrupt(offset: int, size: str) -> None:
    content = bytearray(encoded(scene(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + offset : frame + offset + 2] = b"\0\0"
    with pytest.raises(ImageError, match=size) as caught:
        read_image(bytes(content))
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_mark_is_whole(progressive: bool) -> None:
    content = encoded(scene(), "JPEG", progressive=progressive)
    for lacking in (1, 2):
        found = read_image(content[:-lacking])
        assert np.array_equal(found.pixels, read_image(content).pixels)
        assert found.warnings == ("the JPEG has no end mark",)
    assert code_of(content[:-3]) == "truncated"


@pytest.mark.parametrize("count", [1, 3, 5_000_000])
def test_bytes_that_fill_before_a_marker_are_passed_over(count: int) -> None:
    content = encoded(noisy(24, 16), "JPEG")
    found = read_header(content[:2] + b"\xff" * count + content[2:])
    expected = read_header(content)
    assert found is not None
    assert expected is not None
    assert found == replace(expected, scan_start=expected.scan_start + count, fill=count)


def test_a_header_of_millions_of_segments_is_corrupt() -> None:
    content = encoded(noisy(24, 16), "JPEG")
    assert code_of(content[:2] + b"\xff\xfe\x00\x02" * 100_000 + content[2:]) == "corrupt"
