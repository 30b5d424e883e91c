"""Netpbm: text and bytes, grey and colour, integers and floats."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pictures import code_of, scene
from tiff_files import packed
from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

COLOURS = np.asarray(scene(37, 23))
GREY = np.asarray(scene(37, 23).convert("L"))
BITS = GREY > 128
RAMP = np.linspace(0, 255, 37).astype(np.uint8)[None].repeat(23, 0)


def stored(array: np.ndarray, top: int, *, text: bool) -> bytes:
    """The samples of PGM or PPM, 0 to `top`, and the header before them."""
    kind = (b"P2", b"P3") if text else (b"P5", b"P6")
    head = b"%b\n# a comment\n37 23 %d\n" % (kind[array.ndim == 3], top)
    values = np.rint(array / 255 * top).astype(int)
    if text:
        lines = [" ".join(map(str, row)) for row in values.reshape(len(values), -1)]
        return head + "\n".join(lines).encode() + b"\n"
    return head + values.astype(">u2" if top > 255 else "u1").tobytes()


@pytest.mark.parametrize("array", [GREY, COLOURS])
@pytest.mark.parametrize("top", [1, 15, 255, 1023, 65_535])
@pytest.mark.parametrize("text", [False, True])
def test_grey_and_colours_of_any_maximum(array: np.ndarray, top: int, text: bool) -> None:
    found = read_image(stored(array, top, text=text))
    levels = np.rint(np.rint(array / 255 * top) / top * 255).astype(int)
    expected = levels if array.ndim == 3 else levels[:, :, None].repeat(3, 2)
    assert np.array_equal(found.pixels, expected)
    assert found.warnings == ()


def test_bits() -> None:
    raw = b"P4 37 23\n" + packed(1 - BITS.astype(int), 1)
    spaced = b"P1\n37 23\n" + b"\n".join(b" ".join(b"01"[not v :][:1] for v in row) for row in BITS)
    for content in (raw, spaced, spaced[:9] + spaced[9:].replace(b" ", b"")):
        pixels = read_image(content).pixels
        assert np.array_equal(pixels[:, :, 0] == 255, BITS)
        assert set(np.unique(pixels)) == {0, 255}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("top", [255, 65_535])
def test_pam(channels: int, top: int) -> None:
    colours = COLOURS if channels > 2 else GREY[:, :, None]
    samples = np.dstack([colours, RAMP])[:, :, :channels].astype(int) * (top // 255)
    kind = ["GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"][channels - 1].encode()
    fields = b"WIDTH 37\nHEIGHT 23\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %b\nENDHDR\n"
    content = b"P7\n# a comment\n" + fields % (channels, top, kind)
    content += samples.astype("u1" if top == 255 else ">u2").tobytes()
    cover = RAMP[:, :, None] / 255 if channels in (2, 4) else 1
    expected = np.rint(colours * cover + 255 * (1 - cover))
    found = read_image(content)
    assert np.abs(found.pixels - expected).max() <= 1
    assert found.warnings == ()


@pytest.mark.parametrize("kind", [b"PF", b"Pf"])
@pytest.mark.parametrize("order", "<>")
def test_pfm_lies_upside_down(kind: bytes, order: str) -> None:
    array = COLOURS if kind == b"PF" else GREY
    floats = (array[::-1] / 255).astype(order + "f4").tobytes()
    content = kind + b"\n37 23\n" + (b"-1.0\n" if order == "<" else b"1.0\n") + floats
    expected = array if array.ndim == 3 else array[:, :, None].repeat(3, 2)
    found = read_image(content)
    assert np.array_equal(found.pixels, expected)
    assert found.warnings == ()


def test_what_is_odd_about_the_samples_is_said() -> None:
    dark = b"P5 37 23 65535\n" + GREY.astype(">u2").tobytes()
    assert "no sample is above" in read_image(dark).warnings[0]
    bright = b"Pf\n37 23\n-1\n" + (GREY.astype("<f4") * 3).tobytes()
    assert "read as 0 to 65535" in read_image(bright).warnings[0]
    infinite = b"Pf\n1 1\n-1\n" + np.array([np.nan], "<f4").tobytes()
    assert code_of(infinite) == "non_finite"


@pytest.mark.parametrize("text", [False, True])
def test_ending_early(text: bool) -> None:
    content = stored(GREY, 1023, text=text)
    half = content[: len(content) // 2]
    assert code_of(half) == "truncated"
    found = read_image(half, options=ReadOptions(allow_truncated=True))
    assert np.abs(found.pixels[:10, :, 0].astype(int) - GREY[:10]).max() <= 1
    assert "ends early" in found.warnings[0]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"P6 0 120 255\n", "corrupt"),
        (b"P5 3 3 0\n123456789", "corrupt"),
        (b"P2 2 2 255\n1 2 -3 4\n", "corrupt"),
        (b"P2 2 2 255\n1 2 3 99999999999999999999\n", "corrupt"),
        (b"P1 2 2\n0 1 2 0\n", "corrupt"),
        (b"P3 90000 90000 255\n1 2 3\n", "too_large"),
        (b"P7\nWIDTH 9\nHEIGHT 9\nDEPTH 7\nMAXVAL 255\nENDHDR\n", "unsupported_format"),
        (
            b"P7\nWIDTH 9\nHEIGHT 9\nDEPTH 4\nMAXVAL 255\nTUPLTYPE CMYK\nENDHDR\n",
            "unsupported_format",
        ),
    ],
)
def test_what_cannot_be_read_has_its_code(content: bytes, code: str) -> None:
    assert code_of(content) == code


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from([b"P1", b"P2", b"P5", b"P6", b"P7", b"PF"]), rest=st.binary())
def test_any_bytes_have_one_outcome(kind: bytes, rest: bytes) -> None:
    head = b"\nWIDTH 3\nHEIGHT 3\nDEPTH 3\n" if kind == b"P7" else b" 3 3 "
    with contextlib.suppress(ImageError):
        assert read_image(kind + head + rest).pixels.shape[2] == 3
