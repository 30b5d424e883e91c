"""Batches to learn from, and to be asked about."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toplabel.errors import ModelError
from toplabel.preprocess.custom import CustomPreprocess
from toplabel.preprocess.preprocess import Preprocess
from toplabel.training.torch_data import Photos, check_preprocess

PREPROCESS = Preprocess(
    input_size=(20, 24), resize_size=(24, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    numbers = np.random.default_rng(0)
    sources = []
    for index in range(10):
        coarse = numbers.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(path)
        sources.append(str(path))
    return Photos(sources=sources, targets=np.arange(10) % 3, preprocess=PREPROCESS, seed=1)


@pytest.mark.torch
def test_photos_that_are_asked_about_are_those_that_are_labelled(photos: Photos) -> None:
    batches = list(photos.batches([3, 1, 4], size=2))
    assert [len(inputs) for inputs, _ in batches] == [2, 1]
    for place, index in enumerate([3, 1, 4]):
        pixels = np.asarray(Image.open(photos.sources[index]))
        expected = torch.from_numpy(PREPROCESS(pixels))
        assert torch.equal(torch.cat([inputs for inputs, _ in batches])[place], expected)
    assert torch.cat([targets for _, targets in batches]).tolist() == [0, 1, 1]


@pytest.mark.torch
def test_what_is_drawn_depends_on_seed_epoch_and_photo_alone(photos: Photos) -> None:
    chosen = list(range(10))
    state = torch.get_rng_state()

    def drawn(given: Photos, epoch: int, first: int = 0) -> list[tuple[torch.Tensor, list[int]]]:
        found = given.augmented_batches(chosen, size=3, epoch=epoch, first=first)
        return [(inputs, targets.tolist()) for inputs, targets in found]

    once, again = drawn(photos, 1), drawn(replace(photos, threads=3), 1)
    assert all(torch.equal(a, b) and s == t for (a, s), (b, t) in zip(once, again, strict=True))
    later = drawn(photos, 1, first=2)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(once[2:], later, strict=True))
    for other in (drawn(photos, 2), drawn(replace(photos, seed=2), 1)):
        assert not torch.equal(once[0][0], other[0][0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.torch
def test_each_photo_is_learned_from_once_in_an_epoch_and_looks_different_each_time(
    photos: Photos,
) -> None:
    (inputs, targets), *more = photos.augmented_batches([2, 5, 8], size=8, epoch=1)
    assert not more
    assert targets.tolist() == [2, 2, 2]
    assert inputs.shape == (3, 3, 20, 24)
    (others, _), *_ = photos.augmented_batches([2, 5, 8], size=8, epoch=3)
    assert not any(torch.equal(a, b) for a in inputs for b in others)


@pytest.mark.torch
def test_changed_photos_have_the_values_that_the_network_expects(photos: Photos) -> None:
    (plain, _), *_ = photos.augmented_batches([0], size=1, epoch=1)
    grey_preprocess = Preprocess(
        input_size=(20, 24), resize_size=(24, 24), channels="grey", mean=(0.5,), std=(0.25,)
    )
    other_order = replace(PREPROCESS, channels="bgr", mean=(0.6, 0.5, 0.4), std=(0.4, 0.3, 0.2))
    inverted = replace(PREPROCESS, invert="after_resize")
    pixels = plain[0] * torch.tensor(PREPROCESS.std)[:, None, None]
    pixels = pixels + torch.tensor(PREPROCESS.mean)[:, None, None]  # 0 to 1

    def of(preprocess: Preprocess) -> torch.Tensor:
        given = replace(photos, preprocess=preprocess)
        return next(given.augmented_batches([0], size=1, epoch=1))[0][0]

    assert torch.allclose(of(other_order), plain[0].flip(0), atol=1e-5)
    brightness = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    assert torch.allclose(of(grey_preprocess)[0] * 0.25 + 0.5, brightness, atol=0.004)
    mean, std = torch.tensor(PREPROCESS.mean), torch.tensor(PREPROCESS.std)
    expected = (1 - pixels - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(of(inverted), expected, atol=1e-4)


@pytest.mark.torch
def test_preprocessing_that_cannot_follow_a_random_crop_is_refused() -> None:
    check_preprocess(PREPROCESS, name="mine")
    with pytest.raises(ModelError, match="it takes 5 channels"):
        check_preprocess(
            Preprocess(
                input_size=(8, 8),
                resize_size=(8, 8),
                channels=5,
                mean=(0.5,) * 5,
                std=(1,) * 5,
                pad_value=(0,) * 5,
            ),
            name="mine",
        )
    code = CustomPreprocess(
        name="mine.py:transform",
        function=lambda pixels: pixels,
        shape=(3, 8, 8),
        values=(0, 1),
        digest="",
    )
    with pytest.raises(ModelError, match=r"mine\.py:transform is code"):
        check_preprocess(code, name="mine")


@pytest.mark.torch
def test_large_photos_are_read_at_the_size_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(np.zeros((800, 1000, 3), np.uint8)).save(path)
    photos = Photos(sources=[str(path)], targets=np.zeros(1, int), preprocess=PREPROCESS)
    assert next(photos.augmented_batches([0], size=1, epoch=1))[0].shape == (1, 3, 20, 24)
