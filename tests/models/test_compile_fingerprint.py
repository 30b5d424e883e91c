"""Fingerprints: one key for models that compute the same, another for all others."""

import argparse
import dataclasses
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from small_networks import as_model, small  # noqa: E402
from toplabel.models.compile.fingerprint import (  # noqa: E402
    model_sha256,
    program_key,
    weights_sha256,
)

pytestmark = pytest.mark.torch


def key(module: nn.Module, **model: object) -> str:
    return program_key(dataclasses.replace(as_model(module), **model))


def with_attribute(value: object) -> nn.Module:
    module = small()
    module.setting = value
    return module


@pytest.mark.slow
def test_equal_models_have_one_key_in_every_process() -> None:
    code = (
        f"import sys; sys.path.append({str(Path(__file__).parents[1])!r});"
        "from small_networks import as_model, small;"
        "from toplabel.models.compile.fingerprint import program_key;"
        "print(program_key(as_model(small())))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == key(small()) == key(small())


def test_any_changed_weight_changes_the_key() -> None:
    module = small()
    before, weights = key(module), weights_sha256(module)
    with torch.no_grad():
        module.head.bias[3] += 1e-6
    assert weights_sha256(module) != weights
    assert key(module) != before


def test_names_dtypes_and_shapes_count() -> None:
    hashes = {
        weights_sha256(nn.ParameterDict({name: nn.Parameter(value)}))
        for name, value in (
            ("a", torch.zeros(4)),
            ("b", torch.zeros(4)),
            ("a", torch.zeros(2, 2)),
            ("a", torch.zeros(2, dtype=torch.float64)),
            ("a", torch.zeros(0)),
            ("a", torch.tensor(0.0)),
        )
    }
    assert len(hashes) == 6


def test_weights_count_by_value_not_by_how_they_lie_in_memory() -> None:
    one, two = nn.Linear(4, 3), nn.Linear(4, 3)
    two.load_state_dict(one.state_dict())
    two.weight = nn.Parameter(one.weight.detach().t().contiguous().t())
    assert weights_sha256(one) == weights_sha256(two)


def test_unusual_weights_can_be_hashed() -> None:
    module = nn.Module()
    module.register_buffer("halves", torch.ones(3, dtype=torch.bfloat16))
    module.register_buffer("imaginary", torch.ones(3, dtype=torch.complex64))
    module.register_buffer("flags", torch.ones(3, dtype=torch.bool))
    module.register_buffer("sparse", torch.eye(3).to_sparse())
    assert len(weights_sha256(module)) == 64


def test_labels_and_the_rest_of_the_preprocessing_do_not_count() -> None:
    model = as_model(small())
    other = dataclasses.replace(
        model,
        name="another",
        multi_label=True,
        preprocess=dataclasses.replace(model.preprocess, mean=(0.1, 0.2, 0.3)),
    )
    assert program_key(other) == program_key(model)


def test_architecture_and_input_shape_count() -> None:
    keys = {
        key(small()),
        key(small(), architecture="tests/other"),
        program_key(as_model(small(), size=(33, 35))),
    }
    assert len(keys) == 3


class Colour(Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (2.0, 3.0),
        (True, False),
        ([1, 2], [1, 3]),
        ({"a": 1}, {"a": 2}),
        (torch.tensor([1.0]), torch.tensor([2.0])),
        (nn.functional.relu, nn.functional.gelu),
        (
            partial(nn.functional.leaky_relu, negative_slope=0.1),
            partial(nn.functional.leaky_relu, negative_slope=0.2),
        ),
        (lambda x: x * 2, lambda x: x * 3),
        (Colour.RED, Colour.BLUE),
        (nn.ReLU, nn.GELU),
    ],
)
def test_settings_that_stand_in_no_state_dict_count(one: object, two: object) -> None:
    assert key(with_attribute(one)) == key(with_attribute(one))
    assert key(with_attribute(one)) != key(with_attribute(two))


def test_buffers_that_are_not_saved_count() -> None:
    modules = [small(), small()]
    for value, module in enumerate(modules):
        module.register_buffer("offset", torch.tensor([float(value)]), persistent=False)
    assert weights_sha256(modules[0]) == weights_sha256(modules[1])
    assert key(modules[0]) != key(modules[1])


