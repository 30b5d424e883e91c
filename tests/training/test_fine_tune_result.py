"""`toplabel.train(..., fine_tune=True)`: the network that comes of it, as bundle and as weights."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import toplabel
from own_networks import ColourNet
from toplabel.bundle.bundle import Bundle
from toplabel.errors import EngineError, MissingDependency, ModelError, UsageError
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.preprocess.preprocess import Preprocess
from toplabel.training.fine_tune import _Training
from toplabel.training.fine_tune_result import save_network
from toplabel.training.result import TrainingResult, check_weights_target, weights_path

pytestmark = pytest.mark.torch

NETWORKS = Path(__file__).parents[1] / "own_networks.py"
PREPROCESS = Preprocess(input_size=(16, 16), resize_mode="none", mean=(0.5,) * 3, std=(0.25,) * 3)
CLASSES = ("blue", "green", "red")
TUNED = {"fine_tune": True, "epochs": 2, "learning_rate": 0.01, "device": "cpu"}


def draw(folder: Path, *, images: int = 24, seed: int = 0, rare: int | None = None) -> Path:
    """Noise with a faint square of a colour; of the last class `rare` images."""
    numbers = np.random.default_rng(seed)
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(rare if rare and index == 2 else images):
            pixels = numbers.integers(60, 190, (16, 16, 3))
            pixels[4:12, 4:12, 2 - index] += 50
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / name / f"{number:02}.png")
    return folder


def network(seed: int = 0) -> ColourNet:
    torch.manual_seed(seed)
    return ColourNet().eval()


def wrapped() -> toplabel.Predictor:
    return toplabel.wrap(network(), preprocess=PREPROCESS, labels=list("abcde"), name="colours")


@pytest.fixture(scope="module", autouse=True)
def _last_epoch() -> Iterator[None]:
    """The last epoch is taken for the best: what two of a few photos make is a matter of luck."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Training, "_choose", lambda self, among=0: len(self._qualities) - 1)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("photos") / "squares")


@pytest.fixture(scope="module")
def result(photos: Path) -> TrainingResult:
    return toplabel.train(photos, model=wrapped(), **TUNED)


def test_all_of_the_network_is_trained_and_held_out_images_measure_it(
    result: TrainingResult,
) -> None:
    facts = result.fine_tuning
    assert facts is not None
    assert facts.kept
    assert 1 <= facts.epoch <= facts.epochs <= 2
    assert (facts.learned + facts.held_out, facts.device) == (72, "cpu")
    assert len(result.sources) == len(result.targets) == len(result.scores) == facts.held_out
    assert [one.name for one in result.classes] == list(CLASSES)
    assert sum(one.images for one in result.classes) == facts.held_out
    assert result.accuracy == pytest.approx((result.predicted == result.targets).mean())
    assert result.low < result.accuracy < result.high or result.accuracy == 1
    assert "all of the network was trained on" in str(facts)
    assert result.to_dict()["fine_tuning"]["epoch"] == facts.epoch


def test_its_bundle_gives_what_the_network_gives(result: TrainingResult, photos: Path) -> None:
    predictor, path = result.predictor, sorted(photos.glob("*/*.png"))[5]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    tensor = torch.from_numpy(PREPROCESS(pixels))[None]
    with torch.no_grad():
        logits = result.network(tensor)[0] / result.calibration.temperature
    prediction = predictor(path, top_k=3)
    scores = {one.label: one.score for one in prediction.top}
    expected = dict(zip(CLASSES, logits.softmax(0).tolist(), strict=True))
    assert scores == pytest.approx(expected, abs=1e-4)
    assert tuple(predictor.labels) == CLASSES
    assert result.name.startswith("squares@")


def test_its_bundle_says_how_it_was_trained(result: TrainingResult) -> None:
    facts = result.bundle.training
    assert facts["method"].startswith("all of the network")
    assert facts["images"] == 72
    assert facts["classes"] == dict.fromkeys(CLASSES, 24)
    assert facts["held_out"] == result.fine_tuning.held_out
    assert facts["accuracy"] == round(result.accuracy, 4)
    assert facts["base"].startswith("colours@")
    manifest = result.bundle.to_manifest()
    assert Bundle.from_manifest(manifest, result.bundle.program).training == facts
    assert str(result.sources[0]) not in json.dumps(manifest)


