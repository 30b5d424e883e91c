"""Heads that people put onto a library's network: rebuilt from their tensors."""

from collections import OrderedDict

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch  # noqa: E402
from torch import nn  # noqa: E402

from toplabel.models.architectures.build import build  # noqa: E402
from toplabel.models.architectures.choose import choose  # noqa: E402
from toplabel.models.architectures.identify import identify, matching_state  # noqa: E402
from toplabel.models.zoo_import import import_timm, import_torchvision  # noqa: E402


def network(name: str, place: str, head: nn.Module) -> nn.Module:
    """A zoo's network with another head, in eval mode, its weights drawn."""
    library, _, bare = name.partition("/")
    torch.manual_seed(0)
    module: nn.Module = (
        import_timm().create_model(bare)
        if library == "timm"
        else import_torchvision().models.get_model(bare)
    )
    parent, _, own = place.rpartition(".")
    setattr(module.get_submodule(parent), own, head)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def named(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict((f"part{'abcdefg'[i]}", m) for i, m in enumerate(layers)))


HEADS = {
    "dropout first": ("fc", 1024, lambda d: nn.Sequential(nn.Dropout(), nn.Linear(d, 5))),
    "one layer": ("fc", 1024, lambda d: nn.Sequential(nn.Linear(d, 5))),
    "no bias": ("fc", 1024, lambda d: nn.Linear(d, 5, bias=False)),
    "two layers": (
        "fc",
        1024,
        lambda d: nn.Sequential(
            nn.Dropout(), nn.Linear(d, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 5)
        ),
    ),
    "three layers": (
        "fc",
        1024,
        lambda d: nn.Sequential(
            nn.Linear(d, 24), nn.ReLU(), nn.Linear(24, 9), nn.ReLU(), nn.Linear(9, 5)
        ),
    ),
    "batch norms": (
        "fc",
        1024,
        lambda d: nn.Sequential(
            nn.BatchNorm1d(d),
            nn.Dropout(),
            nn.Linear(d, 24, bias=False),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.Linear(24, 5),
        ),
    ),
    "no activation": ("fc", 1024, lambda d: nn.Sequential(nn.Linear(d, 24), nn.Linear(24, 5))),
    "names": ("fc", 1024, lambda d: named(nn.Linear(d, 24), nn.ReLU(), nn.Linear(24, 5))),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_rebuilt(kind: str) -> None:
    place, width, make = HEADS[kind]
    module = network("torchvision/shufflenet_v2_x0_5", place, make(width))
    (candidate,) = identify(shapes_of(module))
    assert (candidate.name, candidate.classes) == ("shufflenet_v2_x0_5", 5)
    assert candidate.head is not None
    linear = [part for part in module.fc.modules() if isinstance(part, nn.Linear)]
    assert candidate.head.guesses == (len(linear) > 1)
    (((_, rebuilt),),) = choose([candidate], module.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(rebuilt(images), module(images))


@pytest.mark.parametrize(
    ("name", "place", "width"),
    [
        ("torchvision/mobilenet_v2", "classifier", 1280),
        ("torchvision/mobilenet_v2", "classifier.1", 1280),
        ("torchvision/mobilenet_v3_small", "classifier", 576),
        ("torchvision/mobilenet_v3_small", "classifier.3", 1024),
        ("torchvision/efficientnet_b0", "classifier", 1280),
        ("torchvision/densenet121", "classifier", 1024),
        ("torchvision/convnext_tiny", "classifier.2", 768),
        ("torchvision/vit_b_16", "heads", 768),
        ("torchvision/swin_t", "head", 768),
        ("torchvision/vgg11", "classifier", 25088),
        ("torchvision/vgg11", "classifier.6", 4096),
        ("torchvision/alexnet", "classifier", 9216),
        ("timm/mobilenetv3_small_050", "classifier", 1024),
        ("timm/convnext_atto", "head.fc", 320),
    ],
)
def test_the_part_that_was_replaced_is_found(name: str, place: str, width: int) -> None:
    with torch.device("meta"):
        head = nn.Sequential(nn.Dropout(), nn.Linear(width, 40), nn.ReLU(), nn.Linear(40, 7))
        module = network(name, place, head)
    found = identify({f"module.{name}": shape for name, shape in shapes_of(module).items()})
    (candidate,) = [one for one in found if f"{one.library}/{one.name}" == name][:1]
    assert candidate.head is not None
    assert (candidate.head.place, candidate.classes) == (place, 7)
    assert str(candidate.head) == f"Linear({width}, 40), ReLU, Linear(40, 7)"
    with torch.device("meta"):
        assert shapes_of(build(candidate)) == shapes_of(module)


def test_layers_that_do_not_follow_one_another_are_no_head() -> None:
    for head in (
        nn.Sequential(nn.Linear(1024, 24), nn.Linear(25, 5)),
        nn.Sequential(nn.Linear(1024, 24), nn.Conv1d(24, 5, 1)),
        nn.Sequential(nn.Sequential(nn.Linear(1024, 5))),
        nn.Sequential(nn.Linear(1024, 5), nn.PReLU()),
        nn.ModuleDict({"a": nn.Linear(1024, 5), "b": nn.Linear(1024, 5)}),
    ):
        module = network("torchvision/shufflenet_v2_x0_5", "fc", head)
        assert identify(shapes_of(module)) == ()


def test_auxiliary_classifiers_of_training_are_left_out() -> None:
    models = import_torchvision().models
    with torch.device("meta"):
        module = models.get_model("googlenet", init_weights=False)
        module.fc = nn.Linear(1024, 5)
    shapes = shapes_of(module)
    found = identify(shapes)
    assert {(one.name, one.classes) for one in found} == {("googlenet", 5)}
    assert all(one.arguments["aux_logits"] is False for one in found)
    left = set(found[0].unused)
    assert left == {name for name in shapes if name.startswith(("aux1.", "aux2."))}
    assert matching_state(found[0], shapes).keys() == shapes.keys() - left


def test_a_resnet_of_mmpretrain_is_torchvisions_under_other_names() -> None:
    module = import_torchvision().models.get_model("resnet18", num_classes=5).eval()
    state = {
        f"head.{name}" if name.startswith("fc.") else f"backbone.{name}": tensor
        for name, tensor in module.state_dict().items()
    }
    state["data_preprocessor.mean"] = torch.zeros(3, 1, 1)
    found = identify({name: tuple(tensor.shape) for name, tensor in state.items()})
    (candidate,) = [one for one in found if (one.library, one.name) == ("torchvision", "resnet18")]
    assert candidate.unused == ("data_preprocessor.mean",)
    (((_, rebuilt),),) = choose([candidate], state)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(rebuilt(images), module(images))
