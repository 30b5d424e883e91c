"""Scene: a small trained network, pictures whose labels are known, and what becomes of a case.

A case is a function registered with `@kind(name, *reports)`. It takes a Scene and returns a Trial:
the right answers, and for each tool a function that gives the tool's own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "rivals"))

import declare_operators  # noqa: F401  (before torchvision)
import numpy as np
import torch
from input_tools import Logged
from PIL import Image
from torch import nn
from torchvision import transforms

import toplabel

NAMES = ("cedar", "apple", "dune", "banjo")
"""In the order of the outputs, which no sorting gives."""
COLOURS = ((40, 120, 50), (190, 40, 45), (215, 185, 110), (60, 70, 160))
SIZE = 32
MEAN = STD = (0.5, 0.5, 0.5)

Answer = Any
Tool = Callable[[], Sequence[Answer]]
Outcome = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One case.

    Args:
        expected: The right answer for each picture; None where no label can be right, so that any
            that is given without a word is wrong.
        tools: What each tool says, by its name; an exception is an error that was said.
    """

    expected: Sequence[Answer] | None
    tools: dict[str, Tool]


KINDS: dict[str, tuple[tuple[str, ...], Callable[[Scene], Trial]]] = {}
"""By name: the reports (`owner/repository#number`) and what makes the trial."""


def kind(name: str, *reports: str) -> Callable[[Callable[[Scene], Trial]], None]:
    """Registers a case."""

    def register(make: Callable[[Scene], Trial]) -> None:
        assert name not in KINDS, name
        KINDS[name] = (reports, make)

    return register


class Body(nn.Sequential):
    """Features (N, 32) of a float32 (N, 3, 32, 32) tensor."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class Net(nn.Module):
    """The network of a user: logits (N, 4)."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.body = Body()
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.body(x))


TRANSFORM = transforms.Compose(
    [
        transforms.Resize((SIZE, SIZE)),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)


def picture(index: int, seed: int) -> Image.Image:
    """An RGB image of 48 x 48 that shows the class: its colour, with noise and a bright bar."""
    random = np.random.default_rng((index, seed))
    pixels = np.array(COLOURS[index]) + random.normal(0, 18, (48, 48, 3))
    start = int(random.integers(4, 36))
    pixels[start : start + 6] += random.uniform(20, 60)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Scene:
    """A folder with what the cases start from.

    Args:
        folder: Where a case writes its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def images(self) -> list[Image.Image]:
        """Two of each class."""
        return [picture(index, 1000 + seed) for seed in range(2) for index in range(4)]

    @cached_property
    def batch(self) -> torch.Tensor:
        """The pictures, prepared: float32 (8, 3, 32, 32)."""
        return torch.stack([TRANSFORM(image) for image in self.images])

    @cached_property
    def net(self) -> Net:
        """Trained, in eval mode."""
        torch.manual_seed(0)
        net, marks = Net(), torch.arange(4).repeat(24)
        batch = torch.stack([TRANSFORM(picture(int(m), i)) for i, m in enumerate(marks)])
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        with torch.enable_grad():
            for _ in range(120):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(batch), marks).backward()
                optimizer.step()
        return net.eval().requires_grad_(False)

    @cached_property
    def other(self) -> Net:
        """A network of the same class that was not trained."""
        torch.manual_seed(7)
        return Net().eval().requires_grad_(False)

    @cached_property
    def labels(self) -> list[str]:
        """The right names."""
        return [NAMES[index] for index in self.net(self.batch).argmax(1).tolist()]

    def saved(self, content: object, name: str = "model.pth") -> Path:
        """A file with this content, as torch.save writes it."""
        path = self.folder / name
        torch.save(content, path)
        return path

    # -- what the tools do

    def ours(self, path: Path | str, **options: Any) -> Tool:
        """toplabel.load of a file, by its documentation."""
        given = {"arch": Net, "labels": NAMES, "preprocess": TRANSFORM} | options
        kept = {name: value for name, value in given.items() if value is not None}
        return lambda: names_of(toplabel.load(path, **kept)(self.images))

    def wrapped(self, module: nn.Module, **options: Any) -> Tool:
        """toplabel.wrap of a module in memory."""
        given = {"labels": NAMES, "preprocess": TRANSFORM} | options
        return lambda: names_of(toplabel.wrap(module, **given)(self.images))

    def thirty_lines(
        self,
        module: nn.Module | Callable[[], nn.Module],
        *,
        transform: Callable = TRANSFORM,
        names: Sequence[str] = NAMES,
    ) -> Tool:
        """What people copy: eval, no_grad, one image at a time, softmax, argmax, the name."""

        def label() -> list[str]:
            net = module if isinstance(module, nn.Module) else module()
            net.eval()
            found = []
            with torch.no_grad():
                for image in self.images:
                    scores = torch.softmax(net(transform(image).unsqueeze(0)), dim=1)
                    found.append(names[scores.argmax(dim=1).item()])
            return found

        return label

    def pipeline(self, folder: Path) -> Tool:
        """Hugging Face's pipeline for a folder."""

        def label() -> list[str]:
            from transformers import pipeline

            classify = pipeline("image-classification", model=str(folder), device="cpu")
            return [best[0]["label"] for best in classify(self.images, top_k=1)]

        return label


def names_of(predictions: Sequence[toplabel.Prediction]) -> list[Answer]:
    """Labels; an image that got an error gets its exception, raised."""
    for one in predictions:
        if one.error:
            raise toplabel.ToplabelError(one.error.message)
        for said in one.warnings:
            warnings.warn(said, stacklevel=2)
    return [one.label for one in predictions]


def outcome(trial: Trial, tool: str) -> Outcome:
    """What became of a case: `right`, `named error`, `error`, `wrong, warned`, `silently wrong`."""
    if tool not in trial.tools:
        return "not applicable", ""
    logged = Logged()
    with warnings.catch_warnings(record=True) as caught, logged:
        warnings.simplefilter("always")
        for category in (ResourceWarning, DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        try:
            found = list(trial.tools[tool]())
        except toplabel.ToplabelError as error:
            return "named error", f"{type(error).__name__}: {first_line(error)}"
        except Exception as error:
            return "error", f"{type(error).__name__}: {first_line(error)}"
    said = [str(one.message) for one in caught] + logged.said
    if trial.expected is not None and found == list(trial.expected):
        return "right", f"{len(found)} of {len(found)}"
    count = "a label where none can be right"
    if trial.expected is not None:
        wrong = sum(a != b for a, b in zip(found, trial.expected, strict=True))
        count = f"{wrong} of {len(found)} wrong"
    if said:
        return "wrong, warned", f"{count}; said: {said[0][:140]}"
    return "silently wrong", f"{count}: {', '.join(map(str, found[:4]))}"


def first_line(error: BaseException) -> str:
    """At most 160 characters of it."""
    return (str(error).splitlines() or [""])[0][:160]