def test_unknown_images_are_told_by_the_trained_networks_features(result: TrainingResult) -> None:
    detector = result.bundle.unknown
    assert detector is not None
    features = result.predictor.embed(list(result.sources))
    assert features.shape == (result.fine_tuning.held_out, 8)
    assert (detector.distance(features) <= detector.threshold).mean() >= 0.9
    white = np.full((16, 16, 3), 255, np.uint8)
    assert result.predictor(white).unknown is True


def test_bundle_and_weights_are_saved_and_label_alike(
    result: TrainingResult, photos: Path, tmp_path: Path
) -> None:
    result.save(tmp_path / "mine.toplabel")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors", "mine.toplabel"]
    bundle = toplabel.load(tmp_path / "mine.toplabel")
    weights = toplabel.load(tmp_path / "mine.safetensors", arch=f"{NETWORKS}:ColourNet")
    assert tuple(weights.labels) == CLASSES
    assert weights.preprocess == PREPROCESS
    for path in sorted(photos.glob("*/*.png"))[::7]:
        one, other = bundle(path, top_k=3), weights(path, top_k=3)
        assert [found.label for found in one.top] == [found.label for found in other.top]
        scores = [found.score for found in one.top]
        assert scores == pytest.approx([found.score for found in other.top], abs=1e-4)
    metadata = read_checkpoint_info(tmp_path / "mine.safetensors").metadata
    assert json.loads(metadata["class_names"]) == list(CLASSES)
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {
        (tmp_path / "mine.toplabel").stat().st_mode
    }
    result.save(tmp_path / "mine.toplabel")  # over its own


@pytest.mark.parametrize(
    ("base", "architecture"),
    [
        ("timm/tf_efficientnet_lite0.in1k@0f1e2d3c", "tf_efficientnet_lite0"),
        ("torchvision/resnet50:IMAGENET1K_V2@0f1e2d3c", "resnet50"),
        ("hf/google/vit-base-patch16-224@0f1e2d3c", None),
    ],
)
def test_weights_name_the_zoos_network_that_they_are_of(
    result: TrainingResult, tmp_path: Path, base: str, architecture: str | None
) -> None:
    """Two networks of timm may have the same tensors, and give different answers."""
    bundle = replace(result.bundle, training={**(result.bundle.training or {}), "base": base})
    save_network(replace(result, bundle=bundle), tmp_path / "mine.safetensors")
    metadata = read_checkpoint_info(tmp_path / "mine.safetensors").metadata
    assert metadata.get("architecture") == architecture


def test_the_prior_is_in_the_weights_as_in_the_bundle(tmp_path: Path) -> None:
    photos = draw(tmp_path / "few", rare=8)
    made = toplabel.train(photos, model=wrapped(), no_unknown=True, **TUNED)
    assert made.calibration.prior is not None  # balanced, of itself
    assert made.fine_tuning.kept
    made.save(tmp_path / "few.toplabel")
    bundle = toplabel.load(tmp_path / "few.toplabel")
    weights = toplabel.load(tmp_path / "few.safetensors", arch=f"{NETWORKS}:ColourNet")
    for path in sorted(photos.glob("*/*.png"))[::5]:
        one, other = bundle(path), weights(path)
        assert (one.label, one.score) == (other.label, pytest.approx(other.score, abs=1e-4))


def test_the_frozen_head_is_kept_where_training_made_nothing_better(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Training, "_choose", lambda self, among=0: 0)
        kept = toplabel.train(photos, model=wrapped(), **TUNED)
    plain = toplabel.train(photos, model=wrapped())
    assert not kept.fine_tuning.kept
    assert "the frozen head is kept: it predicts " in str(kept.fine_tuning)
    assert kept.network is None
    assert kept.bundle.program.key == plain.bundle.program.key
    assert kept.accuracy == plain.accuracy
    kept.save(tmp_path / "mine.toplabel")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toplabel"]


def test_weights_of_others_are_not_written_over(result: TrainingResult, tmp_path: Path) -> None:
    for text in (b"", b"another's", b'\x10\0\0\0\0\0\0\0{"a": 1}        '):
        (tmp_path / "mine.safetensors").write_bytes(text)
        with pytest.raises(UsageError, match=r"mine\.safetensors', beside the bundle: a file that"):
            result.save(tmp_path / "mine.toplabel")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
    check_weights_target(tmp_path / "other.toplabel")
    assert weights_path("a/b.toplabel") == Path("a/b.safetensors")
    assert weights_path("a/b.v2") == Path("a/b.v2.safetensors")


