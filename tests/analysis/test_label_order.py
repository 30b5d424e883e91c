"""Whether a permuted list of labels is found, and only then."""

import numpy as np
import pytest

from toplabel.analysis.data.label_order import find_order
from toplabel.labels.labels import Labels

TEN = Labels(tuple(f"class {number}" for number in range(1, 11)))  # natural order
HERE = np.arange(10)


def answers(
    accuracy: float, *, seed: int, images: int = 100, outputs: np.ndarray = HERE
) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and logits of a model of that accuracy whose outputs stand in another order."""
    chance = np.random.default_rng(seed)
    truth = np.arange(images) % len(outputs)
    logits = chance.normal(size=(images, len(outputs)))
    best = outputs[truth].copy()
    wrong = chance.random(images) > accuracy
    best[wrong] = chance.integers(0, len(outputs), wrong.sum())
    logits[np.arange(images), best] = logits.max(axis=1) + chance.exponential(1, images)
    return truth, logits.astype(np.float32)


def string_order() -> np.ndarray:
    outputs = np.empty(10, np.int64)
    outputs[sorted(range(10), key=lambda i: TEN[i])] = HERE
    return outputs


SHIFTED = (HERE + 1) % 10
SWAPPED = np.array([0, 1, 5, 3, 4, 2, 6, 7, 8, 9])
SHUFFLED = np.random.default_rng(7).permutation(10)


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.95])
@pytest.mark.parametrize(
    ("kind", "outputs"),
    [("string", string_order()), ("shifted", SHIFTED), ("swapped", SWAPPED), ("solved", SHUFFLED)],
)
def test_a_permuted_list_is_named_from_100_images_of_10_classes(kind, outputs, accuracy):
    right = 0
    for seed in range(40):
        found = find_order(*answers(accuracy, seed=seed, outputs=outputs), TEN)
        if kind == "swapped" and found.kind in ("fits", "solved"):
            continue  # not enough to be sure which two
        assert found.kind == kind
        assert found.outputs is not None
        right += np.array_equal(found.outputs, outputs)
        assert found.fitted > found.accuracy
    least = {"swapped": {0.6: 5, 0.8: 25, 0.95: 39}, "solved": {0.6: 25, 0.8: 38, 0.95: 40}}
    assert right >= least.get(kind, {}).get(accuracy, 40)


@pytest.mark.parametrize("accuracy", [0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_a_list_that_is_right_is_never_called_permuted(accuracy):
    for seed in range(150):
        found = find_order(*answers(accuracy, seed=1000 + seed), TEN)
        assert found.kind in ("fits", "unknown")
        assert found.outputs is None


def test_a_model_that_confuses_two_classes_is_not_called_swapped():
    for seed in range(60):
        truth, logits = answers(0.9, seed=seed)
        chance = np.random.default_rng(seed)
        for a, b in ((2, 5), (5, 2)):  # a coin tossed between the two
            rows = np.flatnonzero(truth == a)
            tossed = rows[chance.random(len(rows)) < 0.5]
            logits[tossed, b] = logits[tossed].max(axis=1) + 1
        assert find_order(truth, logits, TEN).kind == "fits"


def test_labels_in_string_order_are_told_where_the_network_counts():
    labels = Labels(tuple(sorted(TEN)))
    outputs = np.array([int(name.split()[1]) - 1 for name in labels])
    found = find_order(*answers(0.8, seed=3, outputs=outputs), labels)
    assert found.kind == "natural"
    assert found.note.startswith("your labels look permuted: natural order is right for")


def test_little_and_bad_answers_cannot_be_told():
    truth, logits = answers(0.9, seed=0)
    assert find_order(truth[:1], logits[:1], TEN).kind == "unknown"
    found = find_order(*answers(0.0, seed=4), TEN)
    assert found.kind == "unknown"
    assert "no better than chance" in found.note


def test_a_thousand_classes_are_looked_at_in_seconds():
    labels = Labels(tuple(f"class {number}" for number in range(1000)))
    truth, logits = answers(0.75, seed=5, images=3000, outputs=np.arange(1000))
    assert find_order(truth, logits, labels).kind == "fits"


def test_missing_classes_stay_where_they_are():
    truth, logits = answers(0.95, seed=6, images=60, outputs=string_order())
    kept = truth < 6
    found = find_order(truth[kept], logits[kept], TEN)
    assert found.kind == "string"
