"""Weights: a network and a state dict in; loaded exactly, or a difference that people can read."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from own_networks import Block, GreyNet, ResNet20
from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.state_dict_search import find_state_dict
from toplabel.models.fit.load_state_dict import load_state_dict
from toplabel.models.zoo_import import import_timm, import_torchvision


class LightningLike(nn.Module):
    """A network with what a training of it keeps beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = GreyNet(5)
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(5))
        self.register_buffer("class_weights", torch.ones(5))


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight


def resnet18() -> nn.Module:
    return import_torchvision().models.resnet18(num_classes=7)


def vit() -> nn.Module:
    return import_timm().create_model(
        "vit_tiny_patch16_224", num_classes=5, depth=2, img_size=32, pretrained=False
    )


FAMILIES = [lambda: ResNet20(10), lambda: GreyNet(3), resnet18, vit]


def trained(make, seed: int = 1) -> nn.Module:
    """A network whose every number differs from those of a new one."""
    module = make()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return module


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("make", "prefix"),
    list(zip(FAMILIES, ["", "module.", "model._orig_mod.", "net.backbone.x."], strict=True)),
)
def test_every_family_loads_exactly_under_any_prefix(make, prefix):
    module, saved = make(), trained(make)
    found = load_state_dict(
        module, {prefix + name: tensor for name, tensor in saved.state_dict().items()}
    )
    assert same(module, saved)
    assert (found.share, found.prefix, found.notes) == (1.0, prefix, ())


def test_real_wrappers_are_unwrapped():
    saved = trained(lambda: GreyNet(3))
    wrapped = copy.deepcopy(saved)
    wrapped.features = nn.DataParallel(wrapped.features)
    for wrapper in (
        nn.DataParallel(saved),
        torch.compile(saved, backend="eager"),
        nn.DataParallel(wrapped),
    ):
        module = GreyNet(3)
        load_state_dict(module, wrapper.state_dict())
        assert same(module, saved)
        other = torch.compile(nn.DataParallel(GreyNet(3)), backend="eager")
        load_state_dict(other, wrapper.state_dict())
        assert torch.equal(other.state_dict()["_orig_mod.module.head.bias"], saved.head.bias)


def test_what_training_keeps_beside_the_network_is_ignored_and_noted():
    saved = trained(LightningLike)
    module = GreyNet(5)
    found = load_state_dict(module, saved.state_dict())
    assert same(module, saved.model)
    assert found.prefix == "model."
    (note,) = found.notes
    assert note == "ignored, as not part of the network: class_weights, criterion.weight"


def test_a_nested_network_is_found_and_what_is_beside_it_told():
    saved = {f"net.student.{k}": v for k, v in trained(lambda: GreyNet(5)).state_dict().items()}
    beside = {"net.teacher.fc.weight": torch.ones(2, 7), "head.weight": torch.ones(2, 5)}
    module = GreyNet(5)
    found = load_state_dict(module, {**saved, **beside, "step": torch.tensor(9)})
    assert found.prefix == "net.student."
    assert found.left_out == {name: tuple(tensor.shape) for name, tensor in beside.items()}
    assert found.notes == ("ignored, as not part of the network: step",)
    assert all(torch.equal(v, saved[f"net.student.{k}"]) for k, v in module.state_dict().items())
    inside = {**saved, "net.student.extra.weight": torch.ones(2, 2)}
    with pytest.raises(CheckpointError, match="1 are unexpected"):
        load_state_dict(GreyNet(5), inside)


def test_an_adapter_beside_the_network_is_named():
    state = {**GreyNet(5).state_dict(), "fc.lora_A.weight": torch.ones(2, 5)}
    with pytest.raises(CheckpointError, match=r"fc\.lora_A\.weight is of an adapter.*merge_and"):
        load_state_dict(GreyNet(5), state)


def test_counters_of_a_profiler_or_an_average_are_noted():
    saved = trained(lambda: GreyNet(3))
    averaged = AveragedModel(saved)
    averaged.update_parameters(saved)
    module = GreyNet(3)
    found = load_state_dict(module, averaged.state_dict())
    assert same(module, saved)
    assert found.notes == ("ignored, as not part of the network: n_averaged",)
    counted = {"total_ops": torch.zeros(1).double(), "features.0.total_params": torch.zeros(1)}
    assert load_state_dict(GreyNet(3), {**saved.state_dict(), **counted}).share == 1


def test_files_of_old_without_num_batches_tracked_load():
    saved = trained(lambda: GreyNet(3))
    old = {k: v for k, v in saved.state_dict().items() if "num_batches" not in k}
    module = GreyNet(3)
    found = load_state_dict(module, old)
    assert same(module, saved)
    assert found.share == 1
    assert "no num_batches_tracked" in found.notes[0]


