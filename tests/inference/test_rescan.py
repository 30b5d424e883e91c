"""The guard: which answers are too close to trust a scaled decode."""

import numpy as np

from toplabel.inference.rescan import MARGIN, is_close


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_clear_winner_is_not_close() -> None:
    assert not is_close(row(0, 5, 1), activation="softmax")


def test_two_logits_within_the_margin_are_close() -> None:
    assert is_close(row(0, 5, 5 - MARGIN / 2), activation="softmax")


def test_a_score_near_the_threshold_is_close() -> None:
    logits = row(0, 4, 0)  # score 0.965
    assert not is_close(logits, activation="softmax", threshold=0.5)
    assert is_close(logits, activation="softmax", threshold=0.95)


def test_a_multi_label_score_near_the_threshold_is_close() -> None:
    assert not is_close(row(-6, 5, 2), activation="sigmoid")
    assert is_close(row(-6, 5, 0.1), activation="sigmoid")


def test_probabilities_are_compared_as_log_odds() -> None:
    assert is_close(row(0.5, 0.4, 0.1), activation="none")
    assert not is_close(row(0.9, 0.05, 0.05), activation="none")


def test_what_is_not_finite_is_read_again() -> None:
    assert is_close(row(np.nan, 1), activation="softmax")


def test_a_model_of_one_output_has_no_second_to_be_close_to() -> None:
    assert not is_close(row(5), activation="sigmoid")
