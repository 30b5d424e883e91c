"""A network and a fitted head in; the same network with that head, ready to be trained, out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toplabel._internal.optional import require
from toplabel._internal.platform import written_aside
from toplabel._internal.text import first_line
from toplabel._version import __version__
from toplabel.errors import BundleError, ModelError
from toplabel.models.outputs import Scores
from toplabel.models.sources.as_written import AsWritten
from toplabel.training.result import WEIGHTS_MARK

_GROUPS = 12
"""Groups of layers with a learning rate of their own, at most; then the head."""

_FIRST_RATE = 0.1
"""Of the first group, as a share of the head's; those between lie on a geometric line."""

_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class HeadedNetwork(nn.Module):
    """A network whose answer is what its last linear layer gives, whatever it does with that.

    Of maps, which a 1x1 convolution gives, it is their mean.

    Args:
        network: Its parameters may be trained.
        head: The name of that layer in it.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network = network
        self.head_name = head
        self._given: list[torch.Tensor] = []
        self.head.register_forward_hook(self._keep)

    @property
    def head(self) -> nn.Module:
        """The last linear layer."""
        return self.network.get_submodule(self.head_name)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits, (N, K), for a float32 (N, C, H, W) batch."""
        self.network(batch)
        logits = self._given.pop()
        self._given.clear()
        return logits

    def train(self, mode: bool = True) -> HeadedNetwork:
        """Switch on what is random in training (dropout, stochastic depth), and nothing else.

        Statistics of batch normalisation stay those of pre-training: a handful of photos gives none
        that are better, and a forward of a part of a batch equals that of the whole. Its scales and
        offsets are learned. Layers that hold others stay in eval mode, too: some give other outputs
        in training.
        """
        self.training = mode
        for part in self.network.modules():
            is_random = not isinstance(part, _BATCH_NORM) and not any(True for _ in part.children())
            part.training = mode and is_random
        return self

    def _keep(self, _layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        # a tensor of its own: what follows in the network may work in place
        self._given.append(output.flatten(2).mean(2) if output.ndim > 2 else output.clone())


def with_fitted_head(
    module: nn.Module,
    example: NDArray[np.float32],
    *,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    name: str,
) -> HeadedNetwork:
    """A copy of a classifier with another last layer, which gives the logits of other classes.

    Args:
        module: A classifier in eval mode, on the CPU, in float32, as `Classifier.lazy_module` has
            it.
        example: What it takes, float32 (1, C, H, W).
        weight: (K, D), of the new layer.
        bias: (K,).
        name: The model's, for messages.

    Raises:
        ModelError: It cannot be trained, or has no linear layer that makes its scores; says why.
    """
    network = _trainable_copy(module, name)
    head = _find_head(network, torch.from_numpy(example), name=name)
    old = network.get_submodule(head)
    takes = _width(old)[0]
    if takes != weight.shape[1]:
        raise ModelError(
            f"{name} cannot be fine-tuned: its last linear layer, {head!r}, takes {takes} features,"
            f" but the head was fitted to {weight.shape[1]}"
        )
    _replace(network, head, _new_head(old, weight, bias))
    return HeadedNetwork(network, head).eval()


def check_trainable(module: nn.Module, example: NDArray[np.float32], *, name: str) -> None:
    """Stop where `with_fitted_head` would, whatever the head.

    Raises:
        ModelError: As there.
    """
    _find_head(_trainable_copy(module, name), torch.from_numpy(example), name=name)


def plain_network(headed: HeadedNetwork, example: NDArray[np.float32]) -> nn.Module:
    """The network itself where its outputs are the head's; else it stays behind what takes these.

    A softmax behind the last layer is such a case.
    """
    batch = torch.from_numpy(example)
    network = copy.deepcopy(headed.eval()).network
    network.get_submodule(headed.head_name)._forward_hooks.clear()
    with torch.no_grad():
        given, expected = network(batch.clone()), headed(batch.clone())
    same = isinstance(given, torch.Tensor) and given.shape == expected.shape
    return network if same and torch.equal(given, expected) else headed


def save_weights(
    path: Path,
    headed: HeadedNetwork,
    *,
    temperature: float,
    log_prior: NDArray[np.float32] | None,
    metadata: Mapping[str, str],
) -> None:
    """Write a network's state dict as safetensors, with temperature and prior in its head.

    Its logits are then those that scores are made of, so that whoever loads the file gets the
    bundle's labels and scores.

    Args:
        path: Of the file.
        headed: The network.
        temperature: That its logits are divided by.
        log_prior: float32 (K,), what is added to them then; None: nothing.
        metadata: What the file says of itself.

    Raises:
        BundleError: It cannot be written.
    """
    safetensors = require(
        "safetensors.torch", extra="torch", purpose="saving the weights of a network"
    )
    state = {name: one.detach().clone() for name, one in headed.network.state_dict().items()}
    weight, bias = f"{headed.head_name}.weight", f"{headed.head_name}.bias"
    state[weight] /= temperature
    state[bias] /= temperature
    if log_prior is not None:
        state[bias] += torch.from_numpy(log_prior)
    contiguous = {name: one.contiguous() for name, one in state.items()}
    try:
        with written_aside(path) as aside:
            told = {WEIGHTS_MARK: __version__, **metadata}
            aside.write_bytes(safetensors.save(contiguous, metadata=told))  # its mode is as usual
    except Exception as error:  # OSError, or safetensors' own
        raise BundleError(f"cannot write {str(path)!r}: {first_line(error)}") from error


def parameter_groups(
    headed: HeadedNetwork, example: NDArray[np.float32], *, rate: float, decay: float
) -> list[dict[str, Any]]:
    """What an optimiser takes: a learning rate for each depth, the first layers' the lowest.

    Depth is the order in which a forward comes to the layers that hold parameters. Biases, scales
    and other vectors have no weight decay.
    """
    order = _order_of_use(headed.network, torch.from_numpy(example))
    in_head = {id(parameter) for parameter in headed.head.parameters()}
    last = max(order.values(), default=0) + 1
    depths: dict[nn.Parameter, float] = {}  # of one that several layers share, the first's
    for owner in headed.network.modules():
        place = order.get(id(owner), 0) * _GROUPS // last
        for parameter in owner.parameters(recurse=False):
            depths.setdefault(parameter, 1.0 if id(parameter) in in_head else place / _GROUPS)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter, depth in depths.items():
        groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate * _FIRST_RATE ** (1 - depth),
            "weight_decay": decay if is_matrix else 0.0,
        }
        for (depth, is_matrix), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _trainable_copy(module: nn.Module, name: str) -> nn.Module:
    """The network within what toplabel and PyTorch put around it, copied, all of it learning."""
    inner = _unwrapped(module)
    problem = _what_forbids(inner)
    if problem:
        raise ModelError(
            f"{name} cannot be fine-tuned: {problem}; load the network that it was made from, or"
            " train without fine_tune"
        )
    try:
        network = copy.deepcopy(inner)
    except Exception as error:  # other people's code
        reason = first_line(error)
        raise ModelError(f"{name} cannot be fine-tuned: it cannot be copied: {reason}") from error
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        if isinstance(module, Scores | AsWritten):
            module = module.network
        elif isinstance(module, _WRAPPERS):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile's
            module = inner
        else:
            return module