def test_half_precision_is_noted():
    saved = trained(lambda: GreyNet(3))
    module = GreyNet(3)
    found = load_state_dict(module, copy.deepcopy(saved).half().state_dict())
    assert found.notes == ("weights are float16 in the file and float32 in the network",)
    assert torch.equal(module.head.weight, saved.head.weight.half().float())


def test_integers_are_no_weights():
    state = GreyNet(3).state_dict()
    state["head.weight"] = torch.ones(3, 128, dtype=torch.int8)
    with pytest.raises(
        CheckpointError, match=r"head\.weight: the file has int8, the class .* float32"
    ):
        load_state_dict(GreyNet(3), state)


def test_tied_weights_may_be_there_once_but_not_differ():
    weight = torch.rand(4, 4)
    for state in ({"first.weight": weight}, {"m.second.weight": weight}):
        module = Tied()
        assert load_state_dict(module, state).share == 1
        assert torch.equal(module.first.weight, weight)
    load_state_dict(Tied(), {"first.weight": weight, "second.weight": weight.clone()})
    with pytest.raises(CheckpointError, match=r"different weights for first\.weight and second"):
        load_state_dict(Tied(), {"first.weight": weight, "second.weight": weight + 1})


def test_a_file_with_the_network_twice_is_not_chosen_from():
    student, teacher = (trained(lambda: GreyNet(3), seed).state_dict() for seed in (1, 2))
    both = {f"{who}.{k}": v for who, of in (("s", student), ("t", teacher)) for k, v in of.items()}
    with pytest.raises(CheckpointError, match=r"GreyNet 2 times.*under 's\.' and 't\.'"):
        load_state_dict(GreyNet(3), both)


def test_an_average_beside_the_network_is_left_out():
    saved = trained(lambda: GreyNet(3))
    both = {f"net.{k}": v for k, v in saved.state_dict().items()}
    both |= {f"net_ema.{k}": v * 2 for k, v in saved.state_dict().items()}
    module = GreyNet(3)
    assert "net_ema." in load_state_dict(module, both).notes[0]
    assert same(module, saved)
    averaged = GreyNet(3)
    load_state_dict(averaged, find_state_dict({"state_dict": both}, ema=True).state)
    assert torch.equal(averaged.head.weight, saved.head.weight * 2)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_class_that_renames_old_names_itself_loads():
    old = nn.utils.weight_norm(nn.Linear(3, 2))
    state = {f"net.{name}": tensor for name, tensor in old.state_dict().items()}
    module = parametrizations.weight_norm(nn.Linear(3, 2))
    found = load_state_dict(module, state)
    assert torch.equal(module.weight, old.weight)
    assert found.notes[-1] == "the class itself renames the tensors of the file"
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(CheckpointError, match="does not fit ParametrizedLinear"):
        load_state_dict(module, {**state, "net.weight_q": torch.ones(1, 1)})
    with pytest.raises(CheckpointError, match="does not fit ParametrizedLinear"):
        load_state_dict(module, {**state, "head.weight": torch.ones(1, 1)})
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_lazy_class_takes_the_files_shapes():
    saved = nn.Linear(5, 3)
    module = nn.LazyLinear(3)
    assert load_state_dict(module, {f"x.{k}": v for k, v in saved.state_dict().items()}).share == 1
    assert torch.equal(module.weight, saved.weight)


def lines_of(error: pytest.ExceptionInfo) -> list[str]:
    lines = str(error.value).splitlines()
    assert len(lines) <= 24
    return lines


def test_another_number_of_classes_is_recognised():
    with pytest.raises(CheckpointError) as error:
        load_state_dict(
            resnet18(),
            import_torchvision().models.resnet18(num_classes=3).state_dict(),
            name="a.pth",
        )
    assert lines_of(error) == [
        "a.pth does not fit ResNet: 120 of 122 tensors match, 0 are missing from the file,"
        " 0 are unexpected in it, 2 have a different shape or dtype",
        "  in both, but different:",
        "    fc.weight: the file has (3, 512), the class creates (7, 512)",
        "    fc.bias: the file has (3,), the class creates (7,)",
        '  the file has 3 outputs: try arch_args={"num_classes": 3}',
    ]


def test_another_number_of_channels_and_classes_is_recognised():
    models = import_timm()
    grey = models.create_model("resnet10t", num_classes=4, in_chans=1, pretrained=False)
    colour = models.create_model("resnet10t", num_classes=9, pretrained=False)
    with pytest.raises(CheckpointError) as error:
        load_state_dict(colour, {f"module.{k}": v for k, v in grey.state_dict().items()})
    assert [line for line in lines_of(error) if "arch_args" in line] == [
        '  the file has 4 outputs: try arch_args={"num_classes": 4}',
        '  the file has 1 input channel: try arch_args={"in_chans": 1}',
    ]


