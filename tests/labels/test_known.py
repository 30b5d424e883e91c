"""Known lists: their order is that of the libraries' data sets."""

from pathlib import Path

import pytest

from toplabel._internal.notices import collect_warnings
from toplabel.errors import LabelsError
from toplabel.labels.files import read_labels
from toplabel.labels.known import KNOWN

SIZES = {
    "imagenet": 1000,
    "imagenet-synsets": 1000,
    "cifar10": 10,
    "cifar100": 100,
    "mnist": 10,
    "fashion-mnist": 10,
    "kmnist": 10,
    "svhn": 10,
    "stl10": 10,
    "gtsrb": 43,
}


def test_each_list_has_its_data_sets_number_of_classes() -> None:
    assert {name: len(read_labels(name)) for name in KNOWN} == SIZES


@pytest.mark.parametrize(
    ("name", "index", "label"),
    [
        ("imagenet", 954, "banana"),
        ("imagenet-synsets", 954, "n07753592"),
        ("cifar10", 3, "cat"),
        ("cifar100", 99, "worm"),
        ("mnist", 7, "7"),
        ("fashion-mnist", 9, "Ankle boot"),
        ("stl10", 7, "monkey"),
        ("gtsrb", 14, "Stop"),
        ("gtsrb", 33, "Turn right ahead"),
    ],
)
def test_an_index_has_the_name_that_everybody_gives_it(name: str, index: int, label: str) -> None:
    assert read_labels(name)[index] == label


@pytest.mark.torch
def test_the_lists_are_torchvisions() -> None:
    pytest.importorskip("torch")
    from toplabel.models.zoo_import import import_torchvision

    models = import_torchvision().models
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    assert list(read_labels("fashion-mnist")) == [str(name) for name in FashionMNIST.classes]
    assert list(read_labels("kmnist")) == KMNIST.classes
    assert list(read_labels("mnist")) == [name.split(" ")[0] for name in MNIST.classes]
    theirs = models.ResNet18_Weights.DEFAULT.meta["categories"]
    same = sum(a == b for a, b in zip(read_labels("imagenet"), theirs, strict=True))
    assert same > 900  # the same classes; a synset has several words


@pytest.mark.parametrize("name", ["CIFAR10", "cifar-10", "cifar_10"])
def test_a_list_may_be_spelled_as_people_do(name: str) -> None:
    assert read_labels(name)[0] == "airplane"
    assert read_labels("ImageNet-1k")[954] == "banana"


def test_sorted_lists_are_sorted() -> None:
    assert list(read_labels("cifar100")) == sorted(read_labels("cifar100"))
    assert list(read_labels("imagenet-synsets")) == sorted(read_labels("imagenet-synsets"))


def test_a_file_of_that_name_needs_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar10").write_text("mine\nyours\n")
    monkeypatch.chdir(tmp_path)
    with collect_warnings() as texts:
        assert read_labels("cifar10")[0] == "airplane"
    assert "write './cifar10'" in texts[0]
    assert read_labels("./cifar10").names == ("mine", "yours")


def test_an_unknown_name_says_which_lists_there_are() -> None:
    with pytest.raises(LabelsError, match="or a known list \\(imagenet, "):
        read_labels("imagenet21k")
