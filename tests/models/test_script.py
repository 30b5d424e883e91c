"""A checkpoint and the script that made it: what is found, and that nothing of it runs."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import sys
import textwrap
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional

import toplabel
from toplabel.errors import CheckpointError, ModelError, PreprocessError, ToplabelError, UsageError

CLASS = """
class Net(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(4 * 14 * 14, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.conv(x)))
        return self.fc(x.view(-1, 4 * 14 * 14))
"""

IMPORTS = """
import torch, torchvision
from torch import nn
import torch.nn.functional as F
from torchvision import datasets, transforms
from torch.utils.data import DataLoader
"""

TRAINING = """
transform = transforms.Compose([
    transforms.ToTensor(),
    transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
])
train_set = datasets.CIFAR10('./data', train=True, download=True, transform=transform)
test_set = datasets.CIFAR10('./data', train=False, download=True, transform=transform)
test_loader = DataLoader(test_set, batch_size=4)
classes = ('plane', 'car', 'ship')
net = Net(num_classes=3)
for epoch in range(2):
    for images, labels in DataLoader(train_set):
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
torch.save(net.state_dict(), 'cifar_net.pth')
open('written.txt', 'w').write('it ran')
for images, labels in test_loader:
    predicted = net(images).argmax(1)
    print(classes[predicted[0]])
