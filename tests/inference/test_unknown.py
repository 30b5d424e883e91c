"""Labelling with a detector: what lies near its threshold is read in full."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toplabel.bundle.unknown import MARGIN, UnknownDetector
from toplabel.inference.batch import PredictOptions, label_batch
from toplabel.inference.classifier import Classifier
from unknown_material import unknown_bundle

pytest.importorskip("onnx")


class Counted:
    """An engine that counts its calls."""

    def __init__(self, classifier: Classifier) -> None:
        self._engine = classifier.open_engine(1)
        self.name, self.device, self.calls = self._engine.name, self._engine.device, 0
        self.normalises = self._engine.normalises

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return self.answer(batch)[0]

    def answer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        return self._engine.answer(batch)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.of_bundle(unknown_bundle(tmp_path_factory.mktemp("model")))


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """A JPEG that is large enough to be decoded at a reduced scale: red, a little green."""
    path = tmp_path / "large.jpg"
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 250, 60
    Image.fromarray(pixels).save(path, quality=95)
    return str(path)


def with_threshold(classifier: Classifier, threshold: float) -> Classifier:
    detector = classifier.unknown
    assert detector is not None
    return replace(classifier, unknown=replace(detector, threshold=threshold))


def distance_of(classifier: Classifier, photo: str) -> float:
    found: list[float] = []
    detector = classifier.unknown
    assert detector is not None

    class Kept(UnknownDetector):
        def is_unknown(self, distance: float) -> bool:
            found.append(distance)
            return super().is_unknown(distance)

    kept = Kept(**detector.to_dict(), memory=detector.memory)
    one = replace(classifier, unknown=kept)
    label_batch([(0, photo)], Counted(one), one, PredictOptions(exact=True))
    return found[0]


def test_what_lies_near_the_threshold_is_read_again_in_full(
    classifier: Classifier, photo: str
) -> None:
    distance = distance_of(classifier, photo)
    for away, calls in ((0.5 * MARGIN, 2), (-0.5 * MARGIN, 2), (0.1, 1)):
        near = with_threshold(classifier, distance + away)
        engine = Counted(near)
        (prediction,) = label_batch([(0, photo)], engine, near, PredictOptions())
        assert engine.calls == calls
        assert prediction.unknown is (away < 0)
        engine = Counted(near)
        label_batch([(0, photo)], engine, near, PredictOptions(exact=True))
        assert engine.calls == 1


def test_a_detector_that_fails_makes_an_error_and_no_label(
    classifier: Classifier, photo: str
) -> None:
    class Broken(UnknownDetector):
        def distance(self, features: np.ndarray) -> np.ndarray:
            raise ValueError("no such distance")

    detector = classifier.unknown
    assert detector is not None
    broken = Broken(**detector.to_dict(), memory=detector.memory)
    one = replace(classifier, unknown=broken)
    (prediction,) = label_batch([(0, photo)], Counted(one), one, PredictOptions())
    assert prediction.error is not None
    assert prediction.error.code == "internal"
    assert (prediction.label, prediction.unknown) == (None, None)


def test_a_distance_that_is_no_number_is_unknown(classifier: Classifier) -> None:
    detector = classifier.unknown
    assert detector is not None
    assert detector.is_unknown(float("nan"))
    assert not detector.is_unknown(detector.threshold)
