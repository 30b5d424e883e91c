"""What a file of a network sets for the whole process is set back."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toplabel.models.fit.build_module import build_module  # noqa: E402

pytestmark = pytest.mark.torch

SOURCE = """
import os, random
import numpy, torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.manual_seed(1)
random.seed(1)
numpy.random.seed(1)
torch.use_deterministic_algorithms(True)
os.chdir("/")


def Net():
    torch.set_default_device("cpu")
    return nn.Linear(3, 2)
"""


def state() -> list[object]:
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.random.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        os.getcwd(),
    ]


def test_global_state_is_as_before_and_the_network_as_its_file_wants_it(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(SOURCE)
    before = state()
    network = build_module(f"{tmp_path / 'nets.py'}:Net", run=True)  # all of it
    assert state() == before
    assert network.weight.dtype == torch.float64
    network = build_module(f"{tmp_path / 'nets.py'}:Net")  # its function alone
    assert state() == before
    assert network.weight.dtype == torch.float32
