"""Numbers of a network that no state dict has."""

import random

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from toplabel.models.fit.unsaved import differing, unsaved_numbers  # noqa: E402


class Part(nn.Module):
    """Has numbers in every place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.register_buffer("saved", torch.randn(3))
        self.register_buffer("hidden", torch.randn(3), persistent=False)
        self.register_buffer("steps", torch.arange(3), persistent=False)
        self.array = np.random.permutation(9)
        self.order = random.sample(range(99), 9)
        self.sizes = [32, 64]
        self.scale = random.random()
        self.names = ["a", "b"]


class Whole(nn.Module):
    """Has it within."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), Part())


def test_they_are_found_where_they_differ() -> None:
    one, other = Whole(), Whole()
    names = {f"layers.1.{name}" for name in ("hidden", "steps", "array", "order", "sizes")}
    assert unsaved_numbers(one).keys() >= names
    assert differing(one, other) == [f"layers.1.{name}" for name in ("hidden", "array", "order")]
    assert differing(one, one) == []


def test_seeded_ones_are_the_same() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        made.append(Whole())
    assert differing(*made) == []
