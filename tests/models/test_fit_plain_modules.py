"""Whole pickled networks of torch's own layers: rebuilt as data."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

import checkpoints as made  # noqa: E402
from own_networks import GreyNet  # noqa: E402
from toplabel.models.checkpoint.header import read_checkpoint_info  # noqa: E402
from toplabel.models.checkpoint.info import UnknownObject  # noqa: E402
from toplabel.models.checkpoint.reading import read_checkpoint  # noqa: E402
from toplabel.models.fit.plain_modules import plain_module  # noqa: E402

SAVERS = {"zip": made.save_zip, "legacy": made.save_legacy}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ZeroPad2d(1),
        nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=2, bias=False),
        nn.BatchNorm2d(8, eps=1e-2),
        nn.LeakyReLU(0.3, inplace=True),
        nn.Sequential(nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout2d(0.3)),
        nn.GroupNorm(2, 8),
        nn.AdaptiveAvgPool2d((2, None)),
        nn.Flatten(),
        nn.LazyLinear(5),
        nn.LogSoftmax(dim=1),
    )


@pytest.mark.parametrize("container", SAVERS)
@pytest.mark.parametrize("key", ["", "net"])
def test_it_answers_as_it_did(container: str, key: str, tmp_path: Path) -> None:
    module, images = network(), torch.randn(4, 3, 20, 24)
    module(images)
    path = SAVERS[container](tmp_path / "x", {key: module, "epoch": 3} if key else module)
    rebuilt = plain_module(read_checkpoint(read_checkpoint_info(path)), key)
    assert rebuilt is not None
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(images), module.eval()(images))


def test_other_classes_hooks_and_odd_values_are_not_rebuilt(tmp_path: Path) -> None:
    hooked = network()
    hooked[1].register_forward_hook(print)
    odd = nn.Sequential(nn.ReLU())
    odd[0].forward = torch.relu
    for module in (GreyNet(3), nn.Sequential(GreyNet(3)), nn.ModuleList([nn.ReLU()]), hooked, odd):
        path = made.save_zip(tmp_path / "x", module)
        assert plain_module(read_checkpoint(read_checkpoint_info(path)), "") is None
    for content in (None, {}, UnknownObject("torch.nn.modules.linear.Linear", None)):
        assert plain_module(content, "a") is None
        assert plain_module(content, "") is None
