"""PNG: transparency keys and high bit depths of every kind, and Xcode's variant."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pictures import code_of, encoded, scene
from tiff_files import packed
from toplabel.image.reading import read_image

COLOURS = np.asarray(scene(53, 41))
GREY = np.asarray(scene(53, 41).convert("L"))
RAMP = np.linspace(0, 255, 53).astype(np.uint8)[None].repeat(41, 0)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(
    samples: np.ndarray,
    bits: int,
    *,
    extra: bytes = b"",
    interlaced: bool = False,
    apple: bool = False,
    filtered: bool = False,
) -> bytes:
    """A PNG of samples (H, W) or (H, W, C); `extra` are chunks before the pixels."""
    samples = samples[:, :, None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    parts = [samples]
    if interlaced:
        grids = [*PASSES, (0, 1, 1, 2)]
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in grids]
    rows = b""
    for part in parts:
        if part.size:
            rows += _rows(part.reshape(len(part), -1), bits, channels, filtered)
    deflater = zlib.compressobj(wbits=-15 if apple else 15)
    body = deflater.compress(rows) + deflater.flush()
    colour = COLOUR_TYPES[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    content = b"\x89PNG\r\n\x1a\n" + (chunk(b"CgBI", b"P\0 \6") if apple else b"")
    content += chunk(b"IHDR", header) + extra
    return content + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _rows(part: np.ndarray, bits: int, channels: int, filtered: bool) -> bytes:
    if bits < 8:
        raw = np.frombuffer(packed(part, bits), np.uint8)
    else:
        raw = np.frombuffer(part.astype(">u2" if bits == 16 else "u1").tobytes(), np.uint8)
    raw = raw.reshape(len(part), -1)
    if not filtered:
        return b"".join(b"\0" + row.tobytes() for row in raw)
    step = channels * bits // 8
    left = np.pad(raw, [(0, 0), (step, 0)])[:, : raw.shape[1]]
    above = np.pad(raw, [(1, 0), (0, 0)])[: len(raw)]
    rows = []
    for at, (row, one, two) in enumerate(zip(raw, left, above, strict=True)):
        kind = at % 3  # none, the pixel to the left, the one above
        rows.append(bytes([kind]) + (row - (np.uint8(0), one, two)[kind]).tobytes())
    return b"".join(rows)


def on_white(colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    colours = colours if colours.ndim == 3 else colours[:, :, None].repeat(3, 2)
    return np.rint(colours * seen[:, :, None] + 255.0 * (1 - seen[:, :, None])).astype(int)


def shown(content: bytes) -> np.ndarray:
    found = read_image(content)
    assert found.warnings == ()
    return found.pixels.astype(int)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_grey_key_is_transparent_at_every_depth(bits: int, interlaced: bool) -> None:
    top = 2**bits - 1
    values = np.rint(GREY / 255 * top).astype(int)
    key = int(values[0, 0])
    content = png(values, bits, extra=chunk(b"tRNS", struct.pack(">H", key)), interlaced=interlaced)
    expected = on_white(values / top * 255, values != key)
    assert np.abs(shown(content) - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_colour_key_is_transparent_at_every_depth(bits: int, interlaced: bool) -> None:
    unit = 257 if bits == 16 else 1
    key = struct.pack(">3H", *(int(v) * unit for v in COLOURS[0, 0]))
    content = png(
        COLOURS.astype(int) * unit, bits, extra=chunk(b"tRNS", key), interlaced=interlaced
    )
    expected = on_white(COLOURS, (COLOURS[0, 0] != COLOURS).any(axis=2))
    assert np.array_equal(shown(content), expected)


@pytest.mark.parametrize("image", [GREY, COLOURS])
def test_a_key_of_16_bits_is_compared_in_all_of_them(image: np.ndarray) -> None:
    key = [int(v) * 257 + 1 for v in np.atleast_1d(image[0, 0])]
    extra = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    expected = image if image.ndim == 3 else image[:, :, None].repeat(3, 2)
    assert np.array_equal(shown(png(image.astype(int) * 257, 16, extra=extra)), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_fraction_of_16_bits_is_said_with_the_range(channels: int, interlaced: bool) -> None:
    stored = np.dstack([COLOURS if channels > 2 else GREY, RAMP]).astype(int)
    colours = stored[:, :, : channels - (channels in (2, 4))] * 16  # 12 bits
    wide = np.dstack([colours, stored[:, :, -1:] * 257])[:, :, :channels].astype(np.uint16)
    told = read_image(png(wide, 16, interlaced=interlaced, filtered=True)).warnings
    high = int(colours.max())
    assert told[0].startswith(f"no sample is above {high} where white is 65535")


@pytest.mark.parametrize("image", [GREY, COLOURS])
@pytest.mark.parametrize("interlaced", [False, True])
def test_bits_that_are_stated_as_significant_are_all(image: np.ndarray, interlaced: bool) -> None:
    channels = 1 if image.ndim == 2 else 3
    extra = chunk(b"sBIT", bytes([12] * channels))
    low = np.rint(image / 255 * 4095).astype(np.uint16)
    expected = image if image.ndim == 3 else image[:, :, None].repeat(3, 2)
    for values in (low, low << 4):  # as some write it, and as the standard has it
        content = png(values, 16, extra=extra, interlaced=interlaced, filtered=True)
        assert np.abs(shown(content) - expected).max() <= 1


def test_16_bits_that_are_filled_are_not_doubted() -> None:
    for image in (GREY, COLOURS, np.dstack([COLOURS, RAMP])):
        shown(png(image.astype(int) * 257, 16))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("alpha", [None, RAMP])
def test_the_variant_of_xcode_is_put_right(alpha: np.ndarray | None, interlaced: bool) -> None:
    cover = np.full(GREY.shape, 255) if alpha is None else alpha
    multiplied = np.rint(COLOURS * (cover[:, :, None] / 255))
    stored = np.dstack([multiplied[:, :, ::-1], cover]).astype(np.uint8)
    content = png(stored, 8, apple=True, interlaced=interlaced, filtered=True)
    assert np.abs(shown(content) - on_white(COLOURS, cover / 255)).max() <= 1


def test_the_variant_of_xcode_is_bounded_and_named_where_it_is_damaged() -> None:
    content = png(np.dstack([COLOURS, RAMP]), 8, apple=True)
    assert code_of(content, max_pixels=500) == "too_large"
    assert code_of(content[:-60]) == "truncated"
    for at in range(8, len(content), 7):
        damaged = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        try:
            code_of(damaged)
        except pytest.fail.Exception:  # it is read all the same
            continue


@pytest.mark.parametrize("alpha", [0, 1, 12])
def test_what_is_transparent_all_over_is_said(alpha: int) -> None:
    for image in (GREY, COLOURS):
        told = read_image(png(np.dstack([image, np.full_like(GREY, alpha)]), 8)).warnings
        assert "transparent" in told[0]
    extra = chunk(b"tRNS", struct.pack(">H", 7))
    told = read_image(png(np.full((9, 9), 7), 8, extra=extra)).warnings
    assert "wholly transparent" in told[0]


def test_an_image_with_something_to_be_seen_is_not_doubted() -> None:
    corner = np.zeros_like(GREY)
    corner[:3, :3] = 255
    shown(png(np.dstack([COLOURS, corner]), 8))


def test_samples_of_next_to_nothing_are_said() -> None:
    assert "no sample is above 1 of 255" in read_image(png(GREY // 129, 8)).warnings[0]
    assert "no sample is above 9 of 255" in read_image(png(COLOURS // 27, 8)).warnings[0]
    shown(png(np.zeros((9, 9), np.uint8), 8))  # black, and nothing else
    shown(png(GREY // 5, 8))  # dark


def test_an_opened_pillow_image_is_read_as_its_file() -> None:
    values = np.rint(GREY / 17).astype(int)
    content = png(values, 4, extra=chunk(b"tRNS", struct.pack(">H", int(values[0, 0]))))
    image = Image.open(io.BytesIO(content))
    assert np.array_equal(read_image(image).pixels, read_image(content).pixels)
    assert image.size == image.copy().size
    assert np.array_equal(np.asarray(image), values * 17)  # it can be used as before


def test_an_animation_that_begins_with_nothing_is_read_from_where_it_begins() -> None:
    nothing = Image.new("RGBA", (53, 41), (0, 0, 0, 0))
    frame = Image.fromarray(COLOURS).convert("RGBA")
    for name in ("PNG", "WEBP", "GIF"):
        options = {"lossless": True} if name == "WEBP" else {}
        more = [nothing.copy(), frame, Image.new("RGBA", frame.size, "red")]
        content = encoded(nothing, name, save_all=True, append_images=more, **options)
        found = read_image(content)
        assert np.abs(found.pixels.astype(int) - COLOURS).mean() < 3
        assert found.warnings[0].startswith("the animation begins with nothing to be seen; frame")


def test_a_gamma_far_from_the_usual_is_said() -> None:
    for value, said in ((1 / 2.2, False), (1 / 1.8, False), (1.0, True), (0.02, True)):
        extra = chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))
        found = read_image(png(COLOURS, 8, extra=extra))
        assert np.array_equal(found.pixels, COLOURS)
        assert ("gAMA" in "".join(found.warnings)) == said