"""


class Net(nn.Module):
    """As `CLASS` has it."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(4 * 14 * 14, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.pool(functional.relu(self.conv(x)))
        return self.fc(x.view(-1, 4 * 14 * 14))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and its script; also the current one."""
    torch.manual_seed(3)
    torch.save(Net().state_dict(), tmp_path / "cifar_net.pth")
    write(tmp_path / "train.py", IMPORTS + CLASS + TRAINING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def photo(size: tuple[int, int] = (32, 32)) -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels)


def expected(image: Image.Image, state: dict[str, torch.Tensor]) -> int:
    net = Net()
    net.load_state_dict(state)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        return int(net.eval()((pixels - 0.5) / 0.25).argmax())


def load(path: str = "cifar_net.pth", **options: object) -> toplabel.Predictor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return toplabel.load(path, **options)  # type: ignore[arg-type]


def test_class_preprocessing_and_names_come_from_the_script(folder: Path) -> None:
    model = load(script="train.py")
    image = photo()
    state = torch.load("cifar_net.pth")
    assert model.labels.names == ("plane", "car", "ship")
    assert model(image).index == expected(image, state)
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert model.preprocess.input_size == (32, 32)


def test_what_was_found_is_said_with_its_lines(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="toplabel")
    load(script="train.py")
    said = next(text for text in caplog.messages if text.startswith("using class"))
    assert "Net (train.py:8)" in said
    assert "preprocessing transform (train.py:19: ToTensor, Normalize)" in said
    assert "32 x 32 (the size of CIFAR10)" in said
    assert "3 names (train.py:" in said


def test_nothing_of_the_script_runs_and_the_checkpoint_stays_as_it_is(folder: Path) -> None:
    before = hashlib.sha256(Path("cifar_net.pth").read_bytes()).hexdigest()
    load(script="train.py")(photo())
    assert hashlib.sha256(Path("cifar_net.pth").read_bytes()).hexdigest() == before
    assert not Path("written.txt").exists()
    assert not Path("data").exists()


def test_a_second_start_needs_no_torch_and_says_the_same(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", str(folder / "cache"))
    first = load(script="train.py")
    first.compile()
    caplog.set_level(logging.INFO, logger="toplabel")
    again = load(script="train.py")
    assert any(text.startswith("using class Net") for text in caplog.messages)
    assert again.labels == first.labels


def test_a_changed_script_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", str(folder / "cache"))
    load(script="train.py").compile()
    text = Path("train.py").read_text().replace("'plane', 'car', 'ship'", "'a', 'b', 'c'")
    write(Path("train.py"), text)
    assert load(script="train.py").labels.names == ("a", "b", "c")


def test_a_notebook_with_magics_is_read(folder: Path) -> None:
    cells = ["%matplotlib inline\n!pip install torch\n" + IMPORTS, CLASS, "x = 1 2", TRAINING]
    notebook = {
        "cells": [{"cell_type": "markdown", "source": ["# Train"]}]
        + [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    }
    Path("train.ipynb").write_text(json.dumps(notebook))
    model = load(script="train.ipynb")
    assert model.labels.names == ("plane", "car", "ship")


def test_the_python_of_a_markdown_file_is_read(folder: Path) -> None:
    write(
        Path("README.md"),
        f"# Net\nText.\n```python\n{IMPORTS}{CLASS}\n```\nThen\n```py\n{TRAINING}\n```\n",
    )
    assert load(script="README.md").labels.names == ("plane", "car", "ship")


def test_a_folder_is_searched_and_files_that_cannot_be_parsed_do_no_harm(folder: Path) -> None:
    write(Path("old.py"), "print 'Python 2'\n")
    write(Path("other.py"), IMPORTS + CLASS.replace("4 * 14 * 14", "4 * 9 * 9"))
    assert load(script=".").labels.names == ("plane", "car", "ship")


def test_what_can_be_parsed_of_a_script_is_read_and_the_rest_is_said(folder: Path) -> None:
    text = Path("train.py").read_text()
    write(Path("train.py"), text + "\nprint(classes[0)\n")
    with pytest.warns(toplabel.ToplabelWarning, match=r"read in part: train.py:\d+: it cannot be"):
        model = toplabel.load("cifar_net.pth", script="train.py")
    image = photo()
    assert model(image).index == expected(image, torch.load("cifar_net.pth"))


def test_a_class_in_a_file_beside_is_followed(folder: Path) -> None:
    write(Path("nets.py"), IMPORTS + CLASS)
    write(Path("train.py"), IMPORTS + "from nets import Net\n" + TRAINING)
    assert load(script="train.py").labels.names == ("plane", "car", "ship")


def test_what_the_user_states_wins(folder: Path) -> None:
    model = load(script="train.py", labels=["x", "y", "z"], preprocess="raw-1-32")
    assert model.labels.names == ("x", "y", "z")
    assert model.preprocess.std == (1.0, 1.0, 1.0)


def test_a_script_of_another_checkpoint_is_named_as_such(folder: Path) -> None:
    write(Path("train.py"), IMPORTS + CLASS.replace("Conv2d(3, 4, 5)", "Conv2d(3, 8, 5)"))
    with pytest.raises(CheckpointError, match="may belong to another checkpoint"):
        load(script="train.py")


def test_a_script_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the script 'absent.py'"):
        load(script="absent.py")


def test_two_classes_that_both_fit_are_listed(folder: Path) -> None:
    second = CLASS.replace("Net", "Other").replace("F.relu", "torch.tanh")
    write(Path("train.py"), IMPORTS + CLASS + second + TRAINING + "\nother = Other()\n")
    with pytest.raises(CheckpointError, match=r"fit 2 networks .*Net \(train.py:8\).*Other"):
        load(script="train.py")
    assert load(script="train.py", arch="Net").labels.names == ("plane", "car", "ship")


def test_transforms_that_contradict_one_another_are_shown(folder: Path) -> None:
    predict = """
    from PIL import Image

    def predict(path):
        image = transforms.ToTensor()(Image.open(path).resize((32, 32)))
        return net(image.unsqueeze(0))
    """
    text = Path("train.py").read_text() + textwrap.dedent(predict)
    write(Path("train.py"), text)
    with pytest.raises(PreprocessError, match=r"contradict one another: transform .*; predict"):
        load(script="train.py")
    assert load(script="train.py", preprocess="train.py:transform").preprocess.std == (0.25,) * 3
    assert load(script="train.py", preprocess="train.py:predict").preprocess.std == (1.0,) * 3


def test_augmentation_is_left_to_training(folder: Path) -> None:
    two = TRAINING.replace(
        "train_set = datasets",
        "augmented = transforms.Compose([transforms.RandomCrop(32, padding=4),"
        " transforms.ToTensor()])\ntrain_set = datasets",
    ).replace("train=True, download=True, transform=transform", "train=True, transform=augmented")
    write(Path("train.py"), IMPORTS + CLASS + two)
    assert load(script="train.py").preprocess.mean == (0.5, 0.5, 0.5)


def test_a_network_that_saves_in_its_constructor_is_stopped(folder: Path) -> None:
    hostile = CLASS.replace(
        "super().__init__()\n", "super().__init__()\n        torch.save(self, 'cifar_net.pth')\n"
    )
    write(Path("train.py"), IMPORTS + hostile + TRAINING)
    before = Path("cifar_net.pth").read_bytes()
    with pytest.raises(ToplabelError, match=r"torch.save at train.py:\d+ is not run"):
        load(script="train.py")
    assert Path("cifar_net.pth").read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["open('x', 'w')", "torch.os.remove('cifar_net.pth')", "__import__('os').remove('x')",
     "torch.serialization.os.system('touch x')", "torch.hub.load('a/b', 'c')",
     "nn.Module.__init__.__globals__['torch'].save(1, 'x')", "import os; os.mkdir('x')",
     "import pathlib; pathlib.Path('x').write_text('x')", "torch.save(1, 'x')",
     "getattr(torch, 'sa' + 've')({}, 'x')", "torch.os.mknod('x')",
     "from torch import os; os.mknod('x')",
     "torch.__dict__['os'].mknod('x')", "len.__self__.open('x', 'w')",
     "torch.from_file('x', shared=True, size=9)", "torch.jit.script(nn.ReLU()).save('x')",
     "torch.threading.Thread(target=torch.os.mknod, args=('x',)).start()",
     "import inspect; inspect.currentframe().f_back.f_builtins['open']('x', 'w')"],
)  # fmt: skip
def test_what_a_constructor_tries_beyond_itself_is_stopped(folder: Path, statement: str) -> None:
    hostile = CLASS.replace("super().__init__()\n", f"super().__init__()\n        {statement}\n")
    write(Path("train.py"), IMPORTS + hostile + TRAINING)
    before, names = Path("cifar_net.pth").read_bytes(), sorted(Path().iterdir())
    with suppress(ToplabelError):
        load(script="train.py")
    assert Path("cifar_net.pth").read_bytes() == before
    assert sorted(Path().iterdir()) == names


@pytest.mark.parametrize("face", ["script", "arch"])
@pytest.mark.parametrize(
    "statement",
    ["torch.zeros(1).numpy().dump('x')", "torch.os.system('touch x')",
     "getattr(torch.serialization.os, 'sys' + 'tem')('touch x')",
     "import pathlib; pathlib.Path('x').write_text('x')", "torch.sys.modules['os'].mknod('x')"],
)  # fmt: skip
def test_what_a_forward_tries_beyond_itself_is_stopped(
    folder: Path, statement: str, face: str
) -> None:
    hostile = CLASS.replace("forward(self, x):\n", f"forward(self, x):\n        {statement}\n")
    write(Path("train.py"), IMPORTS + hostile + TRAINING)
    names = sorted(Path().iterdir())
    with suppress(ToplabelError):
        if face == "script":
            load(script="train.py")
        else:
            load(arch="train.py:Net", labels=["a", "b", "c"], preprocess="train.py:transform")
    assert sorted(Path().iterdir()) == names


def test_a_constructor_changes_nothing_of_the_process(folder: Path) -> None:
    setting = "torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)"
    setting += "; import warnings; warnings.simplefilter('error')"
    setting += "; torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark"
    changing = CLASS.replace(
        "self.fc = ", f"self.fc = nn.Linear(4 * 14 * 14, num_classes); {setting}; unused = "
    )
    write(Path("train.py"), IMPORTS + changing + TRAINING)
    before = list(warnings.filters), torch.backends.cudnn.benchmark
    assert load(script="train.py").labels.names == ("plane", "car", "ship")
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert (list(warnings.filters), torch.backends.cudnn.benchmark) == before


@pytest.mark.parametrize("change", ["torch.relu = torch.neg", "setattr(F, 'relu', torch.neg)"])
def test_a_network_that_changes_a_library_is_refused(folder: Path, change: str) -> None:
    relu = functional.relu
    write(Path("train.py"), IMPORTS + CLASS.replace("x = self.pool", f"{change}; x = self.pool"))
    with pytest.raises(ToplabelError):
        load(script="train.py", labels=["a", "b", "c"], preprocess={"preset": "imagenet"})
    assert functional.relu is relu


@pytest.mark.parametrize(
    "bomb",
    ["q = 'a' * 20000; q = q * 20000; q = q * 20000", "q = 'a'.zfill(10 ** 11)",
     "q = '{:>99999999999}'.format(1)", "q = '%99999999999d' % 1", "q = math.factorial(10 ** 8)",
     "q = [1]; " + "q = [q, q]; " * 60 + "w = str(q)",
     "q = [a for a in range(19000) for b in range(19000) if a < 0]"],
)  # fmt: skip
def test_a_script_that_asks_for_terabytes_is_read_all_the_same(folder: Path, bomb: str) -> None:
    write(Path("train.py"), IMPORTS + "import math\n" + bomb + "\n" + CLASS + TRAINING)
    assert load(script="train.py").labels.names == ("plane", "car", "ship")


def test_names_that_only_libraries_may_not_have_are_ordinary_elsewhere(folder: Path) -> None:
    ordinary = CLASS.replace(
        "super().__init__()\n",
        "super().__init__()\n        parts = [1, 2]\n        parts.remove(1)\n"
        "        self.load = self.save = parts\n        self.load[0] = len(self.save)\n",
    )
    write(Path("train.py"), IMPORTS + ordinary + TRAINING)
    assert load(script="train.py").labels.names == ("plane", "car", "ship")


def test_pretrained_weights_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toplabel.models.zoo_import import import_torchvision

    monkeypatch.chdir(tmp_path)
    net = import_torchvision().models.squeezenet1_1(weights=None)
    net.classifier[1] = nn.Conv2d(512, 2, 1)
    torch.save(net.state_dict(), "best_model.pth")
    write(
        tmp_path / "predict.py",
        IMPORTS
        + """
