"""What a newcomer has: the files that README and the documents speak of, made once."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from PIL import Image

import toplabel
from toplabel.models.zoo_import import import_torchvision

EXAMPLES = Path(__file__).parents[1] / "examples"
NETS = """
from torch import nn
from torchvision import transforms

val_transform = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])

class MyCNN(nn.Module):
    def __init__(self, num_classes=2):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4))
        self.head = nn.Linear(128, num_classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))
"""
TRAIN = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
import torchvision.transforms as transforms

transform_train = transforms.Compose(
    [transforms.RandomHorizontalFlip(),
     transforms.ToTensor(),
     transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])

transform_test = transforms.Compose(
    [transforms.ToTensor(),
     transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
trainset = torchvision.datasets.CIFAR10(root="./data", train=True, download=True,
                                        transform=transform_train)
testset = torchvision.datasets.CIFAR10(root="./data", train=False, download=True,
                                       transform=transform_test)
testloader = torch.utils.data.DataLoader(testset, batch_size=4)
classes = ("plane", "car", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc1(torch.flatten(x, 1))


net = Net()
torch.save(net.state_dict(), "cifar_net.pth")
with torch.no_grad():
    for images, labels in testloader:
        predicted = net(images).argmax(1)
        print(classes[predicted[0]])
"""
COLOURS = {"red": 0, "green": 1, "blue": 2}


def make(folder: Path) -> Path:
    """Photos, folders of classes, checkpoints with their code, bundles, archives and lists."""
    import_torchvision()  # so that `nets.py` can, too
    for photo in EXAMPLES.glob("*.jpg"):
        shutil.copy(photo, folder)
    shutil.copy(folder / "rocket.jpg", folder / "dog.jpg")
    (folder / "bad.jpg").write_bytes((folder / "cat.jpg").read_bytes()[:2000])
    (folder / "notes.txt").write_text("no image")
    (folder / "classes.txt").write_text("cat\ndog\n")
    rng = np.random.default_rng(0)
    draw(folder / "photos", ("red", "blue"), 6, rng)
    draw(folder / "val", ("red", "blue"), 12, rng)
    draw(folder / "held-out", ("red", "blue"), 20, rng)
    draw(folder / "many", ("red", "blue"), 8, rng)
    draw(folder / "more", ("green",), 4, rng)
    draw(folder / "few", ("cat", "dog"), 8, rng, colours=("red", "blue"))
    _write_lists(folder)
    _write_networks(folder)
    result = toplabel.train(folder / "photos")
    for name in ("mine", "a"):
        result.save(folder / f"{name}.toplabel")
    toplabel.train(folder / "photos", prior={"red": 0.9, "blue": 0.1}).save(folder / "b.toplabel")
    return folder


def draw(
    folder: Path,
    classes: tuple[str, ...],
    count: int,
    rng: np.random.Generator,
    colours: tuple[str, ...] = (),
) -> None:
    """Images of one colour in a sub-folder per class."""
    for name, colour in zip(classes, colours or classes, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
            pixels[..., COLOURS[colour]] += 140
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def _write_lists(folder: Path) -> None:
    (folder / "list.txt").write_text("cat.jpg\ncoffee.jpg\n")
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "0.tar", "w") as tar:
        tar.add(folder / "cat.jpg", "cats/1.jpg")
    rows = {"image": [(folder / "rocket.jpg").read_bytes()]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "data.parquet")


def _write_networks(folder: Path) -> None:
    """Two networks that say "cat"."""
    for script, network, checkpoint, cat in (
        (NETS, "MyCNN", "best.pth", 0),
        (
            TRAIN.partition("transform_train")[0] + TRAIN[TRAIN.index("class Net") :],
            "Net",
            "cifar_net.pth",
            3,
        ),
    ):
        names: dict = {}
        torch.manual_seed(0)
        exec(script.partition("\n\nnet = ")[0], names)
        net = names[network]()
        (net.head if network == "MyCNN" else net.fc1).bias.data[cat] = 5.0
        torch.save(net.state_dict(), folder / checkpoint)
    (folder / "nets.py").write_text(NETS)
    (folder / "train.py").write_text(TRAIN.lstrip())
