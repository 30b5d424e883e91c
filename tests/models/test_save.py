"""Predictor.save: a live network or the embedded model becomes one file, and comes back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import toplabel
from toplabel.bundle.bundle import built_in_bundle
from toplabel.bundle.file import describe_packed
from toplabel.errors import ModelError, UsageError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOS = [EXAMPLES / "cat.jpg", EXAMPLES / "coffee.jpg", EXAMPLES / "rocket.jpg"]
LABELS = ["ant", "bee", "cow", "dog"]
RECIPE = toplabel.Preprocess(
    input_size=(32, 32), resize_mode="squash", resize_size=(40, 40), mean=(0.5,) * 3, std=(0.5,) * 3
)

WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = None
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines.onnxruntime import OnnxRuntimeEngine
from toplabel.bundle.reference import ReferenceOutputs
from toplabel.bundle.file import open_packed
from toplabel.inference.predictor import Predictor

bundle = open_packed(sys.argv[1])
model = Predictor(Classifier.of_bundle(bundle), threads=1)
reference = ReferenceOutputs.load(bundle.program.reference_path)
print(json.dumps({
    "name": model.name,
    "top": [[(top.label, top.score) for top in one.top] for one in model(sys.argv[2:])],
    "logits": OnnxRuntimeEngine(bundle.program)(reference.inputs()).tolist(),
    "inputs": reference.inputs().tolist(),
    "program": str(bundle.program.path),
}))
"""


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


class SmallCNN(nn.Module):
    """A network as users write them: convolutions, batch norm, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(32, len(LABELS))
        nn.init.normal_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).flatten(1))


def open_elsewhere(path: Path) -> dict[str, object]:
    """What a process without torch makes of the file, in the cache that the environment names."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(path), *map(str, PHOTOS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def module() -> nn.Module:
    return SmallCNN().eval()


@pytest.fixture
def saved(module: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "cats.toplabel"
    toplabel.wrap(module, preprocess=RECIPE, labels=LABELS).save(path)
    return path


def test_a_saved_network_gives_the_same_answers_without_torch_and_in_another_cache(
    module: nn.Module, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toplabel.wrap(module, preprocess=RECIPE, labels=LABELS)
    model.compile()
    expected = [[(top.label, top.score) for top in one.top] for one in model(PHOTOS)]
    here = open_elsewhere(saved)
    moved = saved.rename(tmp_path / "other-name")
    monkeypatch.setenv("TOPLABEL_CACHE", str(tmp_path / "another cache"))
    elsewhere = [open_elsewhere(moved), open_elsewhere(moved)]
    monkeypatch.setenv("TOPLABEL_CACHE", "/proc/no-such-place")
    for found in (here, *elsewhere, open_elsewhere(moved)):
        assert found["name"] == model.name
        for got, wanted in zip(found["top"], expected, strict=True):
            assert [label for label, _ in got] == [label for label, _ in wanted]
            assert [s for _, s in got] == pytest.approx([s for _, s in wanted], abs=1e-5)
        with torch.no_grad():
            eager = module(torch.tensor(found["inputs"])).numpy()
        np.testing.assert_allclose(found["logits"], eager, atol=1e-4)
    assert str(elsewhere[0]["program"]).startswith(str(tmp_path / "another cache"))


def test_saving_compiles_a_new_network_and_says_what_is_in_the_file(saved: Path) -> None:
    found = describe_packed(saved)
    assert found["labels"] == LABELS
    assert found["preprocess"] == RECIPE.to_dict()
    assert found["provenance"]["source"] == "module"
    assert found["licence"] == "not stated"
    assert found["agreement"]["max_difference"] <= found["agreement"]["tolerance"]
    assert found["verified"] is True


def test_what_was_assumed_goes_along_until_it_is_given(module: nn.Module, tmp_path: Path) -> None:
    torch.save(module.state_dict(), tmp_path / "best.pth")
    with pytest.warns(toplabel.ToplabelWarning, match="no class names"):
        model = toplabel.load(tmp_path / "best.pth", arch=SmallCNN, preprocess=RECIPE)
    model.save(tmp_path / "cats.toplabel")
    with pytest.warns(toplabel.ToplabelWarning, match="no class names"):
        packed = toplabel.load(tmp_path / "cats.toplabel")
    assert packed(PHOTOS[0]).warnings == model.warnings != ()
    assert "doubts_about" not in describe_packed(tmp_path / "cats.toplabel")["provenance"]
    named = toplabel.load(tmp_path / "cats.toplabel", labels=LABELS)
    assert named(PHOTOS[0]).warnings == ()


def test_saving_twice_gives_the_same_bytes(module: nn.Module, saved: Path, tmp_path: Path) -> None:
    model = toplabel.wrap(module, preprocess=RECIPE, labels=LABELS)
    model(PHOTOS[0])
    model.save(tmp_path / "again")
    model.save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_network_that_stays_in_pytorch_is_refused_with_the_reason(tmp_path: Path) -> None:
    module = SmallCNN()
    with torch.no_grad():
        module.head.weight.mul_(1e-6)  # an answer that no input changes cannot be checked
    for _ in range(2):  # found out; then known
        model = toplabel.wrap(module, preprocess=RECIPE, labels=LABELS)
        before = model(PHOTOS[0])
        for _ in range(2):
            with pytest.raises(ModelError, match="cannot be saved.*only in PyTorch: its outputs"):
                model.save(tmp_path / "cats.toplabel")
        assert model(PHOTOS[0]).top == before.top
    assert not (tmp_path / "cats.toplabel").exists()


def test_a_network_loaded_for_pytorch_says_how_to_save_it(
    module: nn.Module, tmp_path: Path
) -> None:
    model = toplabel.wrap(module, preprocess=RECIPE, labels=LABELS, engine="torch")
    with pytest.raises(ModelError, match="that needs PyTorch; load it without"):
        model.save(tmp_path / "cats.toplabel")


def test_the_embedded_model_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "embedded.toplabel"
    with toplabel.load() as model:
        model.save(path)
        expected = [[(top.label, top.score) for top in one.top] for one in model(PHOTOS)]
    found = open_elsewhere(path)
    assert found["top"] == [[list(pair) for pair in one] for one in expected]
    description = describe_packed(path)
    assert description["licence"] == "Apache-2.0"
    assert description["name"] == built_in_bundle().name


def test_a_folder_is_no_place_to_save_to(tmp_path: Path) -> None:
    with toplabel.load() as model, pytest.raises(UsageError, match="exists and is not a file"):
        model.save(tmp_path)