from PIL import Image
from torchvision import models
class_names = ['cat', 'dog']
model = models.squeezenet1_1(pretrained=True)
model.classifier[1] = nn.Conv2d(512, len(class_names), kernel_size=1)
model.load_state_dict(torch.load('best_model.pth'))
model.eval()
preprocess = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224),
    transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])

def predict(path):
    scores = model(preprocess(Image.open(path).convert('RGB')).unsqueeze(0))
    return class_names[scores.argmax(1).item()]
""",
    )
    model = load("best_model.pth", script="predict.py")
    assert model.labels.names == ("cat", "dog")
    assert model.preprocess.resize_size == (256, 256)
    assert model.preprocess.input_size == (224, 224)


GREY = (
    IMPORTS
    + """
import numpy as np
from PIL import Image, ImageOps

class Digits(nn.Module):
    def __init__(self, size, hidden, outputs):
        super().__init__()
        self.first = nn.Linear(size, hidden)
        self.second = nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

size = 28 * 28
model = Digits(size, 16, 10)
"""
)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(2)
    net = nn.Sequential()
    net.add_module("first", nn.Linear(784, 16))
    net.add_module("second", nn.Linear(16, 10))
    torch.save(net.state_dict(), tmp_path / "digits.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digit_scores(pixels: np.ndarray) -> int:
    state = torch.load("digits.pth")
    row = torch.from_numpy(pixels.astype(np.float32)).reshape(1, -1)
    hidden = torch.relu(functional.linear(row, state["first.weight"], state["first.bias"]))
    return int(functional.linear(hidden, state["second.weight"], state["second.bias"]).argmax())


@pytest.mark.parametrize("inverted", [False, True])
def test_statements_of_pillow_and_numpy_are_followed(digits: Path, inverted: bool) -> None:
    change = "255 - np.array(image)" if inverted else "np.array(image)"
    write(
        digits / "app.py",
        GREY
        + f"""
