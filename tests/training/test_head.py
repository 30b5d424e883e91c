import warnings

import numpy as np
import pytest

from toplabel.training.head import Head, fit_head


def _data(classes, images, size=64, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.arange(images) % classes
    means = rng.normal(size=(classes, size)) * 0.4
    features = np.maximum(0, means[targets] + rng.normal(size=(images, size)) * 0.6 + 0.2)
    return features.astype(np.float32), targets.astype(np.int64)


def _probabilities(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("strength", [0.03, 0.1, 1.0])
def test_probabilities_are_those_of_scikit_learn(classes, strength):
    from sklearn.linear_model import LogisticRegression

    features, targets = _data(classes, 120)
    head = fit_head(features, targets, classes=classes, strength=strength)
    oracle = LogisticRegression(C=strength, max_iter=5000, tol=1e-7)
    expected = oracle.fit(features.astype(np.float64), targets).predict_proba(features)
    found = _probabilities(head.logits(features).astype(np.float64))
    assert np.abs(found - expected).max() < 1e-3


def test_weights_of_images_count_as_copies_of_them():
    features, targets = _data(3, 60)
    weights = 1.0 + np.arange(60) % 3
    twice = np.repeat(np.arange(60), 1 + np.arange(60) % 3)
    weighted = fit_head(features, targets, classes=3, strength=0.1, weights=weights)
    repeated = fit_head(features[twice], targets[twice], classes=3, strength=0.1)
    assert np.abs(weighted.logits(features) - repeated.logits(features)).max() < 2e-2


def test_a_start_changes_how_soon_it_is_found_not_what():
    features, targets = _data(4, 80)
    far = fit_head(features, targets, classes=4, strength=1.0)
    cold = fit_head(features, targets, classes=4, strength=0.03)
    warm = fit_head(features, targets, classes=4, strength=0.03, start=far)
    assert np.abs(cold.logits(features) - warm.logits(features)).max() < 2e-2


def test_a_fit_is_the_same_to_the_byte():
    features, targets = _data(5, 100)
    one, other = (fit_head(features, targets, classes=5, strength=0.1) for _ in range(2))
    assert one.weight.tobytes() == other.weight.tobytes()
    assert one.bias.tobytes() == other.bias.tobytes()


def test_features_that_never_vary_or_are_huge_do_no_harm():
    features, targets = _data(3, 30)
    features[:, 0] = 7
    features[:, 1] *= 1e4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fit_head(features, targets, classes=3, strength=0.1)
    assert np.isfinite(head.weight).all()
    assert (head.logits(features).argmax(axis=1) == targets).mean() > 0.8


def test_many_classes_of_three_images_are_learned():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(200, 32)).astype(np.float32)
    targets = np.repeat(np.arange(200), 3)
    features = means[targets] + rng.normal(size=(600, 32)).astype(np.float32) * 0.1
    head = fit_head(features, targets, classes=200, strength=1.0)
    assert isinstance(head, Head)
    assert (head.logits(features).argmax(axis=1) == targets).mean() > 0.95
