"""Predictions in a notebook: escaped, with the image where there is one."""

from pathlib import Path

import numpy as np

import toplabel
from toplabel.errors import ImageError
from toplabel.inference.prediction import Candidate, Prediction

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_prediction_of_a_file_shows_the_image_and_bars() -> None:
    text = toplabel.load()(EXAMPLES / "coffee.jpg", top_k=3)._repr_html_()
    assert 'src="data:image/jpeg;base64,' in text
    assert "espresso" in text
    assert text.count("background:") == 3


def test_a_prediction_of_an_array_shows_bars_alone() -> None:
    text = toplabel.load()(np.zeros((8, 8, 3), np.uint8))._repr_html_()
    assert "<img" not in text
    assert "&lt;array 0&gt;" in text


def test_names_and_labels_are_escaped() -> None:
    candidate = Candidate("<script>", 0, 0.5)
    prediction = Prediction(
        "<b>.jpg", "<script>", 0, 0.5, (candidate,), unsure=False, warnings=(), model="m"
    )
    assert "<script>" not in prediction._repr_html_()
    assert "<b>.jpg" not in prediction._repr_html_()


def test_a_failed_prediction_says_why() -> None:
    failed = Prediction.failed("a.jpg", "m", ImageError("truncated", "it ends early"))
    assert "truncated: it ends early" in failed._repr_html_()


def test_a_file_that_is_gone_leaves_the_bars(tmp_path: Path) -> None:
    candidate = Candidate("cat", 0, 0.5)
    prediction = Prediction(str(tmp_path / "gone.jpg"), "cat", 0, 0.5, (candidate,), False, (), "m")
    assert "<img" not in prediction._repr_html_()
    assert "cat" in prediction._repr_html_()
