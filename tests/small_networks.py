"""A network of two layers, and changed forwards of it, as a source gives them."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from toplabel.bundle.model import Model
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess


class Small(nn.Module):
    """A network of two layers for 33 x 33 pixels; the cases below change its forward."""

    def __init__(self, *, channels: int = 3, classes: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(32, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.conv(x)))
        return functional.adaptive_avg_pool2d(x, 2).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x)) * 5


def small(
    forward: Callable[[Small, torch.Tensor], object] | None = None, **arguments: int
) -> nn.Module:
    torch.manual_seed(0)
    kind = Small if forward is None else type("Changed", (Small,), {"forward": forward})
    return kind(**arguments).eval()


def as_model(module: nn.Module, *, size: tuple[int, int] = (33, 33), channels: int = 3) -> Model:
    preprocess = Preprocess(
        input_size=size,
        resize_size=size,
        channels="grey" if channels == 1 else "rgb",
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        pad_value=(0,) * channels,
    )
    return Model(
        name="tests/model",
        module=module,
        architecture="tests/model",
        preprocess=preprocess,
        labels=Labels.indices(7),
    )
