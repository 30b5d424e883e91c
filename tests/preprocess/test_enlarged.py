"""Long, thin images: what the model sees of them is Pillow's to the bit, in a fraction of it."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from toplabel.preprocess import resample
from toplabel.preprocess.enlarged import enlarge_window
from toplabel.preprocess.preprocess import Preprocess
from toplabel.preprocess.resample import Window, resize_and_crop

FILTERS = ["bilinear", "bicubic", "box", "hamming", "lanczos"]


@settings(max_examples=60)
@given(
    short=st.integers(1, 40),
    long=st.integers(1, 700),
    target=st.integers(1, 60),
    tall=st.booleans(),
    channels=st.sampled_from([1, 3, 5]),
    interpolation=st.sampled_from([*FILTERS, "nearest"]),
    seed=st.integers(0, 9),
)
def test_the_part_is_that_of_the_whole_to_the_bit(
    short: int, long: int, target: int, tall: bool, channels: int, interpolation: str, seed: int
) -> None:
    height, width = (max(short, long), short) if tall else (short, max(short, long))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    size = max(1, target * height // short), max(1, target * width // short)
    top, left = (size[0] - target) // 2, (size[1] - target) // 2
    window = Window(top, left, top + target, left + target)
    wanted = resize_and_crop(pixels, size=size, window=window, interpolation=interpolation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "_MOST_AT_ONCE", 0)
        found = resize_and_crop(pixels, size=size, window=window, interpolation=interpolation)
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted)


def test_the_largest_enlargement_is_that_of_pillow_and_is_never_made_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9000, 6, 3), np.uint8)
    size, rows, columns = (40 * 9000, 240), range(179_900, 180_124), range(8, 232)
    found = enlarge_window(pixels, size=size, rows=rows, columns=columns, interpolation="bicubic")
    near = Image.fromarray(pixels[4400:4600]).resize((240, 200 * 40), Image.Resampling.BICUBIC)
    wanted = np.asarray(near)[rows.start - 4400 * 40 : rows.stop - 4400 * 40, 8:232]
    assert np.abs(found.astype(int) - wanted).max() <= 1  # whose window rounds otherwise
    made = []
    really = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *more: made.append(size[0] * size[1]) or really(self, size, *more),
    )
    recipe = Preprocess(
        input_size=(224, 224), resize_mode="shortest", resize_size=(256, 256),
        mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    for shape in ((1000, 1, 3), (1, 1000, 3)):
        recipe(np.zeros(shape, np.uint8))
    assert max(made) < 100_000
