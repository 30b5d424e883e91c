"""A checkpoint of your own: train a small network for a moment, save it, label with it.

Needs PyTorch: pip install 'toplabel[torch]'
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

import toplabel


class SmallNet(nn.Module):
    """Three numbers of an image to two classes: is it more red, or more blue?"""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 2) of (N, 3, H, W)."""
        return self.head(x.mean(dim=(2, 3)))


def train() -> SmallNet:
    """A few steps on random colours."""
    torch.manual_seed(0)
    net = SmallNet()
    optimizer = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(100):
        images = torch.rand(64, 3, 1, 1).expand(64, 3, 8, 8)
        target = (images[:, 2, 0, 0] > images[:, 0, 0, 0]).long()
        loss = nn.functional.cross_entropy(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


PREPROCESS = toplabel.Preprocess(
    input_size=(32, 32),
    resize_mode="squash",
    resize_size=(32, 32),
    mean=(0, 0, 0),
    std=(1, 1, 1),
)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "best.pth")
    torch.save({"epoch": 1, "state_dict": train().state_dict()}, path)
    model = toplabel.load(path, arch=SmallNet, labels=["red", "blue"], preprocess=PREPROCESS)
    print(model(Path(__file__).parent / "coffee.jpg"))  # red
    bundle = Path(folder, "colours.toplabel")
    model.save(bundle)  # one file, opened without PyTorch
    print(toplabel.load(bundle)(Path(__file__).parent / "rocket.jpg"))  # blue