def predict(file):
    image = Image.open(file).convert('L').resize((28, 28))
    array = ({change}) / 255.0
    tensor = torch.tensor(array, dtype=torch.float32).view(-1, 784)
    return model(tensor).argmax(1).item()
""",
    )
    image = photo((90, 70))
    grey = np.asarray(image.convert("L").resize((28, 28)))
    model = load("digits.pth", script="app.py")
    assert model(image).index == digit_scores((255 - grey if inverted else grey) / 255)


def test_steps_that_no_preprocessing_expresses_are_done_at_every_start(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", str(digits / "cache"))
    write(
        digits / "app.py",
        GREY
        + """
transform = transforms.Compose([transforms.Resize((28, 28)), transforms.ToTensor(),
    transforms.Lambda(lambda x: (x > 0.5).float()), transforms.Grayscale()])

def predict(file):
    return model(transform(Image.open(file)).view(1, 784))
""",
    )
    image = photo((90, 70))
    first = load("digits.pth", script="app.py")
    wanted = first(image)
    first.compile()
    again = load("digits.pth", script="app.py")(image)
    grey = image.resize((28, 28), Image.Resampling.BILINEAR)
    pixels = (np.asarray(grey) / 255 > 0.5) @ np.array([0.2989, 0.587, 0.114])
    assert wanted.index == digit_scores(pixels)
    assert (again.index, round(again.score, 4)) == (wanted.index, round(wanted.score, 4))


def test_a_loop_over_a_test_set_gives_its_transform_and_the_reshape(digits: Path) -> None:
    write(
        digits / "train.py",
        GREY
        + """
