"""Scoring: softmax, sigmoid, ranking, ties, thresholds, and which answers are close."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from toplabel.bundle.model import Activation
from toplabel.errors import ImageError
from toplabel.inference.scoring import MARGIN, boundary_distance, probabilities, rank
from toplabel.labels.labels import Labels

ABC = Labels(("a", "b", "c"))
logit_rows = hnp.arrays(
    np.float32, st.integers(1, 30), elements=st.floats(-1e4, 1e4, width=32, allow_nan=False)
)


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@given(logit_rows)
def test_softmax_sums_to_one_without_overflow(logits: np.ndarray) -> None:
    scores = probabilities(logits, "softmax")
    assert scores.sum() == pytest.approx(1)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_softmax_equals_the_formula() -> None:
    np.testing.assert_allclose(
        probabilities(row(1, 2, 3), "softmax"), np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    )


def test_sigmoid_equals_the_formula_and_does_not_overflow() -> None:
    np.testing.assert_allclose(probabilities(row(0, 2), "sigmoid"), [0.5, 1 / (1 + np.exp(-2))])
    np.testing.assert_array_equal(probabilities(row(-1e4, 1e4), "sigmoid"), [0, 1])


def test_probabilities_are_not_softmaxed_again() -> None:
    ranking = rank(row(0.1, 0.7, 0.2), ABC, activation="none", top_k=1)
    assert ranking.best.score == pytest.approx(0.7)


@given(logit_rows, st.integers(1, 40))
def test_ranking_is_a_stable_sort_by_logit(logits: np.ndarray, top_k: int) -> None:
    labels = Labels.indices(len(logits))
    ranking = rank(logits, labels, activation="softmax", top_k=top_k)
    expected = np.argsort(-logits, kind="stable")[:top_k]
    assert [candidate.index for candidate in ranking.top] == expected.tolist()


def test_top_k_beyond_the_classes_means_all_of_them() -> None:
    assert len(rank(row(1, 2, 3), ABC, activation="softmax", top_k=10).top) == 3


def test_among_equal_logits_the_lowest_index_comes_first() -> None:
    assert rank(row(1, 5, 5), ABC, activation="softmax", top_k=1).best.index == 1


def test_a_score_below_the_threshold_is_unsure_and_keeps_its_label() -> None:
    ranking = rank(row(1, 1.1, 1), ABC, activation="softmax", top_k=1, threshold=0.9)
    assert ranking.unsure
    assert ranking.best.label == "b"


def test_multi_label_gives_all_at_or_above_the_threshold() -> None:
    ranking = rank(row(3, -3, 0), ABC, activation="sigmoid", multi_label=True, top_k=1)
    assert [candidate.label for candidate in ranking.top] == ["a", "c"]
    assert not ranking.unsure


def test_multi_label_with_nothing_above_the_threshold_is_unsure() -> None:
    ranking = rank(row(-3, -1, -2), ABC, activation="sigmoid", multi_label=True, top_k=5)
    assert ranking.unsure
    assert ranking.top == ()
    assert ranking.best.label == "b"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_a_logit_that_is_no_number_is_an_error_never_a_label(
    bad: float, activation: Activation
) -> None:
    with pytest.raises(ImageError, match="NaN or infinity") as caught:
        rank(row(1, bad, 2), ABC, activation=activation, top_k=1)
    assert caught.value.code == "non_finite"


def test_a_class_that_is_masked_with_minus_infinity_is_never_the_label() -> None:
    ranking = rank(row(-np.inf, 1, 2), ABC, activation="softmax", top_k=3)
    assert [one.label for one in ranking.top] == ["c", "b", "a"]
    assert [one.score for one in ranking.top] == pytest.approx([0.7310586, 0.2689414, 0])
    applies = rank(row(-np.inf, 1, -2), ABC, activation="sigmoid", multi_label=True, top_k=1)
    assert [one.label for one in applies.top] == ["b"]
    assert boundary_distance(row(-np.inf, 1, 3), activation="softmax") >= MARGIN
    assert boundary_distance(row(-np.inf, 1, -3), activation="sigmoid", multi_label=True) >= MARGIN


def test_where_all_classes_are_masked_there_is_no_label() -> None:
    with pytest.raises(ImageError, match="NaN or infinity"):
        rank(row(-np.inf, -np.inf, -np.inf), ABC, activation="softmax", top_k=1)


def test_own_scores_of_independent_classes_count_from_the_threshold_on() -> None:
    ranking = rank(row(0.4, 0.9, 0.5), ABC, activation="none", multi_label=True, top_k=1)
    assert [one.label for one in ranking.top] == ["b", "c"]
    assert [one.score for one in ranking.top] == pytest.approx([0.9, 0.5])
    assert rank(row(0.4, 0.3, 0.1), ABC, activation="none", multi_label=True, top_k=1).top == ()
    assert boundary_distance(row(0.55, 0.99, 0.01), activation="none", multi_label=True) < MARGIN
    assert boundary_distance(row(0.8, 0.99, 0.01), activation="none", multi_label=True) >= MARGIN


# Close answers, which a scaled decode is not trusted for


def test_a_clear_winner_is_not_close() -> None:
    assert boundary_distance(row(0, 5, 1), activation="softmax") >= MARGIN


def test_two_logits_within_the_margin_are_close() -> None:
    assert boundary_distance(row(0, 5, 5 - MARGIN / 2), activation="softmax") < MARGIN


def test_a_score_near_the_threshold_is_close() -> None:
    logits = row(0, 4, 0)  # score 0.965
    assert boundary_distance(logits, activation="softmax", threshold=0.5) >= MARGIN
    assert boundary_distance(logits, activation="softmax", threshold=0.95) < MARGIN


def test_a_multi_label_score_near_the_threshold_is_close() -> None:
    assert boundary_distance(row(-6, 5, 2), activation="sigmoid", multi_label=True) >= MARGIN
    assert boundary_distance(row(-6, 5, 0.1), activation="sigmoid", multi_label=True) < MARGIN


def test_probabilities_are_compared_as_log_odds() -> None:
    assert boundary_distance(row(0.5, 0.4, 0.1), activation="none") < MARGIN
    assert boundary_distance(row(0.9, 0.05, 0.05), activation="none") >= MARGIN


def test_what_is_not_finite_is_read_again() -> None:
    assert boundary_distance(row(np.nan, 1), activation="softmax") < MARGIN


def test_a_model_of_one_output_has_no_second_to_be_close_to() -> None:
    assert boundary_distance(row(5), activation="sigmoid") >= MARGIN
