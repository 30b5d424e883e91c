"""Calibration: fitted where truth is known, kept in the bundle, used in every face."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toplabel
from run_material import draw_colours, save_model
from serving import serving
from toplabel.analysis.temperature import fit_temperature, has_best_temperature
from toplabel.analysis.thresholds import check_threshold, choose_threshold
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.file import pack
from toplabel.errors import BundleError, ModelError, UsageError
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.inference.scoring import MARGIN, boundary_distance, probabilities

pytest.importorskip("sklearn")
ROOT = Path(__file__).parents[2]


def outputs(temperature: float, *, count: int = 4000, classes: int = 5, seed: int = 0):
    """Logits that mean what they say at a temperature, and classes drawn from them."""
    chance = np.random.default_rng(seed)
    logits = 2 * chance.normal(size=(count, classes))
    scores = probabilities(logits, "softmax")
    truth = (scores.cumsum(axis=1) < chance.random((count, 1))).sum(axis=1)
    return (logits * temperature).astype(np.float32), truth


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_the_temperature_that_made_scores_too_sure_is_found(temperature):
    assert fit_temperature(*outputs(temperature)) == pytest.approx(temperature, rel=0.08)


def test_no_temperature_is_fitted_where_none_is_the_best():
    logits, truth = outputs(1.0)
    right = logits.argmax(axis=1) == truth
    assert not has_best_temperature(logits[right], truth[right])  # every image is right
    assert not has_best_temperature(logits, logits.argmin(axis=1))  # the true class is the last
    assert has_best_temperature(logits, truth)


@pytest.mark.parametrize(
    ("chance_of", "precision"),
    [
        (lambda scores: scores, 0.9),  # they mean what they say
        (lambda scores: np.full_like(scores, 0.949), 0.95),  # nothing, and it falls short just so
        (lambda scores: np.where(scores > 0.97, 0.75, scores), 0.9),  # too sure at the top
        (lambda scores: 1 - (1 - scores) * 0.3, 0.95),  # modest
    ],
)
def test_a_chosen_precision_is_too_low_in_at_most_one_of_twenty_choices(chance_of, precision):
    chance = np.random.default_rng(0)
    many = -np.sort(-chance.beta(5, 1, 100_000))
    at_or_above = np.cumsum(chance_of(many)) / np.arange(1, len(many) + 1)
    low = 0
    for _ in range(300):
        scores = chance.beta(5, 1, 400)
        right = chance.random(400) < chance_of(scores)
        threshold = choose_threshold(scores, right, precision=precision)
        if threshold is not None:
            low += at_or_above[np.searchsorted(-many, -threshold, side="right") - 1] < precision
    assert low <= 15 + 10  # of 300; three standard deviations beyond 5 %


def test_a_threshold_keeps_its_precision_on_other_images():
    kept = 0
    for seed in range(40):
        logits, truth = outputs(1.0, count=2000, seed=seed)
        scores, right = probabilities(logits, "softmax").max(axis=1), logits.argmax(1) == truth
        threshold = choose_threshold(scores[::2], right[::2], precision=0.9)
        if threshold is None:  # none is sure enough on this half
            kept += 1
            continue
        checked = check_threshold(scores[1::2], right[1::2], threshold=threshold)
        assert checked.low <= checked.value <= checked.high
        kept += checked.high >= 0.9
        assert checked.coverage > 0.02
    assert kept >= 39


def test_a_precision_beyond_reach_has_no_threshold():
    scores, right = np.linspace(0, 1, 100), np.zeros(100, bool)
    assert choose_threshold(scores, right, precision=0.5) is None
    assert choose_threshold(scores[:10], ~right[:10], precision=0.95) is None  # too few to be sure


def test_equal_scores_go_together():
    scores, right = np.full(200, 0.5), np.arange(200) < 199
    assert choose_threshold(scores, right, precision=0.9) == 0.5
    assert choose_threshold(scores, np.arange(200) < 150, precision=0.9) is None


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Class folders of coloured images, a tenth of them in the wrong folder, and a model."""
    folder = tmp_path_factory.mktemp("colours")
    model = save_model(folder)
    names = draw_colours(folder / "flat", 200)
    paths = [folder / "flat" / Path(name).name for name in names]
    predictor = toplabel.load(**model)
    labels = [str(one) for one in predictor.stream(paths)]
    classes = sorted(set(labels))
    for number, (path, label) in enumerate(zip(paths, labels, strict=True)):
        wrong = classes[(classes.index(label) + 1) % len(classes)]
        target = folder / "data" / (wrong if number % 10 == 0 else label)
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    return folder, model