test = datasets.MNIST('data', train=False, transform=transforms.ToTensor())
for images, labels in DataLoader(test, batch_size=100):
    outputs = model(images.reshape(-1, 28 * 28))
""",
    )
    image = photo((28, 28))
    model = load("digits.pth", script="train.py")
    assert model(image).index == digit_scores(np.asarray(image.convert("L")) / 255)


def test_a_way_that_cannot_be_followed_is_named(digits: Path) -> None:
    write(
        digits / "app.py",
        GREY
        + """
from scipy.misc import imresize

def predict(file):
    image = imresize(np.array(Image.open(file).convert('L')), (28, 28))
    return model(torch.from_numpy(image).view(1, 784)).argmax(1)
""",
    )
    with pytest.raises(PreprocessError, match=r"imresize at app.py:\d+ is not followed"):
        load("digits.pth", script="app.py")


def test_names_in_a_chain_of_ifs_are_found(folder: Path) -> None:
    chain = """
    answer = net(images).argmax(1).item()
    if answer == 0:
        label = 'zero'
    elif answer == 1:
        label = 'one'
    elif answer == 2:
        label = 'two'
    """
    text = Path("train.py").read_text().replace("classes = (", "unused = (")
    start = text.index("    predicted = ")
    write(Path("train.py"), text[:start] + textwrap.dedent(chain).replace("\n", "\n    "))
    assert load(script="train.py").labels.names == ("zero", "one", "two")


@pytest.mark.parametrize(
    ("names", "used", "told"),
    [
        ("('plane', 'car', 'ship')", False, True),
        ("('car', 'plane', 'ship')", False, False),  # as ImageFolder numbers them
        ("('plane', 'car', 'ship')", True, False),  # what the script itself prints
    ],
)
def test_names_in_another_order_than_that_of_class_folders_are_told_of(
    folder: Path, names: str, used: bool, told: bool
) -> None:
    text = Path("train.py").read_text().replace("('plane', 'car', 'ship')", names)
    for part in ("train=True", "train=False"):
        old = f"datasets.CIFAR10('./data', {part}, download=True, transform=transform)"
        assert old in text
        text = text.replace(old, "datasets.ImageFolder('./data', transform=transform)")
    text = text.replace("Compose([\n", "Compose([\n    transforms.Resize((32, 32)),\n")
    if not used:
        text = text.replace("classes[predicted[0]]", "predicted[0]")
    write(Path("train.py"), text)
    said = [one for one in load(script="train.py").warnings if "alphabetical order" in one]
    assert bool(said) == told
    assert all("at train.py:" in one and "ImageFolder (train.py:" in one for one in said)


def test_names_that_another_network_is_shown_for_are_left_alone(folder: Path) -> None:
    second = CLASS.replace("Net", "Other").replace("4 * 14 * 14", "4 * 9 * 9")
    use = """
    fruit = ['apple', 'pear', 'plum']
    other = Other()
    for images, labels in test_loader:
        print(fruit[other(images).argmax(1)])
    """
    text = Path("train.py").read_text() + second + textwrap.dedent(use)
    write(
        Path("train.py"),
        text.replace("classes = (", "unused = (").replace("classes[predicted[0]]", ""),
    )
    with warnings.catch_warnings(record=True):
        assert load(script="train.py").labels.names == ("0", "1", "2")


def test_an_image_that_is_pasted_and_cut_is_followed(digits: Path) -> None:
    write(
        digits / "app.py",
        GREY
        + """
