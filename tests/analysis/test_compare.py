"""Two ways to run a model, and the first stage at which they differ."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toplabel
from explaining_material import CLASSES, RECIPE, Colours, picture, turned_jpeg
from toplabel.analysis.compare import compare_logits, compare_pixels, compare_tensors
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.file import pack
from toplabel.errors import UsageError

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(str(path) for path in (ROOT / "examples").glob("*.jpg"))


def transform(image: Image.Image) -> torch.Tensor:
    """The preprocessing of `explaining_material`, as somebody would write it."""
    scale = 64 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    left, top = (image.width - 64) // 2, (image.height - 64) // 2
    values = np.asarray(image.crop((left, top, left + 64, top + 64)), np.float32) / 255
    return torch.from_numpy(values.transpose(2, 0, 1))


def wrapped(**options):
    return toplabel.wrap(Colours().eval(), labels=CLASSES, preprocess=RECIPE, **options)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture()).save(path)
    return path


def test_the_same_way_twice_is_the_same(photo):
    found = toplabel.compare(wrapped(), wrapped(), [photo])
    assert found.same
    assert found.first is None
    assert found.images[0].a == found.images[0].b


def test_a_calibrated_model_differs_from_itself_by_its_scores_and_it_says_why(photo, tmp_path):
    plain = wrapped(engine="onnxruntime")
    plain.compile()
    calibration = Calibration(temperature=4.0, threshold=0.25)
    calibrated = replace(plain.classifier.bundle, calibration=calibration)
    pack(calibrated, tmp_path / "calibrated.toplabel")
    found = toplabel.compare(plain, tmp_path / "calibrated.toplabel", [photo])
    one = found.images[0]
    assert (found.first, one.logits, one.labels_differ, found.same) == (
        "scores",
        None,
        False,
        False,
    )
    assert "a temperature of 1, B by 4" in one.scores.words
    assert found.note == "A is never unsure, B is unsure below 0.25"
    assert found.b.endswith("on cpu, temperature 4; unsure below 0.25")
    assert found.to_dict()["images"][0]["scores"]["words"] == one.scores.words


def test_two_engines_agree_within_their_tolerance(photo):
    other = wrapped(engine="onnxruntime")
    other.compile()
    found = toplabel.compare(wrapped(engine="torch"), other, [photo])
    assert found.same
    assert "by torch on cpu" in found.a
    assert "by onnxruntime on cpu" in found.b


def test_another_mean_and_std_is_named_with_its_figures(photo):
    def normalised(image):
        return (transform(image) - 0.5) / 0.25

    model = wrapped()
    found = toplabel.compare(model, model, [photo], a_preprocess=transform, b_preprocess=normalised)
    assert found.first == "tensor"
    assert "B is A x 4/4/4 -2/-2/-2" in found.images[0].tensor.words


def test_channels_in_the_opposite_order_are_named(photo):
    def bgr(image):
        return transform(image).flip(0)

    model = wrapped()
    found = toplabel.compare(model, model, [photo], a_preprocess=transform, b_preprocess=bgr)
    assert found.images[0].tensor.words == "B has the channels in the opposite order"
    assert found.images[0].labels_differ
    assert (found.images[0].a[0], found.images[0].b[0]) == ("red", "blue")


def test_another_crop_is_named(photo):
    def squashed(image):
        return transform(image.resize((64, 64)))

    model = wrapped()
    found = toplabel.compare(model, model, [photo], b_preprocess=squashed)
    assert found.first == "tensor"
    assert "another resizing, crop or filter" in found.images[0].tensor.words


def test_an_ignored_orientation_is_named(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned_jpeg(picture()))
    model = wrapped()
    found = toplabel.compare(model, model, [path], b_preprocess=transform)
    assert found.first == "pixels"
    assert "one of them ignores the EXIF orientation" in found.images[0].pixels.words


def test_a_function_of_the_path_reads_the_image_itself(photo):
    def from_path(path):
        with Image.open(path) as image:
            return transform(image.convert("RGB"))[None]

    model = wrapped()
    found = toplabel.compare(model, model, [photo], a_preprocess=transform, b_preprocess=from_path)
    assert found.same


@pytest.mark.slow
@pytest.mark.shared_data
def test_exact_and_fast_differ_in_what_is_read_and_not_in_labels(shared_data):
    photos = sorted((shared_data / "camera").iterdir())[:3]
    fast, exact = toplabel.load(), toplabel.load(exact=True)
    found = toplabel.compare(fast, exact, photos)
    assert found.first == "pixels"
    assert not any(one.labels_differ for one in found.images)
    assert any("smaller scale" in one.pixels.words for one in found.images if one.pixels)


def test_an_image_that_cannot_be_read_is_reported_and_the_others_are_compared(photo, tmp_path):
    model = wrapped()
    found = toplabel.compare(model, model, [tmp_path / "gone.png", photo])
    assert found.images[0].error.startswith("A: cannot read")
    assert found.images[1].first is None
    assert not found.same


def test_a_function_that_fails_on_one_image_costs_only_that_image(photo, tmp_path):
    def transform_small(image):
        return transform(image) if image.width > 1 else 1 / 0

    Image.new("RGB", (1, 1)).save(tmp_path / "tiny.png")
    model = wrapped()
    images = [photo, tmp_path / "tiny.png", photo]
    found = toplabel.compare(model, model, images, b_preprocess=transform_small)
    errors = [one.error for one in found.images]
    assert errors == ["", "B: unexpected error: ZeroDivisionError: division by zero", ""]
    assert not found.same


def test_an_array_of_another_shape_for_a_later_image_costs_only_that_image(photo, tmp_path):
    def transform_wide(image):
        return transform(image) if image.width > 1 else np.zeros(64)

    Image.new("RGB", (1, 1)).save(tmp_path / "tiny.png")
    model = wrapped()
    found = toplabel.compare(
        model, model, [photo, tmp_path / "tiny.png"], b_preprocess=transform_wide
    )
    assert found.images[0].error == ""
    assert "an array of shape (64,)" in found.images[1].error


def test_other_class_names_are_reported_whatever_the_images_show(photo):
    other = toplabel.wrap(Colours().eval(), labels=("red", "blue", "green"), preprocess=RECIPE)
    found = toplabel.compare(wrapped(), other, [photo])
    assert found.first is None
    assert found.note.startswith("2 of 3 class names differ: class 1 is 'green' in A, 'blue' in B")
    assert not found.same


def test_wrong_input_is_named(photo):
    model = wrapped()
    with pytest.raises(UsageError, match="got no images"):
        toplabel.compare(model, model, [])
    with pytest.raises(UsageError, match=r"an array of shape \(64,\)"):
        toplabel.compare(model, model, [photo], b_preprocess=lambda image: np.zeros(64))


def test_differences_are_measured():
    a = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    b = a.copy()
    b[0, 0, 0] += 5
    found = compare_pixels(a, b)
    assert (found.largest, found.share) == (5, 1 / 48)
    assert compare_pixels(a, a) is None
    values = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    assert compare_tensors(values, values) is None
    assert compare_tensors(values, values[:1]).to_dict()["largest"] is None
    assert compare_logits(values[0, 0], values[0, 0] + 1e-5) is None
    assert compare_logits(values[0, 0], values[0, 0] + 0.1).largest == pytest.approx(0.1, abs=1e-6)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toplabel", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command_names_the_first_difference(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import numpy as np\n"
        "def transform(image):\n"
        "    values = np.asarray(image.resize((224, 224)), np.float32) / 127.5 - 1\n"
        "    return values.transpose(2, 0, 1)\n"
    )
    done = run("embedded", "embedded", *EXAMPLES, "--b-preprocess", f"{mine}:transform")
    assert done.returncode == 1, done.stderr
    assert "first difference: tensor, in 3 of 3 images" in done.stdout
    result = json.loads(run("embedded", "embedded", EXAMPLES[0], "--json").stdout)
    assert (result["first"], result["labels_changed"]) == (None, 0)
    assert run("embedded", "embedded", EXAMPLES[0]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embedded", "embedded"), "Missing argument"),
        (("embedded", "nowhere.toplabel", EXAMPLES[0]), "nowhere.toplabel"),
        (
            ("embedded", "embedded", EXAMPLES[0], "--b-preprocess", "gone.py:f"),
            "gone.py",
        ),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
