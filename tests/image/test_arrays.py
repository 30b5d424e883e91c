"""NumPy arrays and torch tensors as sources."""

import re

import numpy as np
import pytest

from toplabel.errors import ImageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def refused(array: object, words: str, **options: object) -> str:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(array, options=ReadOptions(**options))
    return caught.value.code


def test_rgb_bytes_are_the_pixels() -> None:
    picture = read_image(COLOUR)
    assert np.array_equal(picture.pixels, COLOUR)
    assert (picture.height, picture.width, picture.scale) == (6, 9, 1)


def test_views_come_out_contiguous() -> None:
    pixels = read_image(COLOUR[::-1, ::2]).pixels
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, COLOUR[::-1, ::2])


def test_bgr_is_turned_around_only_when_said() -> None:
    pixels = read_image(COLOUR, options=ReadOptions(bgr=True)).pixels
    assert np.array_equal(pixels, COLOUR[:, :, ::-1])
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1), (1, 6, 9, 1)])
def test_grey_arrays_become_grey_rgb(shape: tuple[int, ...]) -> None:
    grey = COLOUR[:, :, 0]
    pixels = read_image(grey.reshape(shape)).pixels
    assert np.array_equal(pixels, np.stack([grey] * 3, axis=2))


def test_alpha_is_composited_on_white() -> None:
    rgba = np.full((2, 2, 4), (200, 100, 0, 64), np.uint8)
    expected = np.array([200, 100, 0]) * (64 / 255) + 255 * (1 - 64 / 255)
    assert np.abs(read_image(rgba).pixels - expected).max() <= 0.5
    bgra = read_image(rgba, options=ReadOptions(bgr=True)).pixels
    assert np.abs(bgra - expected[::-1]).max() <= 0.5


def test_16_bit_values_are_scaled() -> None:
    array = np.array([[[0, 30_000, 65_535]]], np.uint16)
    assert read_image(array).pixels.tolist() == [[[0, 117, 255]]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_from_0_to_1_are_scaled(dtype: type) -> None:
    array = np.array([[[0, 0.5, 1]]], dtype)
    assert read_image(array).pixels.tolist() in ([[[0, 128, 255]]], [[[0, 127, 255]]])
    exact = (COLOUR / 255).astype(np.float32)
    assert np.array_equal(read_image(exact).pixels, COLOUR)


def test_booleans_are_black_and_white() -> None:
    assert read_image(np.array([[True, False]])).pixels[0, :, 0].tolist() == [255, 0]


def test_floats_of_another_range_are_refused_with_the_way_out() -> None:
    code = refused(COLOUR.astype(np.float32), "divide them by 255")
    assert code == "unsupported_format"
    normalized = RANDOM.normal(size=(6, 9, 3))
    assert refused(normalized, "before normalization") == "unsupported_format"
    assert refused(np.full((2, 2), np.nan), "NaN") == "non_finite"
    assert refused(np.full((2, 2), np.inf), "infinite") == "non_finite"


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.complex64, object, "U3"])
def test_other_types_are_refused_by_name(dtype: type) -> None:
    array = np.zeros((6, 9, 3)).astype(dtype)
    assert refused(array, r"expected uint8 \(0 to 255\)") == "unsupported_format"


def test_wrong_shapes_are_refused_by_name() -> None:
    assert refused(np.zeros((3, 224, 224), np.uint8), "moveaxis") == "wrong_size"
    assert refused(np.zeros((5, 6, 9, 3), np.uint8), "one by one") == "wrong_size"
    assert refused(np.zeros(7, np.uint8), "expected") == "wrong_size"
    assert refused(np.zeros((), np.uint8), "expected") == "wrong_size"
    assert refused(np.zeros((0, 9, 3), np.uint8), "no pixels") == "empty"
    assert refused(np.zeros((9, 9, 3), np.uint8), "max_pixels", max_pixels=80) == "too_large"


@pytest.mark.parametrize("channels", [2, 5, 12])
def test_other_channel_counts_pass_through(channels: int) -> None:
    array = RANDOM.integers(0, 256, (16, 16, channels), dtype=np.uint8)
    assert np.array_equal(read_image(array).pixels, array)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (COLOUR.astype(np.uint16), "no sample is above 2.. where white is 65535"),
        (COLOUR.astype(np.uint16) * 16 + 100, "no sample is above 4... where white is 65535"),
        (COLOUR[:, :, 0] // 128, "no sample is above 1 of 255"),
        ((COLOUR / 255 / 6).astype(np.float32), "no sample is above 0.16.* where white is 1"),
        (np.dstack([COLOUR, np.zeros_like(COLOUR[:, :, 0])]), "wholly transparent"),
        (COLOUR / 255 * 1.03, "cut to 0 to 1"),
    ],
)
def test_what_is_odd_about_the_values_is_said(array: np.ndarray, words: str) -> None:
    (told,) = read_image(array).warnings
    assert re.search(words, told)


@pytest.mark.parametrize(
    "array",
    [
        COLOUR,
        COLOUR // 6,
        np.zeros_like(COLOUR),
        COLOUR.astype(np.uint16) * 257,
        (COLOUR / 255 * 0.3).astype(np.float32),
        (COLOUR / 255 * 1.0000005).astype(np.float32),
        np.dstack([COLOUR, COLOUR[:, :, 0]]),
        COLOUR > 99,
    ],
)
def test_what_is_ordinary_is_not_doubted(array: np.ndarray) -> None:
    assert read_image(array).warnings == ()


@pytest.mark.torch
class TestTensors:
    @pytest.fixture
    def torch(self) -> object:
        return pytest.importorskip("torch")

    def test_channels_first_bytes(self, torch) -> None:
        tensor = torch.from_numpy(COLOUR).permute(2, 0, 1)
        assert np.array_equal(read_image(tensor).pixels, COLOUR)
        assert np.array_equal(read_image(tensor[None]).pixels, COLOUR)
        turned = read_image(tensor, options=ReadOptions(bgr=True)).pixels
        assert np.array_equal(turned, COLOUR[:, :, ::-1])

    def test_floats_of_every_width(self, torch) -> None:
        tensor = torch.from_numpy(COLOUR).permute(2, 0, 1) / 255
        assert np.array_equal(read_image(tensor).pixels, COLOUR)
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            pixels = read_image(tensor.to(dtype)).pixels
            assert np.abs(pixels.astype(int) - COLOUR).max() <= 1

    def test_gradients_and_parameters_do_not_matter(self, torch) -> None:
        tensor = torch.nn.Parameter(torch.full((3, 4, 4), 0.2))
        assert (read_image(tensor).pixels == 51).all()

    def test_grey_tensors(self, torch) -> None:
        assert read_image(torch.zeros(1, 4, 5)).pixels.shape == (4, 5, 3)
        assert read_image(torch.zeros(4, 5)).pixels.shape == (4, 5, 3)

    def test_wrong_tensors_are_refused_by_name(self, torch) -> None:
        assert refused(torch.zeros(2, 3, 8, 8), "one by one") == "wrong_size"
        assert refused(torch.zeros(8, 8, 3), "permute") == "wrong_size"
        assert refused(torch.zeros(3, 8, 8) - 1, "before normalization") == "unsupported_format"
        assert refused(torch.zeros(3, 8, 8, dtype=torch.int64), "uint8") == "unsupported_format"
        meta = torch.zeros(3, 8, 8, device="meta")
        assert refused(meta, "cannot be converted to an array") == "unsupported_format"
        sparse = torch.zeros(3, 8, 8).to_sparse()
        assert refused(sparse, "cannot be converted to an array") == "unsupported_format"
