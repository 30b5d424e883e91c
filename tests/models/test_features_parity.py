"""Features of real architectures: as their libraries give them, in ONNX and in eager PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import onnxruntime as ort  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from toplabel.bundle.features import find_features, with_features, with_head  # noqa: E402
from toplabel.bundle.program import Program  # noqa: E402
from toplabel.errors import ModelError  # noqa: E402
from toplabel.inference.engines.torch_features import TakenBy, find_layer  # noqa: E402
from toplabel.models.compile.export import Exporter, export  # noqa: E402
from toplabel.models.zoo_import import import_timm, import_torchvision  # noqa: E402

CLASSES = 10

TORCHVISION = {  # D, and the module that gives the features, before they are flattened
    "resnet18": (512, "avgpool"),
    "mobilenet_v3_small": (1024, "classifier.2"),
    "efficientnet_b0": (1280, "avgpool"),
    "densenet121": (1024, "features"),
    "squeezenet1_1": (512, "features"),
    "shufflenet_v2_x0_5": (1024, "conv5"),
    "mnasnet0_5": (1280, "layers"),
    "regnet_y_400mf": (440, "avgpool"),
}
TIMM = {
    "vit_tiny_patch16_224": 192,
    "convnext_atto": 320,
    "regnetx_002": 368,
    "mobilenetv4_conv_small": 1280,
    "edgenext_xx_small": 168,
    "levit_128s": 384,
    "efficientnet_lite0": 1280,
}
FAST = ("squeezenet1_1",)


def case(name: str) -> Any:
    return pytest.param(name, marks=() if name in FAST else pytest.mark.slow)


def settle(network: nn.Module) -> nn.Module:
    """Weights and statistics as a trained network may have them."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
    return network.eval()


def compare(
    network: nn.Module, features: Callable[[torch.Tensor], torch.Tensor], size: int, folder: Path
) -> int:
    """D; each way's features are those that the library gives, and a new head takes them."""
    batch = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = features(batch).numpy()
        logits = network(batch).numpy()
        layer = find_layer(network, batch[:1])
        with TakenBy(layer) as taken:
            network(batch)
        eager = taken.rows(2).numpy()
    np.testing.assert_allclose(eager, expected, atol=1e-5)
    path = export(network, batch, folder, exporter=Exporter("torchscript", fixed_batch=False))
    program = Program(
        path=path, reference_path=path, key="0" * 64, input_name="input", output_name="logits",
        input_shape=(3, size, size), outputs=CLASSES, fixed_batch=False, exporter="", agreement={},
    )  # fmt: skip
    found, content = find_features(program), path.read_bytes()
    session = ort.InferenceSession(with_features(content, found))
    outputs, rows = session.run(None, {"input": batch.numpy()})
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    np.testing.assert_allclose(outputs, logits, atol=1e-3)
    weight = np.random.default_rng(0).normal(size=(3, found.size)).astype(np.float32)
    changed = ort.InferenceSession(with_head(content, found, weight, np.ones(3, np.float32)))
    answers = changed.run(None, {"input": batch.numpy()})[0]
    wanted = expected @ weight.T + 1
    np.testing.assert_allclose(answers, wanted, atol=1e-4 * max(1, np.ptp(wanted)))
    return found.size


@pytest.mark.parametrize("name", [case(name) for name in TORCHVISION])
def test_features_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    network = settle(import_torchvision().models.get_model(name, weights=None, num_classes=CLASSES))
    size, module = TORCHVISION[name]

    def features(batch: torch.Tensor) -> torch.Tensor:
        given: list[torch.Tensor] = []
        hook = network.get_submodule(module).register_forward_hook(
            lambda module, inputs, output: given.append(output.clone())
        )
        network(batch)
        hook.remove()
        maps = nn.functional.relu(given[0]) if name == "densenet121" else given[0]
        return maps.mean((2, 3)) if maps.ndim == 4 else maps

    assert compare(network, features, 64, tmp_path) == size


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_features_are_those_of_timm(name: str, tmp_path: Path) -> None:
    options = {"img_size": 64} if name.startswith("vit") else {}
    network = settle(import_timm().create_model(name, num_classes=CLASSES, **options))

    def features(batch: torch.Tensor) -> torch.Tensor:
        return network.forward_head(network.forward_features(batch), pre_logits=True)

    size = 224 if name.startswith("levit") else 64
    assert compare(network, features, size, tmp_path) == TIMM[name]


@pytest.mark.slow
def test_two_heads_on_different_tokens_are_refused_by_name() -> None:
    network = import_timm().create_model(
        "deit_tiny_distilled_patch16_224", num_classes=CLASSES, img_size=64, depth=1
    )
    with (
        torch.inference_mode(),
        pytest.raises(ModelError, match="2 linear layers that take different rows"),
    ):
        find_layer(network.eval(), torch.zeros(1, 3, 64, 64))
