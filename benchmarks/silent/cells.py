"""Cells: what every case of the scoreboard is made of: outcomes, the truth, the thirty lines."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "rivals"))

import declare_operators  # noqa: F401  (before torchvision and timm)
import torch
from networks import build
from PIL import Image
from torch import nn

import toplabel

RIGHT, NAMED, WARNED, SILENT, NONE = (
    "right", "named error", "wrong, warned", "silently wrong", "not applicable",
)  # fmt: skip
Outcome = tuple[str, str]
Case = Callable[[Path, list[str]], Outcome]
CASES: dict[tuple[str, str], Case] = {}

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def case(name: str, tool: str) -> Callable[[Case], Case]:
    """Registers a function as what a tool does with a case."""

    def register(function: Case) -> Case:
        CASES[name, tool] = function
        return function

    return register


def truth(checkpoints: Path, photos: list[str]) -> list[int]:
    """The labels by the right weights and preprocessing."""
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    with torch.no_grad():
        batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in photos])
        return model(batch).argmax(1).tolist()


def compared(found: list[int], right: list[int], *, warning: str = "") -> Outcome:
    """The outcome for some labels: silently wrong where any differs without a warning."""
    wrong = sum(a != b for a, b in zip(found, right, strict=True))
    if not wrong:
        return RIGHT, f"{len(right)} of {len(right)} labels"
    count = f"{wrong} of {len(right)} labels wrong"
    return (WARNED, f"{count}: {warning}") if warning else (SILENT, count)


def by_torch(model: nn.Module, transform: Callable, photos: list[str]) -> list[int]:
    """The thirty lines."""
    with torch.no_grad():
        batch = torch.stack([transform(Image.open(p).convert("RGB")) for p in photos])
        return model(batch).argmax(1).tolist()


def of_ours(action: Callable[[], list[int]], right: list[int]) -> Outcome:
    """What toplabel does."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = action()
        except toplabel.ToplabelError as error:
            return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    warned = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return compared(found, right, warning=warned[0][:160] if warned else "")


def imagenet_transform() -> Callable:
    """What tutorials copy."""
    from torchvision import transforms

    return transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
         transforms.Normalize(*IMAGENET)]
    )  # fmt: skip
