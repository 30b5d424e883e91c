"""Batches: whatever happens to one image, the others keep their answers, at every face."""

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import COLOURS, RECIPE, MeanEngine, local_predictor
from toplabel.errors import ImageError
from toplabel.inference.batch import PredictOptions, label_batch
from toplabel.inference.classifier import Classifier
from toplabel.labels.labels import Labels


class NoText(RuntimeError):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")


DEFECTS = [
    LookupError("no such thing"),
    AssertionError(),
    struct.error("unpack requires a buffer of 4 bytes"),
    TypeError("unsupported operand"),
    RecursionError("maximum recursion depth exceeded"),
    NoText(),
]


class Broken:
    """A file object whose reading fails as nobody expected."""

    name = "broken.jpg"

    def __init__(self, defect: BaseException) -> None:
        self.defect = defect

    def read(self, size: int = -1) -> bytes:
        raise self.defect


class Nameless:
    """An object that has not even a name."""

    @property
    def name(self) -> str:
        raise LookupError("no name")

    def read(self, size: int = -1) -> bytes:
        raise LookupError("no bytes")


def colour(index: int) -> np.ndarray:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., index] = 255
    return pixels


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: type(defect).__name__)
def test_an_unexpected_exception_is_the_record_internal(defect: Exception) -> None:
    red, broken, blue = local_predictor()([colour(0), Broken(defect), colour(2)])
    assert (red.label, blue.label) == ("red", "blue")
    assert broken.source == "broken.jpg"
    assert broken.error is not None
    assert broken.error.code == "internal"
    assert type(defect).__name__ in broken.error.message


def test_alone_it_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="unexpected error: LookupError: no such thing") as caught:
        local_predictor()(Broken(DEFECTS[0]))
    assert caught.value.code == "internal"


def test_an_object_without_a_name_is_a_record() -> None:
    red, broken = local_predictor()([colour(0), Nameless()])
    assert red.label == "red"
    assert broken.source == "<Nameless 1>"
    assert broken.error is not None
    assert broken.error.code == "internal"


@pytest.mark.parametrize("defect", [KeyboardInterrupt(), SystemExit(3)])
def test_who_wants_to_stop_stops(defect: BaseException) -> None:
    with pytest.raises(type(defect)):
        local_predictor()([colour(0), Broken(defect), colour(2)])


def test_a_file_object_that_gives_text_is_no_image() -> None:
    (found,) = local_predictor()([io.StringIO("text")])
    assert found.error is not None
    assert found.error.code == "not_an_image"


class FailsForGreen:
    """A part of a model that has a defect: it fails for images that are green."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def __call__(self, pixels: np.ndarray, **options: Any) -> Any:
        assert not pixels[..., 1].any(), "no green"
        return self.part(pixels, **options)


class FewLabels:
    """Labels of which one is missing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> str:
        return self.names[index]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"preprocess": FailsForGreen(RECIPE)}, "no green"),
        ({"labels": FewLabels(("red",))}, "IndexError"),
    ],
)
def test_preprocessing_and_ranking_fail_for_one_image_alone(
    changes: dict[str, Any], kind: str
) -> None:
    parts = {"preprocess": RECIPE, "labels": Labels(COLOURS)} | changes
    classifier = Classifier(
        name="test/colours@00000000",
        activation="softmax",
        open_engine=lambda threads, features=False: MeanEngine(),
        parallel=True,
        **parts,
    )
    settings = PredictOptions(top_k=1)
    red, green = label_batch([(0, colour(0)), (1, colour(1))], MeanEngine(), classifier, settings)
    assert red.label == "red"
    assert green.error is not None
    assert green.error.code == "internal"
    assert kind in green.error.message


# Every face


BAD = "bad.png"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images in a folder for each class, one of which brings out a defect in the reader."""
    from toplabel.image import reading

    for index, name in enumerate(COLOURS):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(colour(index)).save(tmp_path / name / f"{number}.png")
    Image.new("RGB", (3, 5)).save(tmp_path / "red" / BAD)
    decode = reading._decode

    def broken(content: Any, *rest: Any) -> Any:
        found = content if isinstance(content, bytes) else os.pread(content.fileno(), 999, 0)
        if found == bad_bytes:
            raise struct.error("unpack requires a buffer of 4 bytes")
        return decode(content, *rest)

    bad_bytes = (tmp_path / "red" / BAD).read_bytes()
    monkeypatch.setattr(reading, "_decode", broken)
    return tmp_path


def test_a_run_goes_on(folder: Path, tmp_path: Path) -> None:
    summary = toplabel.run(folder / "red", tmp_path / "out.jsonl", model=local_predictor())
    assert (summary.labelled, summary.failed) == (3, 1)
    errors = [
        json.loads(line)["error"] for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ]
    assert [error and error["code"] for error in errors].count("internal") == 1


def test_an_evaluation_counts_it(folder: Path) -> None:
    pytest.importorskip("sklearn")
    found = toplabel.evaluate(local_predictor(), folder)
    assert found.metrics.images == 10
    assert found.outputs.codes == {"internal": 1}


def test_a_comparison_names_it_and_goes_on(folder: Path) -> None:
    sources = [folder / "red" / BAD, folder / "green" / "0.png"]
    found = toplabel.compare(local_predictor(), local_predictor(), sources)
    bad, good = found.images
    assert "unexpected error: error: unpack requires" in bad.error
    assert not good.error
    assert good.first is None


def test_an_explanation_is_an_error_with_a_code(folder: Path) -> None:
    with pytest.raises(ImageError, match="unexpected error") as caught:
        toplabel.explain(local_predictor(), folder / "red" / BAD)
    assert caught.value.code == "internal"


def test_doctor_counts_it(folder: Path) -> None:
    from toplabel.analysis.doctor.search import read_images

    sources = sorted((folder / "red").iterdir())
    found = read_images(sources, RECIPE)
    assert len(found.read) == 3
    assert found.failed == {"internal": 1}


def test_a_served_model_answers(folder: Path) -> None:
    from toplabel.serve.models import ServedModel

    model = local_predictor()
    served = ServedModel("colours", model, model.open_engine(), "0" * 8, model.read)
    answer = served.answer((folder / "red" / BAD).read_bytes(), top_k=1, threshold=None)
    assert answer.prediction.error is not None
    assert answer.prediction.error.code == "internal"