def _what_forbids(network: nn.Module) -> str:
    """Why a network cannot learn; empty where nothing is known to forbid it."""
    if isinstance(network, torch.jit.ScriptModule):
        return "it is a TorchScript program"
    if isinstance(network, torch.fx.GraphModule) and "train" in vars(network):  # which raises
        return "it is a program of torch.export"
    if any("quantized" in type(part).__module__.split(".") for part in network.modules()):
        return "it is quantised"
    parameters = [*network.parameters()]
    if not parameters:
        return "it has no parameters"
    if not all(parameter.is_floating_point() for parameter in parameters):
        return "some of its parameters are whole numbers"
    return ""


def _find_head(network: nn.Module, example: torch.Tensor, *, name: str) -> str:
    """The name of the last layer that makes a row of numbers of features, linearly."""
    seen = [one for one in _run(network, example) if one[0]]
    linear = [n for n, part, out in seen if _is_linear(part) and _is_row(out, _width(part)[1])]
    if linear:
        return linear[-1]
    last = seen[-1][0] if seen else type(network).__name__
    raise ModelError(
        f"{name} cannot be fine-tuned: no linear layer makes the scores of its classes (its last"
        f" layer is {last!r}); expected an nn.Linear, or a 1x1"
        " convolution, as the last one"
    )


def _run(network: nn.Module, example: torch.Tensor) -> list[tuple[str, nn.Module, Any]]:
    """One forward: the modules that were used, in that order, each with its name and output."""
    seen: list[tuple[str, nn.Module, Any]] = []

    def hook_of(name: str) -> Any:
        return lambda part, _inputs, output: seen.append((name, part, output))

    hooks = [part.register_forward_hook(hook_of(name)) for name, part in network.named_modules()]
    try:
        with torch.no_grad():
            network(example.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _is_linear(part: nn.Module) -> bool:
    if isinstance(part, nn.Conv2d):
        return part.kernel_size == (1, 1) and part.groups == 1
    return isinstance(part, nn.Linear)


def _is_row(output: object, width: int) -> bool:
    """Whether it is one number a class for the one image, (1, K), or a map of them."""
    return (
        isinstance(output, torch.Tensor)
        and tuple(output.shape[:2]) == (1, width)
        and output.ndim in (2, 4)
    )


def _width(layer: nn.Module) -> tuple[int, int]:
    """How many numbers it takes for an image, and how many it gives."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    assert isinstance(layer, nn.Linear)
    return layer.in_features, layer.out_features


def _new_head(
    old: nn.Module, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> nn.Linear | nn.Conv2d:
    classes, size = weight.shape
    new: nn.Linear | nn.Conv2d
    new = nn.Conv2d(size, classes, 1) if isinstance(old, nn.Conv2d) else nn.Linear(size, classes)
    with torch.no_grad():
        new.weight.copy_(torch.tensor(weight).reshape(new.weight.shape))
        assert new.bias is not None
        new.bias.copy_(torch.tensor(bias))
    return new


def _replace(network: nn.Module, name: str, layer: nn.Linear | nn.Conv2d) -> None:
    parent, _, own = name.rpartition(".")
    before = network.get_submodule(name)
    setattr(network.get_submodule(parent), own, layer)
    counts = _width(before)[1], _width(layer)[1]
    for part in network.modules():  # some reshape by it
        for attribute in ("num_classes", "n_classes", "num_labels"):
            if vars(part).get(attribute) == counts[0]:
                setattr(part, attribute, counts[1])


def _order_of_use(network: nn.Module, example: torch.Tensor) -> dict[int, int]:
    """The place of each module in a forward, from 0, by its id; of what is used twice the first."""
    order: dict[int, int] = {}
    for _, part, _ in _run(network, example):
        if any(True for _ in part.parameters(recurse=False)):
            order.setdefault(id(part), len(order))
    return order
