"""Resizing and cropping against Pillow's own, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from toplabel.preprocess.resample import (
    Window,
    _has_equal_weights,
    is_horizontal_first,
    pad_to_window,
    resize_and_crop,
    to_grey,
)

FILTERS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


def _random_pixels(height: int, width: int, *, channels: int = 3, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return (pixels > 127).astype(np.uint8) * 255 if seed % 3 == 0 else pixels


def _by_pillow(pixels: np.ndarray, size: tuple[int, int], window: Window, name: str) -> np.ndarray:
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling[name.upper()])
    top, left, bottom, right = window
    return np.asarray(resized.crop((left, top, right, bottom)))


@st.composite
def resizes(draw, *, side: int, resized: int):
    """(height, width), the size they are resized to, a window in it, a seed."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    size = draw(st.integers(1, resized)), draw(st.integers(1, resized))
    top, left = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    bottom = draw(st.integers(top + 1, size[0]))
    right = draw(st.integers(left + 1, size[1]))
    return (height, width), size, Window(top, left, bottom, right), draw(st.integers(0, 99))


@pytest.mark.parametrize("name", FILTERS)
@given(case=resizes(side=90, resized=200))
@settings(max_examples=120)
def test_a_window_equals_pillows_resize_and_crop(name, case):
    shape, size, window, seed = case
    pixels = _random_pixels(*shape, seed=seed)
    ours = resize_and_crop(pixels, size=size, window=window, interpolation=name)
    assert np.array_equal(ours, _by_pillow(pixels, size, window, name))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 1999), (500, 1), (40, 1700)])
def test_thin_images_equal_pillow(name, shape):
    pixels = _random_pixels(*shape, seed=4)
    scale = 64 / min(shape)
    size = int(shape[0] * scale), int(shape[1] * scale)
    top, left = (size[0] - 60) // 2, (size[1] - 60) // 2
    window = Window(top, left, top + 60, left + 60)
    ours = resize_and_crop(pixels, size=size, window=window, interpolation=name)
    assert np.array_equal(ours, _by_pillow(pixels, size, window, name))


@st.composite
def dyadic_resizes(draw):
    """As `resizes`, each side by a number of pixels that float32 holds exactly: 3, 9.125, 2.5."""

    def side() -> tuple[int, int]:
        odd, power = draw(st.sampled_from([1, 3, 5, 7, 31])), 1 << draw(st.integers(0, 6))
        return odd * draw(st.integers(1, 400 // odd)), odd * power

    (height, down), (width, across) = side(), side()
    top, left = draw(st.integers(0, down - 1)), draw(st.integers(0, across - 1))
    bottom, right = draw(st.integers(top + 1, down)), draw(st.integers(left + 1, across))
    window = Window(top, left, bottom, right)
    return (height, width), (down, across), window, draw(st.integers(0, 99))


@pytest.mark.parametrize("name", FILTERS)
@given(case=dyadic_resizes())
@settings(max_examples=150)
def test_a_part_that_is_resized_alone_equals_that_of_the_whole(name, case):
    shape, size, window, seed = case
    assert all(map(_has_equal_weights, shape, size))
    pixels = _random_pixels(*shape, seed=seed)
    ours = resize_and_crop(pixels, size=size, window=window, interpolation=name)
    assert np.array_equal(ours, _by_pillow(pixels, size, window, name))


def test_weights_of_a_part_are_pillows_own_where_they_are_said_to_be():
    """Every length up to 700 pixels and beyond; each weight makes one pixel of the part."""
    random = np.random.default_rng(5)
    checked = 0
    for length in [*range(8, 700), 2704, 3456, 4608, 65_535]:
        for size in (64, 96, 256, 341, 384):
            if not _has_equal_weights(length, size):
                continue
            line = random.integers(0, 256, (1, length), dtype=np.uint8)
            start = int(random.integers(0, size - 1))
            window = Window(0, start, 1, int(random.integers(start + 1, size + 1)))
            for name in FILTERS[1:]:
                plane = np.concatenate([line, 255 - line])[:1, :, None]
                ours = resize_and_crop(plane, size=(1, size), window=window, interpolation=name)
                whole = np.asarray(
                    Image.fromarray(line).resize((size, 1), Image.Resampling[name.upper()])
                )
                assert np.array_equal(ours[..., 0], whole[:, window.left : window.right])
                checked += 1
    assert checked > 5000


def test_parts_have_other_weights_where_a_pixel_is_no_exact_number():
    assert not _has_equal_weights(4608, 341)  # a camera's long side beside 256
    assert not _has_equal_weights(65_535, 512)  # an end would need 25 bits
    assert _has_equal_weights(3456, 256)
    assert _has_equal_weights(3888, 384)  # 10.125


def test_pillows_order_of_passes_is_known():
    random = np.random.default_rng(6)
    for _ in range(300):
        height, width, down, across = map(int, random.integers(4, 90, 4))
        if not is_horizontal_first((height, width), (down, across)):
            continue
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        by_rows = image.resize((across, height), Image.Resampling.BICUBIC)
        both = by_rows.resize((across, down), Image.Resampling.BICUBIC)
        assert both == image.resize((across, down), Image.Resampling.BICUBIC)
    # else the code is right, and slow: see that the order is as in the last one
    assert is_horizontal_first((40, 40), (10, 10))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
@given(case=resizes(side=400, resized=900))
@settings(max_examples=400)
def test_larger_windows_equal_pillow_too(name, case):
    shape, size, window, seed = case
    pixels = _random_pixels(*shape, seed=seed)
    ours = resize_and_crop(pixels, size=size, window=window, interpolation=name)
    assert np.array_equal(ours, _by_pillow(pixels, size, window, name))


def test_what_lies_outside_the_image_is_padded():
    pixels = _random_pixels(4, 6, seed=1)
    window = Window(-1, 2, 5, 4)
    crop = resize_and_crop(pixels, size=(4, 6), window=window, interpolation="bilinear")
    padded = pad_to_window(crop, window=window, pad_value=(1, 2, 3))
    assert padded.shape == (6, 2, 3)
    assert np.array_equal(padded[1:5], pixels[:, 2:4])
    assert padded[0].tolist() == padded[5].tolist() == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels_that_are_no_colours_are_resized_one_by_one(channels):
    pixels = _random_pixels(40, 50, channels=channels, seed=2)
    window = Window(0, 0, 20, 25)
    ours = resize_and_crop(pixels, size=(20, 25), window=window, interpolation="bicubic")
    assert ours.shape == (20, 25, channels)
    for channel in range(channels):
        expected = _by_pillow(pixels[..., channel], (20, 25), window, "bicubic")
        assert np.array_equal(ours[..., channel], expected)


def test_grey_is_pillows_brightness():
    pixels = _random_pixels(5, 7, seed=5)
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(to_grey(pixels)[..., 0], expected)
