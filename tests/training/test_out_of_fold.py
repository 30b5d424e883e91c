import numpy as np
import pytest

from toplabel.training.copies import find_groups
from toplabel.training.folds import divide
from toplabel.training.out_of_fold import (
    Examples,
    accuracy_interval,
    learning_curve,
    predict_out_of_fold,
    project,
)
from toplabel.training.result import CurvePoint


def _examples(images=120, classes=3, size=64, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    targets = (np.arange(images) % classes).astype(np.int64)
    means = np.random.default_rng(99).normal(size=(classes, size)) * 0.35
    features = np.maximum(0, means[targets] + noise * rng.normal(size=(images, size)))
    features = features.astype(np.float32)
    groups = find_groups(features)
    folds = divide(targets, groups, folds=5, seed=0)
    return Examples(features, targets, groups, folds, classes)


def test_no_image_is_predicted_by_a_head_that_saw_it():
    """Classes by chance: whoever has seen an image knows it, and out of fold nobody does."""
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(200, 256))).astype(np.float32)
    targets = np.arange(200) % 2
    folds = divide(targets, np.arange(200), folds=5)
    examples = Examples(features, targets, np.arange(200), folds, 2)
    found = predict_out_of_fold(examples)
    assert (examples.fit(1.0).logits(features).argmax(axis=1) == targets).all()
    assert 0.35 < (found.logits.argmax(axis=1) == targets).mean() < 0.65


def test_copies_flatter_unless_they_are_in_one_fold():
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(100, 128))).astype(np.float32).repeat(2, axis=0)
    targets = (np.arange(200) // 2 % 2).astype(np.int64)
    groups = find_groups(features)
    apart = divide(targets, np.arange(200), folds=5)
    together = divide(targets, groups, folds=5)
    accuracies = []
    for folds in (apart, together):
        found = predict_out_of_fold(Examples(features, targets, groups, folds, 2))
        accuracies.append((found.logits.argmax(axis=1) == targets).mean())
    assert accuracies[0] > 0.75
    assert accuracies[1] < 0.65


def test_an_interval_is_wilsons_and_reaches_to_what_a_quarter_more_images_bring():
    from scipy.stats import binomtest

    right = np.arange(150) < 141
    found = accuracy_interval(right, np.arange(150))
    expected = binomtest(141, 150).proportion_ci(0.95, method="wilson")
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high + 0.1 * 9 / 150)  # all images fit the head


def test_copies_count_once_in_an_interval():
    right = np.arange(50) < 45
    once = accuracy_interval(right, np.arange(50))
    thrice = accuracy_interval(right.repeat(3), np.arange(50).repeat(3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    thrice = accuracy_interval(np.ones(150, np.bool_), np.arange(50).repeat(3))
    once = accuracy_interval(np.ones(50, np.bool_), np.arange(50))
    assert thrice.low == pytest.approx(once.low)


def test_the_interval_holds_the_accuracy_on_other_images():
    held = 0
    other = _examples(3000, seed=1000)
    for seed in range(20):
        examples = _examples(90, seed=seed)
        found = predict_out_of_fold(examples)
        right = found.logits.argmax(axis=1) == examples.targets
        interval = accuracy_interval(right, examples.groups)
        logits = examples.fit(found.strength).logits(other.features)
        held += interval.low <= (logits.argmax(axis=1) == other.targets).mean() <= interval.high
    assert held >= 17


def test_more_images_are_better_on_a_curve():
    examples = _examples(240, noise=1.3)
    found = predict_out_of_fold(examples)
    curve = learning_curve(examples, found, np.zeros(3), seed=0)
    assert [point.images for point in curve] == [30, 60, 120]
    full = (found.logits.argmax(axis=1) == examples.targets).mean()
    assert curve[0].accuracy < full
    assert all(0 <= point.low <= point.accuracy <= point.high <= 1 for point in curve)


def test_a_few_images_make_no_curve():
    examples = _examples(20)
    assert learning_curve(examples, predict_out_of_fold(examples), np.zeros(3), seed=0) == ()


def test_a_power_law_is_continued():
    curve = [CurvePoint(n, 1 - 2 * n**-0.5, 0.5, 0.95) for n in (50, 100, 200, 400)]
    twice = project(tuple(curve))
    assert twice.images == 800
    assert twice.accuracy == pytest.approx(1 - 2 * 800**-0.5)


@pytest.mark.parametrize("errors", [(0.1, 0.1, 0.1), (0.1, 0.2, 0.3)])
def test_a_curve_that_does_not_rise_promises_nothing(errors):
    curve = tuple(CurvePoint(10 * 2**i, 1 - e, 0.6, 0.95) for i, e in enumerate(errors))
    assert project(curve).accuracy == pytest.approx(curve[-1].accuracy)


def test_what_has_no_error_or_too_few_points_is_not_continued():
    perfect = tuple(CurvePoint(n, 1.0, 0.9, 1.0) for n in (10, 20, 40))
    assert project(perfect) is None
    assert project((CurvePoint(10, 0.8, 0.7, 0.9),) * 2) is None
