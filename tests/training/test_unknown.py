"""The fit of a detector of unknown images: honest rates, copies apart, the same bytes twice."""

import numpy as np
import pytest

from toplabel._internal.statistics import wilson_interval
from toplabel.bundle.unknown import STANDARD_ERRORS, Memory, nearest
from toplabel.errors import UsageError
from toplabel.training.unknown import MOST_BYTES, MOST_KEPT, fit_unknown
from unknown_material import training_features


def clouds(count: int, *, classes: int = 4, size: int = 32, seed: int = 0):
    """Features around a centre for each class; (classes x count, size)."""
    chance = np.random.default_rng(seed)
    centres = np.abs(np.random.default_rng(99).normal(size=(classes, size)))
    targets = np.repeat(np.arange(classes), count)
    spread = 0.5 * chance.normal(size=(len(targets), size))
    return (centres[targets] + spread).astype(np.float32), targets


@pytest.mark.parametrize(("count", "false_alarm"), [(25, 0.05), (100, 0.05), (100, 0.2)])
def test_so_many_photos_of_the_same_kind_are_flagged_as_was_asked_for(count, false_alarm):
    flagged = []
    for seed in range(10):
        detector = fit_unknown(*clouds(count, seed=seed), false_alarm=false_alarm)
        others = clouds(100, seed=1000 + seed)[0]
        flagged.append((detector.distance(others) > detector.threshold).mean())
    assert np.mean(flagged) == pytest.approx(false_alarm, abs=0.02)
    detector_share, most = detector.expected
    assert detector_share == false_alarm
    assert np.mean(flagged) < most < 3 * false_alarm


def test_a_subset_is_kept_of_many_and_the_rate_holds(monkeypatch):
    monkeypatch.setattr("toplabel.training.unknown.MOST_KEPT", 60)
    flagged = []
    for seed in range(5):
        features, targets = clouds(100, seed=seed)
        detector = fit_unknown(features, targets, seed=seed)
        assert np.bincount(detector.memory.targets).tolist() == [15] * 4
        others = clouds(200, seed=1000 + seed)[0]
        flagged.append((detector.distance(others) > detector.threshold).mean())
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.02)


def test_other_images_are_flagged_and_of_a_class_left_out_the_rate_is_said():
    detector = fit_unknown(*clouds(50))
    foreign = -np.abs(np.random.default_rng(5).normal(size=(200, 32))).astype(np.float32)
    assert (detector.distance(foreign) > detector.threshold).all()
    assert detector.siblings == 1.0  # these classes are far apart
    near = clouds(50)[0][:100] * np.linspace(0.5, 2, 100, dtype=np.float32)[:, None]
    assert (detector.distance(near) <= detector.threshold).all()  # contrast does not count
    same, _ = clouds(50, classes=1)
    halves = np.arange(len(same)) % 2
    assert fit_unknown(same, halves).siblings == pytest.approx(0.05, abs=0.05)  # one of a kind
    assert fit_unknown(same, np.zeros(len(same), int)).siblings is None
    assert "of a class that it was not trained on it flags 100 %" in str(detector)


def test_copies_are_no_neighbours_of_each_other():
    features, targets = clouds(20)
    twice = np.concatenate([features, features])
    groups = np.tile(np.arange(len(features)), 2)
    plain = fit_unknown(features, targets)
    naive = fit_unknown(twice, np.tile(targets, 2))
    grouped = fit_unknown(twice, np.tile(targets, 2), groups=groups)
    assert len(grouped.memory.rows) == len(features)
    assert grouped.threshold == pytest.approx(plain.threshold, rel=0.02)
    assert naive.threshold < 0.97 * plain.threshold


def test_the_same_data_and_seed_give_the_same_bytes():
    features, targets = clouds(400)
    first, again = (fit_unknown(features, targets, seed=3) for _ in range(2))
    assert first == again
    assert first.memory.to_bytes() == again.memory.to_bytes()
    assert len(first.memory.rows) == MOST_KEPT
    assert fit_unknown(features, targets, seed=4).memory.to_bytes() != first.memory.to_bytes()


@pytest.mark.parametrize("size", [1280, 2048, 4096])
def test_a_training_image_takes_at_most_two_and_a_half_kilobytes(size):
    features = np.random.default_rng(0).normal(size=(50, size)).astype(np.float32)
    detector = fit_unknown(features, np.arange(50) % 2)
    assert len(detector.memory.to_bytes()) <= MOST_BYTES * 50 + 200
    assert (len(detector.memory.rows) == 50) == (size < 2500)


def test_eight_bits_keep_features_and_their_length():
    features, targets = clouds(10)
    memory = Memory.of(features, targets)
    assert np.abs(memory.features - features).max() <= np.abs(features).max() / 254 + 1e-6
    assert (memory.targets == targets).all()
    zeros = Memory.of(np.zeros((2, 4), np.float32), np.zeros(2, int))
    assert zeros.distances(np.zeros((1, 4), np.float32)).tolist() == [[0, 0]]


def test_few_images_and_odd_ones_are_coped_with():
    two = fit_unknown(np.eye(2, 3, dtype=np.float32), np.arange(2))
    assert two.expected[0] == pytest.approx(1 / 3)  # of two images no threshold is better
    assert two.neighbours == 1
    same = fit_unknown(np.ones((9, 3), np.float32), np.arange(9) % 3)
    assert not same.is_unknown(float(same.distance(np.ones((1, 3), np.float32))[0]))
    with pytest.raises(UsageError, match="two at least"):
        fit_unknown(np.ones((1, 3), np.float32), np.zeros(1, int))
    for rate in (0, -1, 0.6, float("nan")):
        with pytest.raises(UsageError, match="expected a share above 0, at most"):
            fit_unknown(*training_features(), false_alarm=rate)


def test_a_distance_is_the_mean_to_the_nearest_of_scaled_features():
    features, targets = clouds(60)
    detector = fit_unknown(features, targets)
    others = clouds(10, seed=7)[0]
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (features, others)]
    apart = np.linalg.norm(unit[1][:, None] - unit[0][None], axis=2)
    expected = np.sort(apart, axis=1)[:, :5].mean(axis=1)
    np.testing.assert_allclose(detector.distance(others), expected, atol=2e-3)  # 8 bits
    one_by_one = [float(detector.distance(one[None])[0]) for one in others]
    assert one_by_one == detector.distance(others).tolist()
    assert nearest(np.array([[3, 1, 2, np.inf]], np.float32), 2).tolist() == [1.5]


def test_without_numpys_vecdot_distances_are_the_same(monkeypatch):
    features, targets = clouds(20)
    detector = fit_unknown(features, targets)
    expected = detector.distance(features)
    monkeypatch.delattr(np, "vecdot", raising=False)
    np.testing.assert_allclose(detector.distance(features), expected, atol=1e-5)


def test_wilsons_interval_is_scipys():
    from scipy.stats import binomtest

    for count, total in ((0, 10), (3, 40), (50, 1000), (7, 7)):
        expected = binomtest(count, total).proportion_ci(0.99, method="wilson")
        found = wilson_interval(count, total, standard_errors=STANDARD_ERRORS)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-4)