def test_a_changed_forward_of_an_own_class_counts() -> None:
    one = small(lambda self, x: self.head(self.features(x)) * 5)
    two = small(lambda self, x: self.head(self.features(x)) * 6)
    three = small(lambda self, x: self.head(self.conv(x)) * 5)
    assert len({key(one), key(two), key(three)}) == 3


def test_objects_without_a_value_of_their_own_do_not_change_the_key() -> None:
    assert key(with_attribute(object())) == key(with_attribute(object()))


class Config:
    __slots__ = ("shift",)

    def __init__(self, shift: int) -> None:
        self.shift = shift


class Loader:
    """As a data set's: it can be asked for its length, and must not be read."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> object:
        raise AssertionError("was read")


@pytest.mark.parametrize(
    "make",
    [
        lambda value: [nn.Linear(value + 1, 2)],
        lambda value: {"a": [SimpleNamespace(shift=value)]},
        lambda value: argparse.Namespace(shift=value),
        lambda value: Config(value),
        lambda value: np.int64(value),
        lambda value: slice(value, None),
        lambda value: deque([value]),
        lambda value: lambda x: x + value,
    ],
)
def test_settings_within_objects_count(make: Callable[[int], object]) -> None:
    def make_key(value: int) -> str:
        torch.manual_seed(0)
        return key(with_attribute(make(value)))

    assert make_key(0) == make_key(0)
    assert make_key(0) != make_key(1)


def test_weights_of_layers_in_a_plain_list_count() -> None:
    torch.manual_seed(0)
    one, two = with_attribute([nn.Linear(3, 2)]), with_attribute([nn.Linear(3, 2)])
    assert weights_sha256(one) == weights_sha256(two)
    assert key(one) != key(two)


def test_a_loader_among_the_attributes_is_not_read() -> None:
    assert key(with_attribute(Loader())) == key(with_attribute(Loader()))
    data = torch.utils.data.DataLoader(Loader())  # type: ignore[arg-type]
    assert key(with_attribute(data)) == key(with_attribute(data))


def test_a_private_attribute_counts() -> None:
    one, two = small(), small()
    one._shift, two._shift = 1, 2
    assert key(one) != key(two)


def test_a_hook_counts() -> None:
    one, two = small(), small()
    two.register_forward_hook(lambda module, args, output: -output)
    assert key(one) != key(two)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
def test_constants_in_torchscript_count() -> None:
    torch.manual_seed(0)
    example = torch.rand(1, 3)
    frozen = [torch.jit.freeze(torch.jit.trace(nn.Linear(3, 64).eval(), example)) for _ in range(2)]
    assert weights_sha256(frozen[0]) == weights_sha256(frozen[1])
    assert key(frozen[0]) != key(frozen[1])
    assert key(frozen[0]) == key(frozen[0])


def test_the_code_of_a_graph_module_counts() -> None:
    def trace(function: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
        class Net(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return function(x)

        return torch.fx.symbolic_trace(Net())

    assert key(trace(torch.relu)) == key(trace(torch.relu))
    assert key(trace(torch.relu)) != key(trace(torch.tanh))


SCALE = 2.0


def scaled(x: torch.Tensor) -> torch.Tensor:
    return x * SCALE


def test_what_a_function_takes_from_its_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(small(lambda self, x: scaled(self.head(self.features(x)))))
    assert key(small(lambda self, x: scaled(self.head(self.features(x))))) == before
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert key(small(lambda self, x: scaled(self.head(self.features(x))))) != before


def test_a_zoos_model_is_told_by_its_weights_and_any_other_by_its_code_too() -> None:
    model = as_model(with_attribute(1))
    zoo = dataclasses.replace(model, architecture="torchvision/resnet18")
    assert model_sha256(zoo) == weights_sha256(model.module)
    assert model_sha256(model) != model_sha256(as_model(with_attribute(2)))
    assert model_sha256(model) == model_sha256(as_model(with_attribute(1)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
def test_torchscript_with_parts_has_a_key() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval()
    traced = [torch.jit.trace(network, torch.rand(1, 3)), torch.jit.script(network)]
    assert all(key(one) == key(one) for one in traced)


def test_what_torch_counts_does_not_change_the_key() -> None:
    def hooked() -> nn.Module:
        module = small()
        module.handle = module.register_forward_hook(lambda module, args, output: output)
        return module

    assert key(hooked()) == key(hooked())