def bundle_of(model: dict) -> Bundle:
    predictor = toplabel.load(**model)
    predictor.compile()
    bundle = predictor.classifier.bundle
    assert bundle is not None
    return bundle


def test_a_calibration_is_kept_in_the_bundle_and_used_by_everyone(coloured, tmp_path):
    folder, model = coloured
    found = toplabel.calibrate(toplabel.load(**model), folder / "data")
    path = tmp_path / "calibrated.toplabel"
    found.save(path)
    loaded, raw = toplabel.load(path), toplabel.load(**model)
    assert loaded.classifier.calibration == found.calibration
    photo = next((folder / "data").rglob("*.png"))
    logits = raw.open_engine()(raw.preprocess(np.asarray(_pixels(photo)))[None])
    expected = probabilities(logits / np.float32(found.calibration.temperature), "softmax")[0]
    assert loaded(photo).score == pytest.approx(expected.max(), abs=1e-6)
    assert loaded(photo).label == raw(photo).label
    assert [p.score for p in loaded.stream([photo] * 5)] == [loaded(photo).score] * 5
    result = json.loads(command("inspect", path, "--json").stdout)
    assert result["calibration"]["temperature"] == found.calibration.temperature


def _pixels(photo: Path):
    from PIL import Image

    with Image.open(photo) as image:
        return image.convert("RGB").copy()


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "toplabel", *map(str, arguments)]
    return subprocess.run(start, capture_output=True, text=True)


@pytest.mark.slow
def test_unsure_is_reported_by_the_command_the_run_and_the_server(coloured, tmp_path):
    folder, model = coloured
    calibration = Calibration(temperature=3.0, threshold=0.999999)
    bundle = replace(bundle_of(model), calibration=calibration)
    path = tmp_path / "unsure.toplabel"
    pack(bundle, path)
    photo = next((folder / "data").rglob("*.png"))
    assert json.loads(command(photo, "-m", path, "--json").stdout)["unsure"] is True
    asked = command(photo, "-m", path, "--json", "--threshold", "0")
    assert json.loads(asked.stdout)["unsure"] is False
    summary = toplabel.run(photo, tmp_path / "o.jsonl", model=path)
    assert summary.unsure == 1
    assert json.loads((tmp_path / "o.jsonl").read_text())["unsure"] is True
    with serving("-m", str(path)) as server:
        record = server.classify(photo.read_bytes()).json["predictions"][0]
        assert record["unsure"] is True
        assert record["score"] == pytest.approx(toplabel.load(path)(photo).score, abs=1e-6)


def test_a_run_begun_without_it_does_not_go_on_with_it(coloured, tmp_path):
    folder, model = coloured
    first, second = tmp_path / "first.toplabel", tmp_path / "second.toplabel"
    bundle = bundle_of(model)
    pack(bundle, first)
    pack(replace(bundle, calibration=Calibration(temperature=2.0)), second)
    toplabel.run(folder / "data", tmp_path / "o.jsonl", model=first)
    with pytest.raises(toplabel.RunError, match="was started with different calibration"):
        toplabel.run(folder / "data", tmp_path / "o.jsonl", model=second)


