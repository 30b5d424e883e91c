"""Data sets: what torchvision's give, and how scripts' own are told from the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from toplabel.models.script.values import Instance, Made

_WRAPPERS = ("DataLoader", "Subset", "random_split", "ConcatDataset")
_OWN = ("Dataset", "ImageFolder", "DatasetFolder", "VisionDataset", "MNIST", "CIFAR10")
_EVALUATION = ("test", "val", "valid", "validation", "eval", "dev")


@dataclass(frozen=True, slots=True)
class Known:
    """A data set of torchvision's.

    Args:
        form: "grey" or "rgb".
        size: The (height, width) of all of its images; None where they differ.
        transform_at: The place of the argument `transform`.
    """

    form: str
    size: tuple[int, int] | None
    transform_at: int


DATASETS = {
    "MNIST": Known("grey", (28, 28), 2),
    "FashionMNIST": Known("grey", (28, 28), 2),
    "KMNIST": Known("grey", (28, 28), 2),
    "QMNIST": Known("grey", (28, 28), 9),
    "EMNIST": Known("grey", (28, 28), 9),
    "USPS": Known("grey", (16, 16), 2),
    "CIFAR10": Known("rgb", (32, 32), 2),
    "CIFAR100": Known("rgb", (32, 32), 2),
    "SVHN": Known("rgb", (32, 32), 2),
    "STL10": Known("rgb", (96, 96), 3),
    "FER2013": Known("grey", (48, 48), 2),
    "GTSRB": Known("rgb", None, 2),
    "ImageFolder": Known("rgb", None, 1),
    "Flowers102": Known("rgb", None, 2),
    "Food101": Known("rgb", None, 2),
    "OxfordIIITPet": Known("rgb", None, 3),
    "Caltech101": Known("rgb", None, 2),
    "PneumoniaMNIST": Known("grey", (28, 28), 1),
    "PathMNIST": Known("rgb", (28, 28), 1),
    "ImageNet": Known("rgb", None, 9),
}


def is_dataset(value: Any) -> bool:
    """Whether indexing it gives images."""
    if isinstance(value, Instance):
        return value.kind.derives_from(*_OWN) or (
            value.kind.find("__getitem__") is not None and value.kind.find("__len__") is not None
        )
    return isinstance(value, Made) and (
        value.last in DATASETS or value.name.startswith("torchvision.datasets.")
    )


def dataset_of(value: Any) -> Any:
    """The data set behind loaders and subsets."""
    for _ in range(8):
        if not isinstance(value, Made) or value.last not in _WRAPPERS:
            break
        inner = value.argument("dataset", 0)
        inner = value.argument("datasets", 0, inner) if value.last == "ConcatDataset" else inner
        value = inner[0] if isinstance(inner, list | tuple) and inner else inner
    return value


def transform_of(dataset: Made) -> Any:
    """What a data set of torchvision's does to its images; None for nothing."""
    known = DATASETS.get(dataset.last)
    return dataset.argument("transform", known.transform_at if known else 9)


def role_of(dataset: Any, names: Iterable[str] = ()) -> str:
    """What a data set is for: "test", "train", or "" where nothing says."""
    if isinstance(dataset, Made):
        train = dataset.argument("train", 1) if dataset.last != "ImageFolder" else None
        if isinstance(train, bool):
            return "train" if train else "test"
    texts = [*names]
    if isinstance(dataset, Made | Instance):
        texts += dataset.assigned
        texts += [v for v in (*dataset.args, *dataset.kwargs.values()) if isinstance(v, str)]
        texts += [k for k, v in dataset.kwargs.items() if v is True and k == "train"]
    found = {role for text in texts if (role := _role_of_text(text))}
    return "test" if "test" in found else "train" if "train" in found else ""


def _role_of_text(text: str) -> str:
    words = text.lower()
    if any(word in words for word in _EVALUATION):
        return "test"
    return "train" if "train" in words else ""


def preferred_key(choices: dict[Any, Any]) -> Any:
    """Of "train" and "val", the one for evaluation; None where they are not called so."""
    keys = [key for key in choices if isinstance(key, str) and _role_of_text(key)]
    if not keys or len(keys) < len(choices):
        return None
    for word in ("test", "val"):
        for key in keys:
            if word in key.lower():
                return key
    return None
