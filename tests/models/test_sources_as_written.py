"""Networks as people write them: own eval() and train(), forward with habits, exported programs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

import toplabel  # noqa: E402
from toplabel._internal.notices import collect_warnings  # noqa: E402
from toplabel.errors import ToplabelWarning  # noqa: E402

PREPROCESS = toplabel.Preprocess(
    input_size=(16, 16), resize_mode="squash", resize_size=(16, 16), mean=[0.5] * 3, std=[0.5] * 3
)
IMAGES = [np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8) for seed in range(5)]
BATCH = torch.stack([torch.from_numpy(i).permute(2, 0, 1).float() / 255 * 2 - 1 for i in IMAGES])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 4)
        self.aux = nn.Linear(8, 4)
        self.deployed = False

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x)).mean((2, 3)) * 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.features(x)
        return self.fc(f) if self.deployed else self.aux(f)


def scores(network: nn.Module, batch: torch.Tensor = BATCH) -> np.ndarray:
    with torch.enable_grad():
        outputs = torch.cat([network(one[None].clone()).detach() for one in batch])
    return outputs.softmax(1).numpy()


def asked(network: object, **options: object) -> np.ndarray:
    options = {"engine": "torch", "preprocess": PREPROCESS, "labels": list("abcd"), **options}
    model = toplabel.wrap(network, **options)  # type: ignore[arg-type]
    found = model(IMAGES, top_k=4)
    return np.array([[c.score for c in sorted(p.top, key=lambda c: c.index)] for p in found])


class EvalReturnsNone(Net):
    def eval(self) -> None:  # type: ignore[override]
        super().eval()
        self.deployed = True


class EvalOfAPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = EvalReturnsNone()

    def eval(self) -> nn.Module:
        super().eval()
        self.part.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x)


class EvalReplaces(EvalReturnsNone):
    def eval(self) -> None:  # type: ignore[override]
        super().eval()
        self.aux = nn.Sequential(nn.Identity(), nn.Dropout())


class TrainSwitches(Net):
    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.deployed = not mode
        return self


@pytest.mark.parametrize("kind", [EvalReturnsNone, EvalOfAPart, EvalReplaces, TrainSwitches])
def test_an_own_eval_is_called_as_its_user_would(kind: Callable[[], nn.Module]) -> None:
    deployed = Net()
    deployed.deployed = True
    with collect_warnings() as texts:
        assert asked(kind()) == pytest.approx(scores(deployed), abs=1e-5)
    assert texts == []


class EvalNeedsArgument(Net):
    def eval(self, mode: str) -> None:  # type: ignore[override]
        nn.Module.eval(self)
        self.deployed = mode == "test"


def test_an_eval_that_needs_arguments_is_said_and_its_state_is_kept() -> None:
    network = EvalNeedsArgument()
    network.eval("test")
    with pytest.warns(ToplabelWarning, match=r"EvalNeedsArgument\.eval\(\) needs mode"):
        found = asked(network)
    deployed = Net()
    deployed.deployed = True
    assert found == pytest.approx(scores(deployed), abs=1e-5)


def test_an_own_eval_of_a_part_that_nobody_calls_is_said() -> None:
    with pytest.warns(ToplabelWarning, match=r"0 in the network has its own eval\(\)"):
        found = asked(nn.Sequential(EvalReturnsNone()))
    assert found == pytest.approx(scores(Net()), abs=1e-5)


def test_an_eval_that_measures_is_not_called() -> None:
    class Measures(Net):
        def eval(self, loader: object = None) -> float:  # type: ignore[override]
            raise AssertionError("was called")

    with collect_warnings() as texts:
        assert asked(Measures()) == pytest.approx(scores(Net()), abs=1e-5)
    assert texts == []


class TrainsInALoop(Net):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def train(self, loader: object, epochs: int = 1) -> None:  # type: ignore[override]
        raise AssertionError("was called")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.drop(x))


class TrainTakesNothing(TrainsInALoop):
    def train(self) -> None:  # type: ignore[override]
        raise AssertionError("was called")


class TrainIsAFlag(Net):
    def __init__(self) -> None:
        super().__init__()
        self.__dict__["train"] = False


class TrainIsAProperty(Net):
    @property
    def train(self) -> bool:  # type: ignore[override]
        return self.training


class EvalIsAFlag(Net):
    def __init__(self) -> None:
        super().__init__()
        self.__dict__["eval"] = True


@pytest.mark.parametrize(
    "kind", [TrainsInALoop, TrainTakesNothing, TrainIsAFlag, TrainIsAProperty, EvalIsAFlag]
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_is_called_train_or_eval_and_is_none_is_left_alone(
    kind: Callable[[], nn.Module], inside: bool
) -> None:
    network = kind()
    before = vars(network).get("train")
    assert asked(nn.Sequential(network) if inside else network) == pytest.approx(
        scores(Net()), abs=1e-5
    )
    assert vars(network).get("train") is before


class ChangesItsInput(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x[:, 0] = x[:, 0] * 0.229 + 0.485
        return super().forward(x.clamp_(-0.4, 0.4))


class AsksForGradients(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            f = self.features(x).detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.aux(f).max(1).values.sum(), f)
        return self.aux(f.detach() * (1 + torch.tanh(slope)))


class CountsOnGradients(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        super().forward(x).max(1).values.sum().backward()
        assert x.grad is not None
        return super().forward(x + 0.1 * x.grad.sign())


@pytest.mark.parametrize("kind", [ChangesItsInput, AsksForGradients, CountsOnGradients])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_forward_with_habits_answers_as_its_user_sees_it(
    kind: Callable[[], nn.Module], batch_size: int
) -> None:
    network = kind()
    expected = scores(network)
    with collect_warnings() as texts:
        found = asked(network, batch_size=batch_size, threads=1)
    assert found == pytest.approx(expected, abs=1e-5)
    assert texts == []


def exported(images: int | None) -> torch.export.ExportedProgram:
    dimension = None if images else ({0: torch.export.Dim("n")},)
    return torch.export.export(Net().eval(), (BATCH[: images or 2],), dynamic_shapes=dimension)


@pytest.mark.parametrize("images", [None, 1, 3])
def test_exported_programs_answer_whatever_number_of_images_they_were_made_for(
    images: int | None,
) -> None:
    program = exported(images)
    expected = pytest.approx(scores(Net()), abs=1e-5)
    assert asked(program) == expected
    assert asked(program.module()) == expected


@pytest.mark.slow
def test_an_exported_program_is_a_file_and_a_bundle_too(tmp_path: Path) -> None:
    expected = pytest.approx(scores(Net()), abs=1e-4)
    torch.export.save(exported(None), tmp_path / "net.pt2")
    (tmp_path / "net.pt2").rename(tmp_path / "model.pth")
    options = {"preprocess": PREPROCESS, "labels": list("abcd")}
    model = toplabel.load(tmp_path / "model.pth", trust=True, **options)
    model.save(tmp_path / "net.toplabel")
    for one in (model, toplabel.load(tmp_path / "net.toplabel")):
        found = [sorted(p.top, key=lambda c: c.index) for p in one(IMAGES, top_k=4)]
        assert np.array([[c.score for c in top] for top in found]) == expected


class SetsTheDefaultDtype(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.set_default_dtype(torch.float64)
        return super().forward(x) + torch.zeros(1)


def test_the_default_dtype_is_as_before_after_each_image() -> None:
    found = asked(SetsTheDefaultDtype())
    assert torch.get_default_dtype() == torch.float32
    assert found == pytest.approx(scores(Net()), abs=1e-5)


def test_an_eval_that_returns_another_network_is_said() -> None:
    class Returns(Net):
        def eval(self) -> nn.Module:
            super().eval()
            return EvalReturnsNone()

    with pytest.warns(ToplabelWarning, match=r"Returns\.eval\(\) returns another network"):
        assert asked(Returns()) == pytest.approx(scores(Net()), abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_that_was_traced_for_four_images_answers_for_any_number() -> None:
    class Views(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).view(len(x), 2, 2).flatten(1)

    traced = torch.jit.trace(Views().eval(), BATCH[:4])
    assert asked(traced) == pytest.approx(scores(Net()), abs=1e-5)
