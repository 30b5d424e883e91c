"""Mirrored and cropped copies: made the same each time, never seen by a fold that judges them."""

from dataclasses import replace

import numpy as np
import pytest

import toplabel
from toplabel.training.augment import COPIES, try_variants
from toplabel.training.head import fit_head
from toplabel.training.out_of_fold import Examples, Variants, predict_out_of_fold
from training_material import draw_folder

CLASSES, SIZE = 3, 60


def examples(images=60, noise=1.5, seed=0):
    """Features of classes that overlap, each image in a group and a fold of five."""
    chance = np.random.default_rng(seed)
    targets = np.arange(images) % CLASSES
    centres = np.eye(CLASSES, SIZE) * 3
    features = centres[targets] + chance.normal(size=(images, SIZE)) * noise
    folds = (np.arange(images) // CLASSES) % 5
    return Examples(features.astype(np.float32), targets, np.arange(images), folds, CLASSES)


def copies_of(found, *, noise, shift=0, times=3, seed=1):
    """Copies near their class's centre; `shift` moves them to another class."""
    chance = np.random.default_rng(seed)
    images = np.tile(np.arange(len(found.targets)), times)
    centres = np.eye(CLASSES, SIZE) * 3
    shown = centres[(found.targets[images] + shift) % CLASSES]
    features = shown + chance.normal(size=(len(images), SIZE)) * noise
    return Variants(features.astype(np.float32), images)


def test_copies_are_mirrored_and_cropped_and_the_same_each_time():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    mirrored, cropped, both = (copy(pixels) for copy in COPIES)
    assert np.array_equal(mirrored, pixels[:, ::-1])
    for copy, area in ((cropped, 0.75), (both[:, ::-1], 0.5)):
        height, width = copy.shape[:2]
        assert height * width / 2400 == pytest.approx(area, abs=0.02)
        assert any(
            np.array_equal(pixels[row : row + height, column : column + width], copy)
            for row in range(41 - height)
            for column in range(61 - width)
        )
    assert [copy(pixels).tobytes() for copy in COPIES] == [
        one.tobytes() for one in (mirrored, cropped, both)
    ]
    for copy in COPIES:
        assert copy(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)


def test_a_head_is_fitted_on_copies_that_share_the_weight_of_their_image():
    plain = examples()
    variants = Variants(plain.features[[0, 0, 5]] + 1, np.array([0, 0, 5]))
    weights = np.ones(60)
    weights[[0, 5]] = 1 / 3, 1 / 2
    expected = fit_head(
        np.concatenate([plain.features, variants.features]),
        np.concatenate([plain.targets, plain.targets[[0, 0, 5]]]),
        classes=CLASSES,
        strength=0.1,
        weights=np.concatenate([weights, [1 / 3, 1 / 3, 1 / 2]]),
    )
    found = replace(plain, variants=variants).fit(0.1)
    assert np.array_equal(found.weight, expected.weight)
    assert np.array_equal(found.bias, expected.bias)


def test_no_fold_sees_copies_of_its_own_images():
    plain = examples()
    variants = copies_of(plain, noise=0.5)
    augmented = replace(plain, variants=variants)
    before = predict_out_of_fold(augmented)
    inside = plain.folds == 2
    poisoned = variants.features.copy()
    poisoned[inside[variants.images]] = 1e6
    after = predict_out_of_fold(replace(plain, variants=replace(variants, features=poisoned)))
    assert after.strength != before.strength or np.array_equal(
        after.logits[inside], before.logits[inside]
    )
    among = ~inside
    found = replace(plain, variants=replace(variants, features=poisoned)).fit(0.1, among=among)
    assert np.array_equal(found.weight, augmented.fit(0.1, among=among).weight)


def test_copies_that_help_are_kept():
    plain = examples()
    found, out, told = try_variants(plain, predict_out_of_fold(plain), copies_of(plain, noise=0.5))
    assert told.kept
    assert told.loss < told.loss_without
    assert told.accuracy >= told.accuracy_without
    assert found.variants is not None
    assert out.logits.shape == (60, CLASSES)
    assert str(told).startswith("180 mirrored and cropped copies: kept (accuracy ")


def test_copies_that_do_not_help_leave_all_as_it_was():
    plain = examples()
    before = predict_out_of_fold(plain)
    for variants in (copies_of(plain, noise=0.5, shift=1), copies_of(plain, noise=30)):
        found, out, told = try_variants(plain, before, variants)
        assert not told.kept
        assert found is plain
        assert out is before
        assert "not kept, as they do not clearly help" in str(told)


def test_a_training_says_whether_they_helped_and_is_the_same_twice(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    folder = draw_folder(tmp_path / "photos", {"round": 3, "grid": 3})
    seen: list[int] = []
    with caplog.at_level("INFO", "toplabel"):
        first = toplabel.train(
            folder, augment=True, progress=lambda done, failed: seen.append(done)
        )
    messages = [record.getMessage() for record in caplog.records]
    total = len(first.sources)
    assert messages[0].startswith(f"augmenting: each of {total} images goes through the network 4")
    assert first.augmentation.copies == 3 * total
    assert first.to_dict()["augmentation"]["kept"] == first.augmentation.kept
    assert first.bundle.training["augmented"] == first.augmentation.kept
    assert len(first.targets) == total
    again = toplabel.train(folder, augment=True)
    files = []
    for number, result in enumerate((first, again)):
        result.save(tmp_path / f"{number}.toplabel")
        files.append((tmp_path / f"{number}.toplabel").read_bytes())
    assert files[0] == files[1]


def test_without_it_nothing_is_said_of_copies(tmp_path):
    result = toplabel.train(draw_folder(tmp_path / "photos", {"round": 3, "grid": 3}))
    assert result.augmentation is None
    assert result.to_dict()["augmentation"] is None
