"""Networks with another head, ready to be trained."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from own_networks import ResNet20
from small_networks import Small, small
from toplabel.errors import ModelError
from toplabel.models.outputs import Scores
from toplabel.models.zoo_import import import_timm, import_torchvision
from toplabel.training.torch_network import (
    HeadedNetwork,
    parameter_groups,
    plain_network,
    with_fitted_head,
)


def headed(module: nn.Module, *, size: int, width: int, classes: int = 4) -> HeadedNetwork:
    numbers = np.random.default_rng(0)
    return with_fitted_head(
        module,
        example(size),
        weight=numbers.normal(size=(classes, width)).astype(np.float32),
        bias=numbers.normal(size=classes).astype(np.float32),
        name="mine",
    )


def example(size: int) -> Any:
    return np.random.default_rng(1).normal(size=(1, 3, size, size)).astype(np.float32)


def zoo(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet20":
        return ResNet20().eval()
    library, _, rest = name.partition("/")
    if library == "timm":
        return import_timm().create_model(rest, pretrained=False).eval()
    return getattr(import_torchvision().models, rest)(weights=None).eval()


NETWORKS = {
    "resnet20": (32, 64, "linear"),
    "timm/test_vit": (160, 64, "head"),
    "timm/test_efficientnet": (96, 256, "classifier"),
    "torchvision/mobilenet_v3_small": (64, 1024, "classifier.3"),
    "torchvision/squeezenet1_1": (64, 512, "classifier.1"),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_the_new_heads_on_the_networks_own_features(name: str) -> None:
    size, width, layer = NETWORKS[name]
    module = zoo(name)
    network = headed(module, size=size, width=width)
    batch = torch.randn(3, 3, size, size)
    taken: list[torch.Tensor] = []
    hook = module.get_submodule(layer).register_forward_pre_hook(lambda _, x: taken.append(x[0]))
    with torch.no_grad():
        module.eval()(batch)
        logits = network(batch)
    hook.remove()
    features = taken[0].flatten(2).mean(2) if taken[0].ndim == 4 else taken[0]
    weight = network.head.weight.flatten(1)
    assert network.head_name == layer
    assert torch.allclose(logits, functional.linear(features, weight, network.head.bias), atol=1e-4)


@pytest.mark.torch
def test_the_given_network_stays_as_it_is() -> None:
    module = small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = headed(module, size=33, width=32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert module.head.out_features == 7
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.torch
def test_what_a_network_does_behind_its_last_layer_is_left_out() -> None:
    times_five = small()  # its forward multiplies by 5
    network = headed(times_five, size=33, width=32)
    batch = torch.from_numpy(example(33))
    assert plain_network(network, example(33)) is network
    plain = headed(ResNet20().eval(), size=32, width=64)
    found = plain_network(plain, example(32))
    assert isinstance(found, ResNet20)
    assert found.linear.out_features == 4
    small_batch = torch.from_numpy(example(32))
    assert torch.equal(found(small_batch), plain(small_batch))
    features = functional.linear(times_five.features(batch), network.head.weight, network.head.bias)
    assert torch.equal(network(batch), features)


@pytest.mark.torch
def test_only_what_is_random_is_switched_on_for_training() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, 5),
    ).eval()
    network = headed(module, size=8, width=8)
    statistics = network.network[1].running_mean.clone()
    network.train()
    assert network.network[4].training
    batch = torch.randn(16, 3, 8, 8)
    assert not torch.equal(network(batch), network(batch))
    assert torch.equal(network.network[1].running_mean, statistics)
    network.eval()
    assert torch.equal(network(batch), network(batch))


@pytest.mark.torch
@pytest.mark.parametrize("name", ["resnet20", "timm/test_vit"])
def test_learning_rates_rise_with_depth_and_every_parameter_has_one(name: str) -> None:
    size, width, _ = NETWORKS[name]
    network = headed(zoo(name), size=size, width=width)
    groups = parameter_groups(network, example(size), rate=1e-3, decay=0.05)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-4)
    assert rates[-1] == 1e-3
    assert {id(p) for group in groups if group["lr"] == 1e-3 for p in group["params"]} == {
        id(parameter) for parameter in network.head.parameters()
    }
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


@pytest.mark.torch
def test_frozen_and_wrapped_networks_learn_all_the_same() -> None:
    module = small()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    network = headed(Scores(nn.DataParallel(module)), size=33, width=32)
    assert isinstance(network.network, Small)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.torch
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _scripted(), "it is a TorchScript program"),
        (lambda: _quantised(), "it is quantised"),
        (lambda: _exported(), "a program of torch.export"),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "it has no parameters"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 7, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            r"no linear layer makes the scores of its classes \(its last layer is '2'\)",
        ),
        (ResNet20, "'linear', takes 64 features, but the head was fitted to 32"),
    ],
    ids=["scripted", "quantised", "exported", "empty", "no head", "other features"],
)
def test_what_cannot_be_trained_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        headed(make(), size=32, width=32)


def _scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated; people have files of it
        return torch.jit.script(small())


def _quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(ResNet20().eval(), {nn.Linear})


def _exported() -> nn.Module:
    return torch.export.export(small(), (torch.zeros(2, 3, 33, 33),)).module()