def test_another_architecture_is_recognised():
    with pytest.raises(CheckpointError) as error:
        load_state_dict(vit(), resnet18().state_dict())
    lines = lines_of(error)
    assert "0 of 32 tensors match, 32 are missing from the file, 102 are unexpected" in lines[0]
    assert lines[1] == "  missing from the file, in VisionTransformer, the first 10 of 32:"
    assert lines[12] == "  unexpected in the file, the first 10 of 102:"
    assert (
        lines[-1]
        == "  no name matches: this is another architecture, or another class of that name"
    )


def test_another_width_is_reported_within_a_screen():
    state = GreyNet(3, width=16).state_dict()
    state |= {f"extra.{i}.weight": torch.ones(1) for i in range(40)}
    module = GreyNet(3)
    for index in range(40):
        module.register_buffer(f"wanted{index}", torch.ones(1))
    with pytest.raises(
        CheckpointError, match=r"features\.0\.weight: the file has \(16, 1, 3, 3\)"
    ) as error:
        load_state_dict(module, state)
    lines_of(error)


def test_a_backbone_without_its_classifier_is_recognised():
    state = {k: v for k, v in resnet18().state_dict().items() if not k.startswith("fc.")}
    with pytest.raises(CheckpointError, match=r"layers that the file lacks, such as a classifier"):
        load_state_dict(resnet18(), state)


def test_partly_is_only_on_demand_and_says_how_much():
    saved = trained(resnet18)
    state = {k: v for k, v in saved.state_dict().items() if not k.startswith("layer4.")}
    state["fc.weight"] = torch.ones(3, 512)
    module = resnet18()
    fresh = module.fc.weight.detach().clone()
    found = load_state_dict(module, {f"m.{k}": v for k, v in state.items()}, allow_partial=True)
    loaded = sum(p.numel() for n, p in module.named_parameters() if n in state and n != "fc.weight")
    assert found.share == loaded / sum(p.numel() for p in module.parameters())
    assert 0.2 < found.share < 0.3
    assert torch.equal(module.conv1.weight, saved.conv1.weight)
    assert torch.equal(module.fc.weight, fresh)
    (note,) = found.notes
    assert note.startswith(f"only {found.share:.1%} of the parameters of ResNet were loaded")
    assert note.count("layer4.") == 10
    assert "and 21 more" in note


def test_partly_with_layers_to_spare_says_so():
    found = load_state_dict(
        GreyNet(3), {**GreyNet(3).state_dict(), "x.y": torch.ones(1)}, allow_partial=True
    )
    assert found.share == 1
    assert found.notes == (
        "the whole network was loaded, but not the whole file; answers may be wrong",
    )


def test_nothing_at_all_is_an_error_even_so():
    with pytest.raises(CheckpointError, match=r"(?s)nothing of best\.pth could.*no name matches"):
        load_state_dict(GreyNet(3), resnet18().state_dict(), allow_partial=True, name="best.pth")


@pytest.fixture
def resnet20(shared_data) -> dict:
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.shared_data
def test_a_real_checkpoint_loads_with_its_class(resnet20, shared_data):
    contents = find_state_dict(resnet20)
    assert contents.where == "state_dict"
    module = ResNet20().eval()
    found = load_state_dict(module, contents.state)
    assert (found.share, found.prefix) == (1.0, "module.")
    reference = json.loads((shared_data / "reference" / "resnet20_cifar10.json").read_text())
    names = list(reference["index"])[::25]
    from PIL import Image
    from torchvision.transforms.functional import normalize, to_tensor

    batch = torch.stack(
        [
            normalize(
                to_tensor(Image.open(shared_data / "cifar10-test" / name)),
                reference["mean"],
                reference["std"],
            )
            for name in names
        ]
    )
    with torch.no_grad():
        found_indices = module(batch).argmax(1).tolist()
    assert found_indices == [reference["index"][name] for name in names]


@pytest.mark.shared_data
def test_a_real_checkpoint_with_a_class_that_lacks_layers_stops(resnet20):
    """strict=False would load it, with 10 unexpected keys, and be right one time in ten."""

    class Lesser(ResNet20):
        def __init__(self) -> None:
            super().__init__()
            for block in (self.layer2[0], self.layer3[0]):
                assert isinstance(block, Block)
                block.bn2 = nn.Identity()

    with pytest.raises(CheckpointError) as error:
        load_state_dict(Lesser(), find_state_dict(resnet20).state, name="resnet20-12fca82f.th")
    lines = lines_of(error)
    unexpected = [line for line in lines if line.startswith("    ")]
    assert "0 are missing from the file" in lines[0]
    assert 8 <= len(unexpected) <= 10
    assert "    module.layer2.0.bn2.weight (32,)" in unexpected
    assert "pass the class that it was trained with" in lines[-1]


def test_a_network_that_asks_for_its_version_gets_it() -> None:
    from toplabel.models.zoo_import import import_torchvision

    build = import_torchvision().models.mnasnet0_5
    state = dict(build(num_classes=3).state_dict())
    module = build(num_classes=3)
    assert (
        load_state_dict(module, {f"module.{name}": tensor for name, tensor in state.items()}).share
        == 1
    )
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
