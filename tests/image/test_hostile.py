"""Hostile files: one outcome each, bounded in time and memory, and nothing but `ImageError`."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from tiff_files import page, tiff, tiff_of_pages
from toplabel.errors import ERROR_CODES, ImageError
from toplabel.image.decoded_image import DecodedImage
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

# Reads each file named on standard input; prints one outcome a line, then the peak memory in kB.
READER = """
import json, sys, time
from toplabel.errors import ImageError
from toplabel.image.reading import read_image
for path in sys.stdin.read().split("\\0"):
    start = time.process_time()
    try:
        code = str(read_image(path).pixels.shape)
    except ImageError as error:
        code = error.code
    print(json.dumps([path, code, time.process_time() - start]))
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""


def outcomes(paths: list[Path]) -> tuple[dict[str, tuple[str, float]], int, str]:
    """Code or shape and seconds of work for each path; the peak in kB; standard error."""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER],
        input="\0".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert answer.returncode == 0, answer.stderr
    *lines, peak = answer.stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    return {path: (code, seconds) for path, code, seconds in rows}, int(peak), answer.stderr


def check(paths: list[Path]) -> None:
    found, peak, errors = outcomes(paths)
    assert set(found) == set(map(str, paths))
    for path, (code, seconds) in found.items():
        assert code in ERROR_CODES or code.endswith(", 3)"), (path, code)
        assert seconds <= 60, path  # 2 at most on an idle machine
    assert peak <= 1_000_000
    assert errors == ""


@pytest.mark.shared_data
def test_a_sample_of_hostile_files_has_one_outcome_each(shared_data: Path) -> None:
    paths = sorted(path for path in (shared_data / "hostile").rglob("*") if path.is_file())
    check(paths[::9])


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_hostile_file_has_one_outcome(shared_data: Path) -> None:
    paths = sorted(path for path in (shared_data / "hostile").rglob("*") if path.is_file())
    assert len(paths) > 500
    check(paths)


@pytest.mark.slow
def test_the_largest_accepted_images_stay_within_a_gigabyte(tmp_path: Path) -> None:
    # 10,900 x 11,000 is just below the limit; RGBA is the mode that costs most.
    kinds: list[tuple[str, str, dict[str, object], int]] = [
        ("rgba.png", "RGBA", {"compress_level": 1}, 11_000),
        ("rgb.jpg", "RGB", {}, 11_000),
        ("progressive.jpg", "RGB", {"progressive": True}, 11_000),
        ("full.jpg", "RGB", {"progressive": True, "subsampling": 0}, 8_200),
        ("photo.webp", "RGB", {"method": 0}, 5_100),
    ]
    for name, mode, options, height in kinds:
        path = tmp_path / name
        Image.new(mode, (10_900, height)).save(path, **options)
        found, peak, _ = outcomes([path])
        assert found[str(path)][0] == f"({height}, 10900, 3)"
        assert found[str(path)][1] < 60  # 2 at most on an idle machine
        assert peak <= 1_000_000, name
        path.unlink()


def seeds() -> dict[str, bytes]:
    """A small valid file of each format and of the modes that take paths of their own."""
    values = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted = {
        "jpeg": (image, "JPEG", {"exif": exif}),
        "progressive": (image, "JPEG", {"progressive": True}),
        "cmyk": (image.convert("CMYK"), "JPEG", {}),
        "png": (image, "PNG", {"exif": exif}),
        "palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "grey16": (Image.fromarray(values[:, :, 0].astype(np.uint16) * 200), "PNG", {}),
        "apng": (image, "PNG", {"save_all": True, "append_images": [image.rotate(90)]}),
        "webp": (image, "WEBP", {"exif": exif}),
        "lossless": (image.convert("RGBA"), "WEBP", {"lossless": True}),
        "gif": (image, "GIF", {"save_all": True, "append_images": [image.rotate(180)]}),
        "bmp": (image, "BMP", {}),
        "tiff": (image, "TIFF", {"exif": exif}),
        "lzw": (image, "TIFF", {"compression": "tiff_lzw"}),
        "fax": (image.convert("1"), "TIFF", {"compression": "group4"}),
        "float": (Image.new("F", (9, 9), 0.5), "TIFF", {}),
        "avif": (image, "AVIF", {}),
        "ppm": (image, "PPM", {}),
        "pgm16": (Image.fromarray(values[:, :, 0].astype(np.uint16)), "PPM", {}),
    }
    files = {}
    for name, (picture, format_name, options) in wanted.items():
        file = io.BytesIO()
        picture.save(file, format_name, **options)
        files[name] = file.getvalue()
    return files | own_seeds(values[:6, :5])


def own_seeds(pixels: np.ndarray) -> dict[str, bytes]:
    """Small files of the kinds that are read here and not by Pillow, and so small for it."""
    wide = pixels.astype(np.uint16) * 257
    floats = (pixels / 255).astype(np.float32)
    small = page(pixels[:2, :2], photometric=2, tags={254: [1]})
    deep = io.BytesIO()
    Image.fromarray(wide[:, :, 0]).save(deep, "PNG", transparency=int(wide[0, 0, 0]))
    pam = b"P7\nWIDTH 5\nHEIGHT 6\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
    return {
        "planes": tiff(wide, photometric=2, planar=True, deflate=True),
        "tiles": tiff(wide, photometric=2, tile=(16, 16)),
        "predicted": tiff(floats, photometric=2, deflate=True, predictor=3),
        "bits": tiff(wide[:, :, 0] >> 4, bits=12),
        "small-first": tiff_of_pages([small, page(wide, photometric=2)]),
        "bigtiff": tiff_of_pages([page(wide, photometric=2, order=">")], order=">", big=True),
        "key16": deep.getvalue(),
        "pam": pam + pixels.tobytes(),
        "pfm": b"PF\n5 6\n-1\n" + floats.tobytes(),
        "text": b"P3 2 2 15\n 1 2 3 4 5 6 7 8 9 10 11 12\n",
    }


SEEDS = seeds()


@st.composite
def mutations(draw: st.DrawFn, name: str) -> bytes:
    """A valid file with bytes flipped, parts cut out, doubled, or taken from another."""
    content = bytearray(SEEDS[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(content) - 1, 600))))
        kind = draw(st.sampled_from(["flip", "cut", "end", "double", "splice", "set"]))
        length = draw(st.integers(1, 40))
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at : at + length]
        elif kind == "end":
            del content[at:]
        elif kind == "double":
            content[at:at] = content[at : at + length]
        elif kind == "splice":
            other = SEEDS[draw(st.sampled_from(sorted(SEEDS)))]
            content[at : at + length] = other[at : at + length]
        else:
            content[at : at + 4] = draw(
                st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"])
            )
    return bytes(content)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", sorted(SEEDS))
def test_mutated_files_give_an_image_or_an_image_error(name: str) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(content=mutations(name), truncated=st.booleans(), srgb=st.booleans())
    def check(content: bytes, truncated: bool, srgb: bool) -> None:
        options = ReadOptions(max_pixels=4_000_000, allow_truncated=truncated, srgb=srgb)
        outcome = None
        try:
            picture = read_image(content, options=options, resized_size=lambda h, w: (5, 5))
        except ImageError as error:
            outcome = error.code
        else:
            assert isinstance(picture, DecodedImage)
            assert picture.pixels.dtype == np.uint8
            assert picture.pixels.shape[2] == 3
            assert picture.pixels.flags.c_contiguous
        assert outcome is None or outcome in ERROR_CODES

    check()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_are_an_image_error(content: bytes) -> None:
    with pytest.raises(ImageError, match="cannot read the given bytes"):
        read_image(content)
