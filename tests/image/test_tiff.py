"""TIFF: every layout gives the pixels that were stored, or an error that names it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pictures import code_of, encoded, scene
from tiff_files import page, tiff, tiff_of_pages
from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

COLOURS = np.asarray(scene(50, 40))
GREY = np.asarray(scene(50, 40).convert("L"))
RAMP = np.linspace(0, 255, 50).astype(np.uint8)[None].repeat(40, 0)


def looks(content: bytes, expected: np.ndarray, *, within: int = 1) -> bool:
    found = read_image(content)
    wanted = expected if expected.ndim == 3 else expected[:, :, None].repeat(3, 2)
    if found.warnings:
        pytest.fail(f"warned: {found.warnings}")
    return found.pixels.shape == wanted.shape and bool(
        (np.abs(found.pixels.astype(int) - wanted) <= within).all()
    )


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    cover = alpha[:, :, None] / 255
    return np.rint(colours * cover + 255 * (1 - cover)).astype(int)


def as_type(pixels: np.ndarray, name: str) -> np.ndarray:
    dtype = np.dtype(name)
    if dtype.kind == "f":
        return (pixels / 255).astype(dtype)
    top = np.iinfo(dtype).max
    return np.array([int(v) * top // 255 for v in pixels.ravel()], dtype).reshape(pixels.shape)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float16", "float32", "float64"]),
    colour=st.booleans(),
    planar=st.booleans(),
    tile=st.sampled_from([None, (16, 16), (32, 16)]),
    rows=st.sampled_from([None, 1, 7]),
    deflate=st.booleans(),
    predicted=st.booleans(),
    order=st.sampled_from("<>"),
    big=st.booleans(),
)
def test_every_layout_gives_the_pixels_that_were_stored(
    dtype: str,
    colour: bool,
    planar: bool,
    tile: tuple[int, int] | None,
    rows: int | None,
    deflate: bool,
    predicted: bool,
    order: str,
    big: bool,
) -> None:
    pixels = COLOURS if colour else GREY
    predictor = 1 if not (predicted and deflate) else 3 if dtype[0] == "f" else 2
    one = page(
        as_type(pixels, dtype),
        photometric=2 if colour else 1,
        order=order,
        planar=planar and colour,
        tile=tile,
        rows=rows,
        deflate=deflate,
        predictor=predictor,
    )
    assert looks(tiff_of_pages([one], order=order, big=big), pixels)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14, 24])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_samples_of_odd_bits(bits: int, white_is_zero: bool) -> None:
    top = 2**bits - 1
    values = np.rint(GREY / 255 * top).astype(np.uint32)
    stored = top - values if white_is_zero else values
    order = ">" if bits == 24 else "<"
    if bits == 24 and not white_is_zero:
        stored = values // 2**8  # 24 bits do not state their range: 0 to 65535 is usual
        assert looks(tiff(stored, bits=bits, order=order), GREY)
        return
    content = tiff(stored, bits=bits, photometric=0 if white_is_zero else 1, order=order)
    assert looks(content, np.rint(values / top * 255).astype(int))


def test_colours_of_twelve_bits() -> None:
    values = np.rint(COLOURS / 255 * 4095).astype(np.uint16)
    assert looks(tiff(values, bits=12, photometric=2), COLOURS)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_white_is_zero(dtype: str) -> None:
    assert looks(tiff(as_type(255 - GREY, dtype), photometric=0, deflate=True), GREY)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", [False, True])
def test_inks(dtype: str, planar: bool) -> None:
    key = 255 - COLOURS.max(axis=2, keepdims=True)
    inks = np.concatenate([255 - COLOURS - key, key], axis=2)
    shown = (255 - inks[:, :, :3].astype(int)) * (255 - key.astype(int)) // 255
    content = tiff(as_type(inks, dtype), photometric=5, planar=planar)
    assert looks(content, shown, within=3)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("unit", [1, 257])
def test_palettes_also_of_entries_to_255(bits: int, unit: int) -> None:
    image = scene(50, 40).quantize(12)
    table = np.zeros((2**bits, 3), int)
    colours = np.reshape(image.getpalette(), (-1, 3))
    table[: len(colours)] = colours
    indices = np.asarray(image).astype(np.uint16 if bits == 16 else np.uint8)
    tags = {320: (table.T.ravel() * unit).tolist()}
    content = tiff(indices, bits=4 if bits == 4 else None, photometric=3, tags=tags)
    assert looks(content, np.asarray(image.convert("RGB")))


def test_lab_of_16_bits() -> None:
    grey = np.zeros((8, 8, 3), np.uint16)
    grey[:, :, 0] = round(53.585 * 655.35)  # the lightness of sRGB 128
    assert looks(tiff(grey, photometric=8), np.full((8, 8), 128))
    red = np.zeros((8, 8, 3), np.int16)
    red[...] = round(54.29 * 655.35) - 65_536, round(80.8 * 256), round(69.89 * 256)
    assert looks(
        tiff(red.view(np.uint16), photometric=8), np.full((8, 8, 3), [255, 0, 0]), within=2
    )


@pytest.mark.parametrize("planar", [False, True])
def test_lab_and_ycbcr_of_8_bits(planar: bool) -> None:
    light = np.asarray(scene(50, 40).convert("YCbCr"))
    tags = {530: [1, 1]}
    assert looks(tiff(light, photometric=6, planar=planar, tags=tags), COLOURS, within=3)
    red = np.full((40, 50, 3), [138, 81, 70], np.uint8)
    assert looks(tiff(red, photometric=8, planar=planar), np.full_like(red, [255, 0, 0]), within=6)
    red[:, :, 1:] ^= 128  # as ICC has it, with zero in the middle
    assert looks(tiff(red, photometric=9, planar=planar), np.full_like(red, [255, 0, 0]), within=6)


def test_subsampled_colours() -> None:
    image = scene(48, 40).resize((24, 20)).resize((48, 40), Image.Resampling.NEAREST)
    light, blue, red = np.moveaxis(np.asarray(image.convert("YCbCr")), 2, 0)
    units = light.reshape(20, 2, 24, 2).swapaxes(1, 2).reshape(20, 24, 4)
    stored = np.concatenate([units, blue[::2, ::2, None], red[::2, ::2, None]], axis=2)
    tags = {256: [48], 257: [40], 258: [8] * 3, 277: [3], 278: [40], 339: [1] * 3, 530: [2, 2]}
    for deflate in (False, True):
        content = tiff(stored, photometric=6, deflate=deflate, tags=tags)
        assert looks(content, np.asarray(image), within=3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_alpha_is_composited_on_white(dtype: str, premultiplied: bool) -> None:
    colours = np.rint(COLOURS * (RAMP[:, :, None] / 255)) if premultiplied else COLOURS
    stored = np.concatenate([colours, RAMP[:, :, None]], axis=2).astype(np.uint8)
    content = tiff(as_type(stored, dtype), photometric=2, extra=(1 if premultiplied else 2,))
    assert looks(content, on_white(COLOURS, RAMP), within=2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", [False, True])
def test_bands_beyond_the_colours_are_not_seen(dtype: str, planar: bool) -> None:
    stored = as_type(np.dstack([COLOURS, RAMP, GREY]), dtype)
    assert looks(tiff(stored, photometric=2, planar=planar, extra=(0, 0)), COLOURS)


def test_a_fourth_sample_that_is_not_named_is_left_out_and_said() -> None:
    found = read_image(tiff(np.dstack([COLOURS, RAMP]), photometric=2))
    assert np.array_equal(found.pixels, COLOURS)
    assert "ExtraSamples" in found.warnings[0]
    assert looks(tiff(np.dstack([COLOURS, np.full_like(RAMP, 255)]), photometric=2), COLOURS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(np.zeros((9, 9, 13), np.uint16), extra=(0,) * 12), "13 bands"),
        (tiff(np.zeros((9, 9), np.complex64)), "complex"),
        (tiff(GREY.astype(np.int16) - 99), "signed 16-bit samples from -"),
        (tiff((GREY.astype(int) - 128).astype(np.int8)), "signed 8-bit"),
        (tiff(GREY, photometric=32803), "raw mosaic"),
        (tiff(GREY.astype(np.uint16), photometric=32803), "raw mosaic"),
        (tiff(GREY, tags={259: [34712]}), "JPEG 2000"),
        (tiff(GREY, tags={259: [50001]}), "WebP"),
        (tiff(GREY * np.float32(0) - 9), "samples from -9"),
    ],
)
def test_what_is_not_read_is_named(content: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(content)
    assert caught.value.code == "unsupported_format"
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("high", [1, 255, 1023, 10_000, 16_383, 32_767])
@pytest.mark.parametrize("photometric", [0, 1])
def test_samples_that_fill_a_fraction_of_their_range_are_said(high: int, photometric: int) -> None:
    values = np.rint(GREY / GREY.max() * high).astype(np.uint16)
    told = read_image(tiff(values, photometric=photometric)).warnings
    assert f"no sample is above {high} " in told[0]
    assert ("is bright" in told[0]) == (photometric == 0)


def test_a_dark_image_with_a_bright_spot_is_not_doubted() -> None:
    dark = (GREY // 9).astype(np.uint16) * 257
    dark[3, 3] = 60_000
    assert looks(tiff(dark), dark // 257)
    assert looks(tiff(np.zeros((9, 9), np.uint16)), np.zeros((9, 9)))


@pytest.mark.parametrize("tag", [281, 341])
def test_a_stated_maximum_of_fewer_bits_is_white(tag: int) -> None:
    values = np.rint(GREY / 255 * 4095).astype(np.uint16)
    assert looks(tiff(values, tags={tag: [4095]}), GREY)
    # A statistic of the samples, as many write it there, does not change how they look.
    assert read_image(tiff(values, tags={tag: [3999]})).warnings


def test_floats_a_little_beyond_are_cut() -> None:
    assert looks(tiff((GREY / 255 * 1.0000005).astype(np.float32)), GREY)
    told = read_image(tiff((GREY / GREY.max() * 1.03).astype(np.float32))).warnings
    assert "cut to 0 to 1" in told[0]


def test_the_main_image_is_read_wherever_it_stands() -> None:
    main, other = page(COLOURS, photometric=2), COLOURS[::4, ::4] // 2 + 90
    small = page(other, photometric=2, tags={254: [1]})
    old_small = page(other, photometric=2, tags={255: [2]})
    mask = page(GREY, photometric=4, tags={254: [4]})
    deep = page(as_type(COLOURS, "uint16"), photometric=2)
    for pages in ([small, main], [main, small], [old_small, main], [mask, main], [small, deep]):
        for order in "<>":
            again = pages if order == "<" else [page(COLOURS, photometric=2, order=">")]
            assert looks(tiff_of_pages(again, order=order), COLOURS)
    assert looks(tiff_of_pages([small, main], inside={1: 0}), COLOURS)
    assert looks(tiff_of_pages([main, small], inside={1: 0}), COLOURS)
    assert looks(tiff_of_pages([small, main], big=True), COLOURS)


def test_a_jpeg_in_a_tiff_behind_its_thumbnail_is_read() -> None:
    image = scene(64, 48)
    file = io.BytesIO()
    image.resize((16, 12)).save(
        file, "TIFF", save_all=True, append_images=[image], compression="jpeg", tiffinfo={254: 0}
    )
    content = bytearray(file.getvalue())
    at = int.from_bytes(content[4:8], "little") + 2  # its first tag is NewSubfileType
    assert content[at : at + 2] == b"\xfe\x00"
    content[at + 8] = 1
    assert np.abs(read_image(bytes(content)).pixels - np.asarray(image).astype(int)).mean() < 6


def test_several_whole_images_are_said() -> None:
    many = [page(COLOURS, photometric=2, tags={254: [2]})] * 3
    assert "holds 3 images; only the first is read" in read_image(tiff_of_pages(many)).warnings[0]
    first_small = [page(COLOURS[::4, ::4], photometric=2), page(COLOURS, photometric=2)]
    found = read_image(tiff_of_pages(first_small))
    assert found.pixels.shape == (10, 13, 3)
    assert "another is larger, 50 x 40" in found.warnings[0]


def test_directories_in_a_circle_end() -> None:
    content = bytearray(tiff(as_type(COLOURS, "uint16"), photometric=2))
    start = int.from_bytes(content[4:8], "little")
    content[-4:] = start.to_bytes(4, "little")
    assert looks(bytes(content), COLOURS)


def test_tiny_tiles_are_refused_by_the_header() -> None:
    tags = {256: [9000], 257: [9000], 322: [1], 323: [1], 324: [8], 325: [1]}
    assert code_of(tiff(GREY, tile=(16, 16), tags=tags)) == "too_large"


def test_limits_hold_before_anything_is_decoded() -> None:
    content = tiff(np.zeros((9, 9, 3), np.uint16), photometric=2, tags={256: [60_000], 257: [9000]})
    assert code_of(content) == "too_large"
    assert code_of(tiff(as_type(COLOURS, "uint16"), photometric=2), max_pixels=1999) == "too_large"


def data_at_the_end(*, deflate: bool) -> tuple[bytes, int]:
    """A 16-bit file whose one strip comes last, and where it begins."""
    _, (strip,) = page(as_type(COLOURS, "uint16"), photometric=2, deflate=deflate)
    size = len(tiff(as_type(COLOURS, "uint16"), photometric=2, deflate=deflate))
    options = {"photometric": 2, "deflate": deflate, "tags": {273: [size]}}
    content = tiff(as_type(COLOURS, "uint16"), **options)
    assert len(content) == size
    return content + strip, size


@pytest.mark.parametrize("deflate", [False, True])
def test_a_file_that_ends_early_is_truncated(deflate: bool) -> None:
    content, start = data_at_the_end(deflate=deflate)
    assert looks(content, COLOURS)
    assert code_of(content[: (start + len(content)) // 2]) == "truncated"
    assert code_of(content[: start // 2]) == "truncated"


def test_missing_rows_are_said_where_that_is_allowed() -> None:
    content, start = data_at_the_end(deflate=False)
    half = content[: (start + len(content)) // 2]
    found = read_image(half, options=ReadOptions(allow_truncated=True))
    assert np.array_equal(found.pixels[:20], COLOURS[:20])
    assert (found.pixels[21:] == 0).all()
    assert "ends early" in found.warnings[0]


def test_orientation_turns_what_pillow_does_not_read() -> None:
    turned = np.ascontiguousarray(np.rot90(COLOURS))
    assert looks(tiff(as_type(turned, "uint16"), photometric=2, tags={274: [6]}), COLOURS)


def test_profiles_are_used_where_that_is_asked() -> None:
    plain = encoded(scene(), "TIFF")
    assert read_image(plain, options=ReadOptions(srgb=True)).pixels.shape == (64, 96, 3)


@pytest.mark.parametrize("deflate", [False, True])
def test_an_opened_pillow_image_is_read_as_its_file(deflate: bool) -> None:
    for array, options in [
        (as_type(COLOURS, "uint16"), {"photometric": 2, "planar": True}),
        (as_type(255 - GREY, "uint16"), {"photometric": 0}),
        (as_type(GREY, "int16"), {}),
    ]:
        content = tiff(array, deflate=deflate, **options)
        image = Image.open(io.BytesIO(content))
        assert np.array_equal(read_image(image).pixels, read_image(content).pixels)
        assert image.getpixel((3, 3)) is not None  # it can be used as before


def test_a_pillow_image_is_its_own_frame() -> None:
    main, small = page(COLOURS, photometric=2), page(COLOURS[::4, ::4], photometric=2)
    small[0][254] = [1]
    image = Image.open(io.BytesIO(tiff_of_pages([small, main])))
    found = read_image(image)
    assert np.array_equal(found.pixels, COLOURS[::4, ::4])
    assert "thumbnail" in found.warnings[0]
    image.seek(1)
    assert np.array_equal(read_image(image).pixels, COLOURS)


def test_fax_without_photometric_is_white_is_zero() -> None:
    image = scene(64, 48).convert("1")
    content = bytearray(encoded(image, "TIFF", compression="group4"))
    at = int.from_bytes(content[4:8], "little") + 2
    while content[at : at + 2] != b"\x06\x01":
        at += 12
    photometric = content[at + 8]
    content[at : at + 2] = b"\x07\x01"  # a tag that says nothing
    expected = np.asarray(image) == (photometric == 1)
    assert np.array_equal(read_image(bytes(content)).pixels[:, :, 0] == 0, expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "YCbCr"])
def test_jpeg_within_a_tiff_is_left_to_pillow(mode: str) -> None:
    content = encoded(scene().convert(mode), "TIFF", compression="jpeg", quality=95)
    difference = read_image(content).pixels - np.asarray(scene().convert("RGB")).astype(int)
    if mode == "LA":
        difference = read_image(content).pixels[:, :, 0] - np.asarray(scene().convert("L")) * 1.0
    assert np.abs(difference).mean() < 6


def test_alpha_is_of_the_range_of_the_colours() -> None:
    stored = np.dstack([COLOURS, RAMP])
    options = {"photometric": 2, "extra": (2,)}
    twelve = np.rint(stored / 255 * 4095).astype(np.uint16)
    assert looks(tiff(twelve, tags={281: [4095]}, **options), on_white(COLOURS, RAMP), within=2)
    found = read_image(tiff(stored.astype(np.float32), **options))
    assert np.abs(found.pixels - on_white(COLOURS, RAMP)).max() <= 2
    assert "read as 0 to 255" in found.warnings[0]
