"""A class prior: stated, kept in the bundle, and in every answer that is made of logits."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toplabel
from run_material import COLOURS, RECIPE, draw_colours, read_jsonl, save_model
from serving import serving
from toplabel.analysis.prior import read_prior
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.file import describe_packed, pack
from toplabel.errors import BundleError, LabelsError, ModelError, UsageError
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor
from toplabel.labels.labels import Labels

PETS = Labels(("cat", "dog", "tench, Tinca tinca"))
SEEN, WANTED = (0.9, 0.06, 0.04), (0.05, 0.15, 0.8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three colours, told apart by logits from 0 to 4."""
    pytest.importorskip("onnx")
    predictor = toplabel.load(**save_model(tmp_path_factory.mktemp("model"), scale=4))
    assert predictor.classifier.bundle is not None
    return predictor.classifier.bundle


def with_prior(bundle: Bundle, temperature: float = 1.0) -> Bundle:
    priors = Calibration(temperature=temperature, trained_prior=SEEN, prior=WANTED)
    return replace(bundle, calibration=priors)


def command(*arguments: object) -> str:
    """What a command that does its work prints."""
    start = [sys.executable, "-m", "toplabel", *map(str, arguments)]
    return subprocess.run(start, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_scores_follow_the_closed_form(bundle: Bundle, tmp_path: Path, temperature: float) -> None:
    (photo,) = draw_colours(tmp_path, 1)
    raw = Predictor(Classifier.of_bundle(bundle))
    (logits,) = raw.open_engine()(raw.preprocess(np.asarray(Image.open(photo)))[None])
    scores = np.exp(logits / temperature)  # p(y | x) prior(y) / trained(y), to a factor
    expected = scores * np.array(WANTED) / np.array(SEEN)
    predictor = Predictor(Classifier.of_bundle(with_prior(bundle, temperature)))
    prediction = predictor(photo, top_k=3)
    found = {one.index: one.score for one in prediction.top or ()}
    np.testing.assert_allclose([found[i] for i in range(3)], expected / expected.sum(), rtol=1e-5)
    assert prediction.index == expected.argmax()


def test_every_face_has_the_label_that_the_prior_makes(bundle: Bundle, tmp_path: Path) -> None:
    (photo,) = draw_colours(tmp_path / "photos", 1)  # red
    path = tmp_path / "prior.toplabel"
    pack(with_prior(bundle), path)
    assert toplabel.Predictor(Classifier.of_bundle(bundle))(photo).label == "red"
    predictor = toplabel.load(path)
    tensor = predictor.preprocess(np.asarray(Image.open(photo)))
    labels = {
        "one": predictor(photo).label,
        "several": predictor([photo, photo])[1].label,
        "tensor": predictor.predict_tensor(tensor).label,
        "explain": toplabel.explain(predictor, photo).label,
        "compare": toplabel.compare(path, path, [photo]).images[0].a[0],
    }
    toplabel.run(photo, tmp_path / "out.jsonl", model=path)
    labels["run"] = read_jsonl(tmp_path / "out.jsonl")[0]["label"]
    with serving("-m", str(path)) as server:
        content = Path(photo).read_bytes()
        labels["server"] = server.classify(content).json["predictions"][0]["label"]
        labels["hf"] = server.post("/", content).json[0]["label"]
        given = {"name": "tensor", "shape": [1, 3, 8, 8], "datatype": "FP32"}
        asked = {"inputs": [given | {"data": tensor.ravel().tolist()}]}
        body = json.dumps(asked).encode()
        reply = server.post("/v2/models/prior/infer", body, "application/json")
        labels["v2"] = reply.json["outputs"][0]["data"][0]
    assert labels == dict.fromkeys(labels, "blue")


def test_evaluate_counts_with_the_prior(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    for place, path in enumerate(draw_colours(tmp_path / "photos", 9)):
        folder = tmp_path / "val" / COLOURS[place % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Path(path).rename(folder / Path(path).name)
    plain, shifted = (
        toplabel.evaluate(Predictor(Classifier.of_bundle(one)), tmp_path / "val")
        for one in (bundle, with_prior(bundle))
    )
    assert plain.metrics.top1.value == 1
    assert shifted.metrics.top1.value == pytest.approx(2 / 3)  # no red one


def test_a_close_answer_is_close_where_the_prior_makes_it_so(
    bundle: Bundle, tmp_path: Path
) -> None:
    from toplabel.inference.scoring import MARGIN, boundary_distance

    engine = Classifier.of_bundle(with_prior(bundle)).open_engine(1)
    plain = Classifier.of_bundle(bundle).open_engine(1)
    tensor = np.zeros((1, 3, 8, 8), np.float32)
    tensor[0, 0] = np.log(0.8 * 0.9 / (0.05 * 0.04)) / 4  # red, as likely as blue with the prior
    assert boundary_distance(engine(tensor)[0], activation="softmax") < MARGIN
    assert boundary_distance(plain(tensor)[0], activation="softmax") >= MARGIN


def test_a_model_gets_a_prior_without_images_and_loses_it_again(
    bundle: Bundle, tmp_path: Path
) -> None:
    plain, path, back = (tmp_path / f"{name}.toplabel" for name in ("plain", "prior", "back"))
    pack(bundle, plain)
    seen = ("--trained-prior", "red=80,green=10,blue=10")
    said = command("calibrate", plain, "-o", path, "--prior", "balanced", *seen)
    assert "class prior balanced; in training 0.8 / 0.1 / 0.1" in said
    calibration = toplabel.load(path).classifier.calibration
    assert calibration is not None
    np.testing.assert_allclose(calibration.prior, [1 / 3] * 3)
    np.testing.assert_allclose(calibration.trained_prior, [0.8, 0.1, 0.1])
    assert "class prior balanced" in command("inspect", path)
    found = toplabel.calibrate(path, prior="as-trained")
    found.save(back)
    kept = toplabel.load(back).classifier.calibration
    assert kept is not None
    assert (kept.prior, kept.trained_prior) == (None, calibration.trained_prior)
    assert json.dumps(found.to_dict())


def test_a_model_that_is_named_in_place_of_images_is_meant(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, out = tmp_path / "plain.toplabel", tmp_path / "out.toplabel"
    pack(bundle, plain)
    monkeypatch.setenv("TOPLABEL_MODEL", str(tmp_path / "another.toplabel"))
    seen = ("--trained-prior", "red=8,green=1,blue=1")
    command("calibrate", plain, "-o", out, "--prior", "balanced", *seen)
    command("calibrate", plain, "-o", out, *seen)
    calibration = toplabel.load(out).classifier.calibration
    assert calibration is not None
    assert (calibration.prior, calibration.trained_prior) == (None, (0.8, 0.1, 0.1))


def test_a_yes_or_no_of_one_output_takes_a_prior_too(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    options = save_one_output(tmp_path)
    plain = toplabel.load(**options)
    assert len(plain.labels) == 2
    found = toplabel.calibrate(plain, prior=[0.01, 0.99], trained_prior="balanced")
    path = tmp_path / "prior.toplabel"
    found.save(path)
    (photo,) = draw_colours(tmp_path / "photos", 1)
    before, after = plain(photo, top_k=2), toplabel.load(path)(photo, top_k=2)
    odds = {one.label: one.score for one in before.top or ()}
    expected = odds["yes"] * 0.99 / (odds["yes"] * 0.99 + odds["no"] * 0.01)
    assert {one.label: one.score for one in after.top or ()}["yes"] == pytest.approx(expected)


def save_one_output(folder: Path) -> dict[str, str]:
    """A network with one logit: how red an image is."""
    import onnx
    from onnx import TensorProto, helper

    matrix = onnx.numpy_helper.from_array(np.array([[1.0], [-1.0], [-1.0]], np.float32), "matrix")
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "matrix"], ["logits"]),
    ]
    shapes = {"image": ["N", 3, 8, 8], "logits": ["N", 1]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    graph = helper.make_graph(nodes, "red", [values["image"]], [values["logits"]], [matrix])
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "red.onnx")
    (folder / "recipe.json").write_text(json.dumps(RECIPE.to_dict()))
    (folder / "labels.txt").write_text("no\nyes")
    return {
        "model": str(folder / "red.onnx"),
        "preprocess": str(folder / "recipe.json"),
        "labels": str(folder / "labels.txt"),
    }


def test_a_model_that_does_not_say_its_trained_prior_is_asked_for_it(bundle: Bundle) -> None:
    model = Predictor(Classifier.of_bundle(bundle))
    with pytest.raises(
        UsageError, match=r"does not say how often it saw .* trained_prior='FOLDER'"
    ):
        toplabel.calibrate(model, prior="balanced")
    with pytest.raises(UsageError, match="neither labelled images nor a prior"):
        toplabel.calibrate(model)
    with pytest.raises(UsageError, match="a precision, but no labelled images"):
        toplabel.calibrate(model, prior="balanced", precision=0.9)
    multi = replace(bundle, activation="sigmoid", multi_label=True)
    with pytest.raises(ModelError, match="is a multi-label model"):
        toplabel.calibrate(Predictor(Classifier.of_bundle(multi)), prior="balanced")


def test_a_threshold_chosen_with_another_prior_is_left_out(bundle: Bundle) -> None:
    known = Calibration(temperature=2.0, threshold=0.7, wished=0.9, trained_prior=SEEN)
    model = Predictor(Classifier.of_bundle(replace(bundle, calibration=known)))
    found = toplabel.calibrate(model, prior=WANTED)
    assert found.calibration.temperature == 2.0
    assert found.calibration.threshold is None
    assert "threshold was chosen for a precision of 0.9 with another class prior" in found.notes[0]


def test_a_temperature_is_fitted_to_what_the_prior_makes_of_the_logits() -> None:
    from toplabel.analysis.temperature import fit_temperature

    chance = np.random.default_rng(0)
    logits = chance.normal(size=(4000, 3)) * 3
    shift = np.log(np.array(WANTED) / np.array(SEEN))
    scores = np.exp(logits / 2 + shift)
    scores /= scores.sum(axis=1, keepdims=True)
    truth = (scores.cumsum(axis=1) < chance.random((4000, 1))).sum(axis=1)
    found = fit_temperature(logits.astype(np.float32), truth, shift=shift)
    assert found == pytest.approx(2, rel=0.1)


def test_other_preprocessing_keeps_the_prior_and_drops_the_temperature(
    bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "prior.toplabel"
    pack(with_prior(bundle, temperature=3.0), path)
    with pytest.warns(toplabel.ToplabelWarning, match="without its calibration"):
        model = toplabel.load(path, preprocess=RECIPE)
    assert model.classifier.calibration == replace(with_prior(bundle).calibration, temperature=1.0)
    assert model.classifier.temperature == 1.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("balanced", [1, 1, 1]),
        ("cat=0.9,dog=0.06,tench, Tinca tinca=0.04", [0.9, 0.06, 0.04]),
        (" cat = 90, dog = 6, tench, Tinca tinca = 4 ", [0.9, 0.06, 0.04]),
        ("CAT=0.33,dog=0.33,2=0.33", [1, 1, 1]),
        ({"dog": 5, "cat": 5, 2: 90}, [5, 5, 90]),
        (np.array([0.2, 0.3, 0.5]), [2, 3, 5]),
        ([1, 1, 1], [1, 1, 1]),
    ],
    ids=str,
)
def test_a_prior_is_stated_in_many_ways(given: object, expected: list[float]) -> None:
    found = read_prior(given, PETS)
    np.testing.assert_allclose(found, np.array(expected) / np.sum(expected), rtol=1e-9)


def test_a_folder_of_classes_is_counted(tmp_path: Path) -> None:
    for name, count in (("cat", 1), ("dog", 3), ("tench, Tinca tinca", 4)):
        draw_colours(tmp_path / name, count)
    assert read_prior(tmp_path, PETS) == (0.125, 0.375, 0.5)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("cta=0.5,dog=0.2,2=0.3", LabelsError, "did you mean 'cat'"),
        ("cat=0.5,dog=0.5", UsageError, "says nothing of 'tench, Tinca tinca'"),
        ("cat=0.5,dog=0.5,2=0.5", UsageError, "sum to 1.5; expected 1, or whole numbers"),
        ("cat=0.5,dog=0.7,2=-0.2", UsageError, "got -0.2 for a class"),
        ("cat=1,dog=0,2=3", UsageError, "got 0 for a class"),
        ("cat=nan,dog=0.5,2=0.5", UsageError, "got nan for a class"),
        ("cat=0.5,cat=0.2,2=0.3", UsageError, "states 'cat' twice"),
        ("cat=0.5,0=0.2,2=0.3", LabelsError, "both match"),
        ("cat=many,dog=1,2=1", UsageError, "got 'many' for 'cat'"),
        ("balancd", UsageError, "got prior 'balancd'; expected 'balanced'"),
        ("", UsageError, "expected 'balanced'"),
        ("cat=0.5,dog", UsageError, "got prior 'cat=0.5,dog'"),
        ([0.5, 0.5], UsageError, "got 2 numbers in prior; the model has 3 classes"),
        (0.5, UsageError, "expected 'balanced'"),
        ({"cat": "much", "dog": 1, 2: 1}, UsageError, "expected numbers"),
    ],
    ids=str,
)
def test_a_prior_that_is_none_is_one_clear_line(
    given: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        read_prior(given, PETS)
    assert "\n" not in str(caught.value)


def test_a_model_without_class_names_takes_a_prior_by_index_alone() -> None:
    assert read_prior("1=3,0=1", Labels.indices(2)) == (0.25, 0.75)
    with pytest.raises(UsageError, match="state prior by index"):
        read_prior("cat=3,dog=1", Labels.indices(2))


@pytest.mark.parametrize(
    "fields",
    [
        {"prior": [0.5, 0.3, 0.2]},  # of what it was trained with nothing is said
        {"trained_prior": [0.5, 0.5]},
        {"trained_prior": [0.5, 0.3, 0.3]},
        {"trained_prior": [1.0, 0.0, 0.0]},
        {"trained_prior": ["0.5", 0.3, 0.2]},
        {"trained_prior": 1.0},
    ],
    ids=str,
)
def test_a_damaged_prior_is_a_damaged_bundle(bundle: Bundle, fields: dict[str, object]) -> None:
    manifest = {**bundle.to_manifest(), "calibration": {"temperature": 1.0, **fields}}
    with pytest.raises(BundleError, match="damaged"):
        Bundle.from_manifest(manifest, bundle.program)


def test_an_older_toplabel_is_told_to_be_upgraded_and_no_others_are(
    bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "one.toplabel"
    pack(replace(bundle, calibration=Calibration(temperature=2.0)), path)
    assert describe_packed(path)["format"] == 1  # as before, to the byte
    assert "prior" not in str(describe_packed(path)["calibration"])
    pack(with_prior(bundle), path)
    assert describe_packed(path)["format"] == 2
    assert bundle.to_manifest()["schema"] < with_prior(bundle).to_manifest()["schema"] == 3
