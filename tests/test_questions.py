"""What people ask first, in their words: what is the predicted label, according to my classifier?

Each answer is compared with the textbook's lines: open, transform, stack, eval, argmax.
"""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import toplabel  # noqa: E402
from toplabel.models.zoo_import import import_torchvision  # noqa: E402

import_torchvision()
from torchvision import models, transforms  # noqa: E402

EXAMPLES = Path(__file__).parents[1] / "examples"
THREE = [str(EXAMPLES / name) for name in ("cat.jpg", "coffee.jpg", "rocket.jpg")]

val_transform = transforms.Compose(
    [
        transforms.Resize(40),
        transforms.CenterCrop(32),
        transforms.ToTensor(),
        transforms.Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25]),
    ]
)
names = ["apple", "banjo", "cedar", "dune", "egg"]


class MyCNN(nn.Module):
    """As tutorials have it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * 8 * 8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.fc(x.flatten(1))


def batch(transform: Any) -> torch.Tensor:
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in THREE])


def textbook(network: nn.Module, transform: Any, labels: list[str]) -> list[str]:
    with torch.no_grad():
        return [labels[i] for i in network.eval()(batch(transform)).argmax(1)]


def settled(network: nn.Module, transform: Any) -> nn.Module:
    """Random weights whose answers differ from photo to photo."""
    with torch.no_grad():
        network.fc.bias -= network.eval()(batch(transform)).mean(0)
    return network


@pytest.fixture
def my_cnn() -> nn.Module:
    torch.manual_seed(0)
    return settled(MyCNN(len(names)), val_transform)


@pytest.fixture
def model_pth(my_cnn: nn.Module, tmp_path: Path) -> Path:
    torch.save(my_cnn.state_dict(), tmp_path / "model.pth")
    return tmp_path / "model.pth"


def test_what_is_the_label_of_an_image_by_a_resnet18_from_torchvision_with_its_names(
    tmp_path: Path,
) -> None:
    weights = models.ResNet18_Weights.DEFAULT
    torch.manual_seed(0)
    resnet = settled(models.resnet18(), weights.transforms())
    expected = textbook(resnet, weights.transforms(), weights.meta["categories"])
    assert len(set(expected)) > 1
    model = toplabel.wrap(
        resnet, labels=weights.meta["categories"], preprocess=weights.transforms()
    )
    assert str(model(THREE[0])) == expected[0]
    assert [p.label for p in model(THREE)] == expected
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    model = toplabel.load(
        tmp_path / "resnet18.pth",
        arch="resnet18",
        labels="imagenet",
        preprocess="imagenet-crop-256-224",
        engine="torch",
    )
    assert [p.index for p in model(THREE)] == [
        weights.meta["categories"].index(name) for name in expected
    ]


def test_what_is_the_label_by_my_cnn_and_its_pth(my_cnn: nn.Module, model_pth: Path) -> None:
    expected = textbook(my_cnn, val_transform, names)
    assert len(set(expected)) > 1
    model = toplabel.load(model_pth, arch=MyCNN, labels=names, preprocess=val_transform)
    assert [str(model(path)) for path in THREE] == expected
    assert model(THREE[0]).warnings == ()


def test_what_are_the_labels_of_three_images_in_a_list(my_cnn: nn.Module, model_pth: Path) -> None:
    expected = textbook(my_cnn, val_transform, names)
    model = toplabel.load(model_pth, arch=MyCNN, labels=names, preprocess=val_transform)
    images = [Image.open(path) for path in THREE]
    for three in (THREE, [Path(path) for path in THREE], images, tuple(THREE)):
        assert [prediction.label for prediction in model(three)] == expected


def test_what_are_the_labels_of_a_batch_that_my_data_loader_gives(my_cnn: nn.Module) -> None:
    expected = textbook(my_cnn, val_transform, names)
    loader = DataLoader(TensorDataset(batch(val_transform), torch.zeros(3)), batch_size=2)
    model = toplabel.wrap(my_cnn, labels=names, preprocess=val_transform)
    assert [p.label for pair in loader for p in model.predict_tensor(pair)] == expected


def test_my_transform_is_a_function(my_cnn: nn.Module, model_pth: Path) -> None:
    def preprocess(image: Image.Image) -> torch.Tensor:
        return val_transform(image)

    with pytest.warns(toplabel.ToplabelWarning, match="preprocess runs as it is"):
        model = toplabel.load(model_pth, arch=MyCNN, labels=names, preprocess=preprocess)
    assert [p.label for p in model(THREE)] == textbook(my_cnn, val_transform, names)
