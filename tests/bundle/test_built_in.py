"""The embedded model against the answers of eager PyTorch and timm's own transform."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toplabel
from toplabel.bundle.bundle import built_in_bundle

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("photo", "label"),
    [("cat.jpg", "tiger cat"), ("coffee.jpg", "espresso"), ("rocket.jpg", "missile")],
)
def test_labels_the_example_photos(photo: str, label: str) -> None:
    assert toplabel.label(EXAMPLES / photo) == label


@pytest.mark.slow
@pytest.mark.shared_data
def test_top_five_of_200_photos_are_those_of_eager_pytorch(shared_data: Path) -> None:
    reference = json.loads((shared_data / "reference/lite0_imagenet.json").read_text())["top5"]
    photos = sorted((shared_data / "imagenet").iterdir())
    assert len(photos) == len(reference) == 200
    for prediction in toplabel.load(exact=True).stream(photos):
        expected = reference[Path(prediction.source).name]
        assert prediction.top is not None
        assert [candidate.index for candidate in prediction.top] == expected["index"]
        scores = [candidate.score for candidate in prediction.top]
        assert scores == pytest.approx(expected["score"], abs=1e-3)


def test_it_answers_in_int8_where_a_label_is_clear_and_without_being_optimised_first() -> None:
    reduced = built_in_bundle().reduced
    assert reduced is not None
    assert (reduced.precision, reduced.engine) == ("int8", "onnxruntime")
    assert (reduced.margin.images, reduced.margin.changed) == (600, 0)
    photos = [EXAMPLES / name for name in ("cat.jpg", "coffee.jpg", "rocket.jpg")]
    found = toplabel.load(fast=True)(photos)
    assert [one.label for one in found] == ["tiger cat", "espresso", "missile"]
    assert found[0].precision is None  # the cat is nearly another one
    assert found[1].precision == (None if reduced.why_not_here else "int8")


@pytest.mark.shared_data
def test_int8_changes_no_label_of_200_photos_and_answers_most(shared_data: Path) -> None:
    if (built_in_bundle().reduced or pytest.fail("none")).why_not_here:
        pytest.skip("this processor has no VNNI")
    photos = sorted((shared_data / "imagenet").iterdir())
    exact = [one.index for one in toplabel.load(exact=True).stream(photos)]
    found = list(toplabel.load(fast=True).stream(photos))
    assert [one.index for one in found] == exact
    assert sum(one.precision == "int8" for one in found) > 140


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_guarded_fast_decode_changes_no_label(shared_data: Path) -> None:
    photos = [*sorted((shared_data / "imagenet").iterdir()), *(shared_data / "camera").iterdir()]
    fast = [prediction.index for prediction in toplabel.load().stream(photos)]
    exact = [prediction.index for prediction in toplabel.load(exact=True).stream(photos)]
    assert fast == exact


# What a viewer must do with stored pixels to see them upright, undone: orientation tag -> stored.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


QUALITY = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_never_changes_the_label(kind: str, tmp_path: Path) -> None:
    upright = np.asarray(Image.open(EXAMPLES / "coffee.jpg").convert("RGB"))
    paths = []
    for tag, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        paths.append(tmp_path / f"{tag}.{kind.lower()}")
        image = Image.fromarray(np.ascontiguousarray(stored(upright)))
        image.save(paths[-1], kind, exif=exif, **QUALITY.get(kind, {}))
    predictions = list(toplabel.load().stream(paths))
    assert {prediction.label for prediction in predictions} == {"espresso"}
    scores = [prediction.score or 0 for prediction in predictions]
    assert max(scores) - min(scores) <= 0.02