def test_evaluating_on_the_same_images_is_noted(coloured):
    folder, model = coloured
    found = toplabel.calibrate(toplabel.load(**model), folder / "data")
    calibrated = Predictor(
        Classifier.of_bundle(replace(bundle_of(model), calibration=found.calibration))
    )
    notes = toplabel.evaluate(calibrated, folder / "data").notes
    assert any("the model was calibrated on these images" in note for note in notes)
    assert found.calibration.images == 200
    assert (found.fitted_on, found.checked_on) == (100, 100)


def test_what_cannot_be_calibrated_is_named(coloured, tmp_path):
    folder, model = coloured
    with pytest.raises(UsageError, match="between 0 and 1"):
        toplabel.calibrate(toplabel.load(**model), folder / "data", precision=1.5)
    with pytest.raises(UsageError, match=r"no threshold reliably reaches a precision of 0\.9999"):
        toplabel.calibrate(toplabel.load(**model), folder / "data", precision=0.9999)
    few = tmp_path / "few" / next((folder / "data").iterdir()).name
    few.mkdir(parents=True)
    image = next((folder / "data").rglob("*.png"))
    (few / "1.png").write_bytes(image.read_bytes())
    with pytest.raises(UsageError, match="1 of 1 image could be labelled; .* at least 40"):
        toplabel.calibrate(toplabel.load(**model), few.parent)
    multi = replace(bundle_of(model), activation="sigmoid", multi_label=True)
    with pytest.raises(ModelError, match="is a multi-label model"):
        toplabel.calibrate(Predictor(Classifier.of_bundle(multi)), folder / "data")


@pytest.mark.parametrize(
    "fields", [{"temperature": 0}, {"temperature": float("nan")}, {"temperature": "2"}, {"t": 1}]
)
def test_a_damaged_calibration_is_a_damaged_bundle(coloured, fields):
    _, model = coloured
    bundle = bundle_of(model)
    with pytest.raises(BundleError, match="damaged"):
        Bundle.from_manifest({**bundle.to_manifest(), "calibration": fields}, bundle.program)


def test_the_guard_measures_in_outputs_as_they_came():
    logits = np.array([2.0, 0.0, -30.0], np.float32)
    score = float(probabilities(logits / 4, "softmax").max())
    assert (
        boundary_distance(logits, activation="softmax", threshold=score, temperature=4.0) < MARGIN
    )
    assert (
        boundary_distance(logits, activation="softmax", threshold=score, temperature=1.0) >= MARGIN
    )


def test_the_command_writes_a_bundle(coloured, tmp_path):
    folder, model = coloured
    plain, out = tmp_path / "plain.toplabel", tmp_path / "out.toplabel"
    pack(bundle_of(model), plain)
    done = command("calibrate", folder / "data", "-m", plain, "-o", out, "--precision", "0.7", "-q")
    assert done.returncode == 0, done.stderr
    assert "temperature" in done.stdout
    assert "unsure below" in done.stdout
    assert toplabel.load(out).classifier.calibration.wished == 0.7
    assert command("calibrate", folder / "data", "-m", plain).returncode == 2  # no -o


@pytest.mark.shared_data
def test_a_real_checkpoints_calibration_error_halves(shared_data, tmp_path):
    preprocess = toplabel.Preprocess(
        input_size=(32, 32),
        resize_mode="squash",
        resize_size=(32, 32),
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    model = toplabel.load(
        shared_data / "checkpoints" / "resnet20-12fca82f.th",
        arch=f"{ROOT}/tests/own_networks.py:ResNet20",
        labels=shared_data / "cifar10-test",
        preprocess=preprocess,
    )
    found = toplabel.calibrate(model, shared_data / "cifar10-test", precision=0.9)
    assert found.after.ece < found.before.ece / 2
    assert found.after.nll < found.before.nll
    assert found.calibration.precision is not None
    assert found.calibration.high is not None
    assert found.calibration.high >= 0.9