def prepare(image):
    image = ImageOps.invert(image.convert('L'))
    image = image.point(lambda v: 0 if v < 30 else 255)
    side = max(image.size)
    square = Image.new('L', (side, side), 0)
    square.paste(image, ((side - image.size[0]) // 2, (side - image.size[1]) // 2))
    return np.array(square.resize((28, 28), Image.LANCZOS)).astype(np.float32) / 255.0

def predict(file):
    return model(torch.from_numpy(prepare(Image.open(file)).reshape(1, 784))).argmax(1)
""",
    )
    image = photo((90, 70))
    grey = ImageOps.invert(image.convert("L")).point(lambda v: 0 if v < 30 else 255)
    square = Image.new("L", (90, 90), 0)
    square.paste(grey, (10, 0))
    wanted = np.asarray(square.resize((28, 28), Image.Resampling.LANCZOS)) / 255
    assert load("digits.pth", script="app.py")(image).index == digit_scores(wanted)


def test_a_network_in_one_expression_is_taken_whole(digits: Path) -> None:
    write(
        digits / "train.py",
        IMPORTS
        + """
from collections import OrderedDict
hidden = 16
model = nn.Sequential(OrderedDict({
    'first': nn.Linear(784, hidden),
    'act': nn.ReLU(),
    'second': nn.Linear(hidden, 10),
}))
test = datasets.MNIST('data', train=False, transform=transforms.Compose(
    [transforms.ToTensor(), transforms.Lambda(lambda x: x.reshape(-1))]))
for images, labels in DataLoader(test):
    model(images)
""",
    )
    image = photo((28, 28))
    model = load("digits.pth", script="train.py")
    assert model(image).index == digit_scores(np.asarray(image.convert("L")) / 255)


def test_a_file_is_not_run_for_its_class_or_its_names(folder: Path) -> None:
    model = load(arch="train.py:Net", preprocess="raw-1-32", labels="train.py:classes")
    assert model.labels.names == ("plane", "car", "ship")
    assert not Path("written.txt").exists()
    assert not Path("data").exists()


def test_names_of_a_script_can_be_named(folder: Path) -> None:
    model = load(script="train.py", labels="train.py:classes")
    assert model.labels.names == ("plane", "car", "ship")


def test_what_is_imported_meanwhile_writes_no_cache_and_is_not_stopped(tmp_path, monkeypatch):
    from toplabel.models.script.guard import guarded, overwriting_nothing

    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, guard in (("first_module", guarded), ("second_module", overwriting_nothing)):
        (tmp_path / f"{name}.py").write_text("VALUE = 3\n")
        with guard():
            assert importlib.import_module(name).VALUE == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("first_module.py", "second_module.py")
    ]
    assert sys.dont_write_bytecode is False


def test_an_array_that_is_flattened_before_it_is_a_tensor_is_followed(digits: Path) -> None:
    write(
        digits / "app.py",
        GREY
        + """
class Window:
    def __init__(self):
        self.drawn = Image.new('L', (200, 200), 'white')

    def prepare(self):
        array = 1 - np.array(self.drawn.resize((28, 28))).astype(np.float32) / 255
        return torch.tensor(array.flatten()).unsqueeze(0).float()

    def guess(self):
        return model(self.prepare()).argmax(1).item()
""",
    )
    image = photo((90, 70))
    grey = np.asarray(image.convert("L").resize((28, 28)))
    assert load("digits.pth", script="app.py")(image).index == digit_scores(1 - grey / 255)


SEVERAL = CLASS.replace("return self.fc(x.view(-1, 4 * 14 * 14))", "{}").replace("Net", "Several")
ASKED = """
transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
net = Several()

def label(file):
    image = transform(Image.open(file).convert('RGB')).unsqueeze(0)
    {}
"""


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("return net(image)[0].argmax(1).item()", 0),
        ("scores, features = net(image); return torch.max(scores.detach(), 1)[1]", 0),
        ("features, scores = net(image); return nn.Softmax(dim=1)(scores)", 1),
        ("features, *more = net(image); return torch.topk(more[0], 1)", None),
        ("one, two = net(image); return one.argmax(1), two.argmax(1)", None),
        ("one, two = net(image); return F.cross_entropy(one, labels)", None),
    ],
)
def test_of_several_outputs_the_one_is_taken_that_the_script_looks_into(
    folder: Path, asked: str, place: int | None
) -> None:
    both = "x = x.view(-1, 4 * 14 * 14); return (self.fc(x), -2 * self.fc(x))"
    text = IMPORTS + "from PIL import Image\n" + SEVERAL.format(both) + ASKED.format(asked)
    write(folder / "use.py", text)
    if place is None:
        with pytest.raises(ModelError, match="output="):
            load(script="use.py")
        return
    net = Net()
    net.load_state_dict(torch.load("cifar_net.pth"))
    image = photo()
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    scores = net(pixels) * (-2 if place else 1)
    assert load(script="use.py")(image).index == int(scores.argmax())
    assert load(script="use.py", output=1 - place)(image).index == int((-scores).argmax())


def test_opencv_that_is_not_installed_is_asked_for_where_only_it_tells(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    write(
        digits / "app.py",
        GREY
        + """
import cv2
test = datasets.MNIST('data', train=False, transform=transforms.ToTensor())
for images, labels in DataLoader(test, batch_size=100):
    outputs = model(images.reshape(-1, 28 * 28))

def predict(file):
    image = cv2.bitwise_not(cv2.resize(cv2.imread(file, 0), (28, 28)))
    return model(transforms.ToTensor()(image).view(1, 784)).argmax(1)
""",
    )
    with pytest.raises(PreprocessError, match=r"OpenCV is not installed.* preprocess="):
        load("digits.pth", script="app.py")


def test_a_decorator_that_may_change_a_function_is_not_dropped(tmp_path):
    from toplabel.errors import ModelError
    from toplabel.models.script.named import definition

    (tmp_path / "prepare.py").write_text(
        "import functools, torch\n\n\ndef negated(function):\n    @functools.wraps(function)\n"
        "    def other(x):\n        return -function(x)\n    return other\n\n\n"
        "@negated\ndef changed(x):\n    return x\n\n\n"
        "@torch.no_grad()\ndef same(x):\n    return x\n"
    )
    with pytest.raises(ModelError, match="decorator of changed"):
        definition(tmp_path / "prepare.py", "changed")
    assert definition(tmp_path / "prepare.py", "same")(3) == 3


def test_a_library_that_is_imported_meanwhile_may_do_what_it_does(tmp_path, monkeypatch):
    """As PyTorch's compiler, which names a folder for its cache in the environment."""
    from toplabel.models.script.guard import guarded

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "library_of_a_test.py").write_text("import os\nos.environ['OF_A_TEST'] = '1'\n")
    monkeypatch.setenv("OF_A_TEST", "0")
    with guarded():
        importlib.import_module("library_of_a_test")
        with pytest.raises(ToplabelError, match="putenv"):
            os.environ["OF_A_TEST"] = "2"
    assert os.environ["OF_A_TEST"] == "1"
