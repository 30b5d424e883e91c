"""Margins: no boundary is forgotten, and what is found on one half holds on the other."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from toplabel.bundle.margin import Margin
from toplabel.bundle.model import Activation
from toplabel.bundle.unknown import Memory, UnknownDetector
from toplabel.inference.margin import LEAST_IMAGES, fit_margin
from toplabel.inference.scoring import Question

ACTIVATIONS: list[tuple[Activation, bool]] = [("softmax", False), ("sigmoid", False)]
ACTIVATIONS += [("sigmoid", True)]


def noisy(
    count: int = 600, classes: int = 8, noise: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and the same with noise, as fewer bits make it."""
    generator = np.random.Generator(np.random.PCG64(seed))
    exact = generator.normal(0, 3, (count, classes)).astype(np.float32)
    return exact, exact + generator.normal(0, noise, exact.shape).astype(np.float32)


@given(
    data=st.data(),
    kind=st.sampled_from(ACTIVATIONS),
    threshold=st.none() | st.floats(0.01, 0.99),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    margin=st.floats(0.05, 3),
)
def test_no_change_within_the_margin_crosses_a_boundary(
    data: st.DataObject,
    kind: tuple[Activation, bool],
    threshold: float | None,
    temperature: float,
    margin: float,
) -> None:
    asked = Question(
        activation=kind[0], multi_label=kind[1], threshold=threshold, temperature=temperature
    )
    size = data.draw(st.integers(1, 6))
    logits = data.draw(hnp.arrays(np.float32, size, elements=st.floats(-8, 8, width=32)))
    if asked.distance(logits) < margin:
        return
    most = np.float32(0.499 * margin)  # of each, so that no difference changes by the margin
    shift = data.draw(hnp.arrays(np.float32, size, elements=st.floats(-1, 1, width=32)))
    assert asked.answer(logits + most * shift) == asked.answer(logits)


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("threshold", [None, 0.6])
def test_a_margin_holds_on_images_that_it_was_not_found_on(
    kind: tuple[Activation, bool], threshold: float | None
) -> None:
    asked = Question(activation=kind[0], multi_label=kind[1], threshold=threshold)
    found = fit_margin(*noisy(noise=0.05), asked)
    assert isinstance(found, Margin)
    assert found.images == 300
    assert 0 < found.again < 0.5
    exact, reduced = noisy(2500, noise=0.05, seed=1)
    changed = [
        asked.answer(one) != asked.answer(other)
        for one, other in zip(exact, reduced, strict=True)
        if asked.distance(other) >= found.logits
    ]
    assert len(changed) > 1250
    assert not any(changed)
    crossed = [asked.answer(e) != asked.answer(r) for e, r in zip(exact, reduced, strict=True)]
    assert any(crossed)  # so that there is something to catch


def test_more_noise_makes_a_wider_margin() -> None:
    narrow, wide = (fit_margin(*noisy(noise=noise), Question()) for noise in (0.05, 0.2))
    assert isinstance(narrow, Margin)
    assert isinstance(wide, Margin)
    assert wide.logits > 2 * narrow.logits


@pytest.mark.parametrize("classes", [2, 8, 40])
def test_the_label_of_independent_classes_has_the_margin_of_the_first_twos_gap(
    classes: int,
) -> None:
    exact, reduced = noisy(classes=classes)
    found = fit_margin(exact, reduced, Question(activation="sigmoid", multi_label=True))
    rows, (second, first) = np.arange(len(exact)), np.argsort(reduced)[:, -2:].T
    changes = (exact - reduced)[rows, first] - (exact - reduced)[rows, second]
    assert isinstance(found, Margin)
    assert found.logits > 3.5 * np.sqrt(np.mean(changes**2))


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=str)
def test_classes_that_are_left_out_have_no_part_in_it(kind: tuple[Activation, bool]) -> None:
    asked = Question(activation=kind[0], multi_label=kind[1])
    exact, reduced = noisy()
    whole = fit_margin(exact, reduced, asked)
    out = np.full((len(exact), 2), -np.inf, np.float32)
    found = fit_margin(np.hstack([exact, out]), np.hstack([reduced, out]), asked)
    assert isinstance(whole, Margin)
    assert isinstance(found, Margin)
    assert found.logits == pytest.approx(whole.logits, rel=0.2)


def test_ways_that_leave_out_different_classes_have_no_margin() -> None:
    exact, reduced = noisy()
    reduced[::2, 3] = -np.inf
    found = fit_margin(exact, reduced, Question(activation="sigmoid", multi_label=True))
    assert found == "the two ways leave out different classes, or all but one"


def test_one_odd_image_of_those_it_is_checked_on_is_enough_for_no_margin() -> None:
    exact, reduced = noisy(noise=0.001)
    order = np.random.Generator(np.random.PCG64(16)).permutation(len(exact))
    odd = order[-1]
    reduced[odd] = exact[odd]
    reduced[odd, int(exact[odd].argmin())] = 30
    found = fit_margin(exact, reduced, Question())
    assert isinstance(found, str)
    assert "of 300 images that it was checked on, 1 have" in found


def test_too_few_images_make_no_margin() -> None:
    exact, reduced = noisy(LEAST_IMAGES)
    exact[0] = np.nan  # no answer
    found = fit_margin(exact, reduced, Question())
    assert found == f"{LEAST_IMAGES - 1} images have an answer; a margin needs {LEAST_IMAGES}"


def test_probabilities_have_a_margin_in_log_odds() -> None:
    exact, reduced = (
        np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True) for rows in noisy(noise=0.1)
    )
    of_scores = fit_margin(exact, reduced, Question(activation="none"))
    of_logits = fit_margin(*noisy(noise=0.1), Question())
    assert isinstance(of_scores, Margin)
    assert isinstance(of_logits, Margin)
    assert of_scores.logits == pytest.approx(of_logits.logits, rel=0.25)


def test_distances_from_training_images_have_a_margin_of_their_own() -> None:
    generator = np.random.Generator(np.random.PCG64(3))
    features = generator.normal(0, 1, (600, 16)).astype(np.float32)
    cheap = features + generator.normal(0, 0.02, features.shape).astype(np.float32)
    memory = Memory.of(features[:50], np.zeros(50, np.int64))
    detector = UnknownDetector(threshold=1.1, images=50, memory=memory)
    exact, reduced = noisy()
    plain = fit_margin(exact, reduced, Question())
    told = fit_margin(
        exact,
        reduced,
        Question(),
        exact_features=features,
        reduced_features=cheap,
        unknown=detector,
    )
    any_detector = fit_margin(
        exact, reduced, Question(), exact_features=features, reduced_features=cheap
    )
    assert isinstance(plain, Margin)
    assert isinstance(told, Margin)
    assert isinstance(any_detector, Margin)
    assert plain.features is None
    assert told.features is not None
    assert any_detector.features is not None
    assert 0 < told.features < any_detector.features  # which holds for every detector
    assert told.again > plain.again
