"""Arguments of a class that the file's tensors say: filled in where all tensors fit then."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

import toplabel  # noqa: E402
from small_networks import Small  # noqa: E402
from toplabel.errors import CheckpointError, UsageError  # noqa: E402
from toplabel.models.fit.file_arguments import likely_arguments  # noqa: E402

NAMES = ["apple", "banjo", "cedar", "dune"]
PREPROCESS = "half-squash-33"


def net(name: str, *, default: str = "", body: str = "super().__init__(classes={0})") -> Any:
    """A class whose constructor calls the number of classes so."""
    space: dict[str, Any] = {"Small": Small}
    exec(
        f"class Own(Small):\n def __init__(self, {name}{default}):\n  {body.format(name)}\n",
        space,
    )
    return space["Own"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(Small(classes=4).state_dict(), tmp_path / "model.pth")
    return tmp_path / "model.pth"


def load(path: Path, arch: Any, **options: Any) -> Any:
    return toplabel.load(
        path,
        **{"arch": arch, "labels": NAMES, "preprocess": PREPROCESS, "engine": "torch"} | options,
    )


@pytest.mark.parametrize(
    "name",
    [
        "num_classes",
        "n_classes",
        "nclasses",
        "nb_classes",
        "number_of_classes",
        "classes",
        "n_class",
    ]
    + [
        "num_labels",
        "n_outputs",
        "output_dim",
        "out_features",
        "class_num",
        "numClasses",
        "n_out",
        "nc",
    ],
)
def test_the_number_of_classes_is_read_from_the_file_whatever_it_is_called(
    path: Path, name: str
) -> None:
    expected = load(path, partial(Small, classes=4))
    pixels = torch.zeros(40, 40, 3, dtype=torch.uint8).numpy()
    assert load(path, net(name))(pixels).top == expected(pixels).top
    assert load(path, net(name, default="=1000"))(pixels).top == expected(pixels).top


@pytest.mark.parametrize(
    "arch",
    [
        net("classes", body="super().__init__(classes=len({0}))"),
        net("num_classes", body="super().__init__(classes={0} + 1)"),
        net(
            "in_channels, num_classes",
            body="super().__init__(channels=in_channels, classes=num_classes)",
        ),
        lambda num_classes: Small(classes=num_classes),
        Small,
    ],
    ids=["names", "background", "channels, too", "function", "another default"],
)
def test_names_a_background_class_and_channels_are_tried_as_well(
    path: Path, arch: Callable[..., nn.Module]
) -> None:
    assert len(load(path, arch).labels) == 4


def test_what_the_user_gives_stays_as_it_is(path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit Own"):
        load(path, net("num_classes"), arch_args={"num_classes": 5})


def test_an_argument_that_no_file_says_is_asked_for(path: Path) -> None:
    with pytest.raises(UsageError, match=r"Own needs depth; pass arch_args=\{\"depth\": \.\.\.\}"):
        load(path, net("depth, num_classes", body="super().__init__(classes=num_classes)"))


def test_the_report_of_a_file_of_another_network_is_that_of_the_class_with_its_classes(
    tmp_path: Path,
) -> None:
    state = Small(classes=4).state_dict()
    torch.save({**state, "conv.weight": torch.zeros(9, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"conv.weight: the file has \(9, 3, 3, 3\)"):
        load(tmp_path / "other.pth", net("num_classes"))


def test_a_partial_load_is_one_of_the_class_as_it_is(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({name: t for name, t in state.items() if "head" not in name}, path)
    with pytest.warns(toplabel.ToplabelWarning, match="of the parameters of Own were loaded"):
        model = load(path, net("num_classes", default="=4"), allow_partial=True)
    assert len(model.labels) == 4


def test_switches_and_lists_are_no_numbers_of_classes() -> None:
    def make(num_classes: bool = True, channels: tuple[int, ...] = (8, 16)) -> None: ...

    parameters = list(inspect.signature(make).parameters.values())
    assert list(likely_arguments(parameters, {}, {"head": (4, 8)}, None)) == []