def test_what_has_no_network_is_refused_before_an_image_is_read(
    photos: Path, result: TrainingResult, tmp_path: Path
) -> None:
    missing = tmp_path / "photos.csv"
    rows = [f"{name}-{index}.png,{name}" for name in "ab" for index in range(3)]
    missing.write_text("\n".join(["path,label", *rows]))
    with pytest.raises(ModelError, match=r"is a compiled program, .*tf_efficientnet_lite0\.in1k"):
        toplabel.train(missing, fine_tune=True)
    result.save(tmp_path / "mine.toplabel")
    with pytest.raises(ModelError, match="is a compiled program"):
        toplabel.train(missing, model=tmp_path / "mine.toplabel", fine_tune=True)


def test_a_gpu_that_is_not_there_is_named(photos: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(EngineError, match="got device 'cuda'; available here: cpu"):
        toplabel.train(photos, model=wrapped(), fine_tune=True, device="cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3}, "got epochs=3, which is for fine_tune=True"),
        ({"fine_tune": True, "epochs": 0}, "got epochs=0; expected a number above 0"),
        ({"fine_tune": True, "epochs": 1.5}, r"got epochs=1\.5; expected a whole number"),
        ({"fine_tune": True, "learning_rate": float("nan")}, "got learning_rate=nan"),
        ({"fine_tune": True, "minutes": -1}, "got minutes=-1; expected a number above 0"),
        ({"fine_tune": True, "previous": "x.toplabel"}, "of which a network cannot learn"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    photos: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        toplabel.train(photos, **options)


def test_without_torch_it_says_how_to_install_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r"fine-tuning needs torch, .*toplabel\[torch\]"):
        toplabel.train(photos, fine_tune=True)


_KILLED = """
import os, signal, sys
import toplabel.training.fine_tune as module
sys.path[:0] = [{tests!r}, {here!r}]
from test_fine_tune_result import TUNED, wrapped
import toplabel
count, learn = 0, module._Training._learn
module.BATCH_SIZE = 8
import toplabel.training.fine_tune_progress as progress
progress._EVERY_SECONDS = progress._SHARE = 0
def killed_in_the_middle(self, *batch):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    learn(self, *batch)
module._Training._learn = killed_in_the_middle
module._Training._choose = lambda self, among=0: len(self._qualities) - 1
result = toplabel.train({photos!r}, model=wrapped(), no_unknown=True, **TUNED)
result.save({output!r})
"""


@pytest.mark.slow
def test_after_a_kill_the_same_start_ends_as_if_nothing_had_happened(
    photos: Path, tmp_path: Path, own_cache: Path
) -> None:
    def run(output: str, *, at: int) -> int:
        here = Path(__file__).parent
        script = _KILLED.format(
            tests=str(here.parent),
            here=str(here),
            photos=str(photos),
            at=at,
            output=str(tmp_path / output),
        )
        return subprocess.run([sys.executable, "-c", script], check=False).returncode

    assert run("straight.toplabel", at=0) == 0
    assert run("killed.toplabel", at=8) == -signal.SIGKILL
    assert [path.suffix for path in (own_cache / "training").iterdir()] == [".pt"]
    assert run("killed.toplabel", at=0) == 0
    straight, killed = (tmp_path / f"{name}.safetensors" for name in ("straight", "killed"))
    one, other = load_file(straight), load_file(killed)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert not list((own_cache / "training").iterdir())


@pytest.mark.slow
def test_the_command_trains_a_checkpoints_network_and_says_what_came_of_it(
    photos: Path, tmp_path: Path
) -> None:
    torch.save(network().state_dict(), tmp_path / "colours.pth")
    (tmp_path / "colours.json").write_text(PREPROCESS.to_json())
    given = ["-m", "colours.pth", "--arch", f"{NETWORKS}:ColourNet", "--preprocess", "colours.json"]
    command = [sys.executable, "-m", "toplabel", "train", str(photos), "-o", "mine.toplabel"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *given, "--fine-tune", *more], cwd=tmp_path, capture_output=True, text=True
        )

    done = run("--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^(the frozen head is kept|all of the network was trained)", done.stdout, re.M
    )
    assert re.search(r"fine-tuning on (cpu|cuda\S*): \d+ photos to learn from", done.stderr)
    assert "epoch 1 of 1: " in done.stderr
    (tmp_path / "mine.safetensors").write_bytes(b"another's")
    refused = run("--epochs", "1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        "mine.safetensors', beside the bundle: a file that is not of a training" in refused.stderr
    )
