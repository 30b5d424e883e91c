"""FoundStateDict: every nesting that people save in, the state dict and the hints in it out."""

import argparse
import copy
import json
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from own_networks import GreyNet
from toplabel.errors import CheckpointError, ToplabelWarning
from toplabel.labels.labels import Labels
from toplabel.models import transforms
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.models.checkpoint.info import TensorInfo, UnknownObject
from toplabel.models.checkpoint.reading import read_checkpoint
from toplabel.models.checkpoint.state_dict_search import (
    check_no_adapter_alone,
    find_state_dict,
    flatten_module,
)

NAMES = ["ant", "bee", "cat"]


def as_infos(value: object, known: dict[int, TensorInfo] | None = None) -> object:
    """The value with a `TensorInfo` in place of each tensor, each once."""
    known = {} if known is None else known
    if torch.is_tensor(value):
        told = TensorInfo(str(value.dtype).removeprefix("torch."), tuple(value.shape))
        return known.setdefault(id(value), told)
    if isinstance(value, dict):
        return {key: as_infos(inner, known) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_infos(inner, known) for inner in value)
    if isinstance(value, argparse.Namespace):
        return UnknownObject("argparse.Namespace", as_infos(vars(value), known))
    return value


def optimizer_state(module: nn.Module) -> dict:
    module = copy.deepcopy(module)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return GreyNet(3)


@pytest.fixture(scope="module")
def average(net: nn.Module) -> nn.Module:
    averaged = AveragedModel(net)
    averaged.update_parameters(net)
    return averaged


@pytest.fixture(scope="module")
def containers(net: nn.Module, average: nn.Module) -> dict[str, tuple[object, str]]:
    """Name of the habit -> what is saved, and where the state dict is in it."""
    state = net.state_dict()
    ema = OrderedDict((name, tensor * 2) for name, tensor in state.items())
    adam = optimizer_state(net)
    return {
        "bare": (state, ""),
        "bare with a counter": ({**state, "epoch": 3, "best": torch.tensor(0.9)}, ""),
        "state_dict": (
            {"epoch": 90, "state_dict": state, "best_prec1": torch.tensor(91.7), "optimizer": adam},
            "state_dict",
        ),
        "model_state_dict": (
            {"model_state_dict": state, "optimizer_state_dict": adam, "loss": 0.1},
            "model_state_dict",
        ),
        "net": ({"net": state, "acc": 93.1, "epoch": 1}, "net"),
        "weights beside vectors": (
            {"params": state, "class_weights": torch.ones(3), "scaler": {"scale": torch.ones(1)}},
            "params",
        ),
        "unusual": ({"the_good_one": state, "notes": ["a", "b"]}, "the_good_one"),
        "encoder": ({"encoder": state, "criterion": {"weight": torch.randn(400, 400)}}, "encoder"),
        "two deep": ({"checkpoint": {"model": state, "epoch": 1}}, "checkpoint.model"),
        "fastai": ({"model": state, "opt": adam}, "model"),
        "a tuple": ((state, 12), "0"),
        "larger optimizer": ({"weights": state, "exp_avg": ema, "exp_avg_sq": ema}, "weights"),
        "its optimizer in a list": (
            {"model": state, "optimizer_states": [adam], "lr_schedulers": [{"last_lr": [0.1]}]},
            "model",
        ),
        "timm": (
            {
                "epoch": 3,
                "arch": "resnet10t",
                "state_dict": state,
                "state_dict_ema": ema,
                "args": argparse.Namespace(model="resnet10t.custom", lr=0.1, amp=True),
                "amp_scaler": {"scale": 65536.0},
            },
            "state_dict",
        ),
        "deit": ({"model": state, "model_ema": ema, "scaler": {}}, "model"),
        "average in a mapping": ({"model": state, "ema": {"decay": 0.9, "shadow": ema}}, "model"),
        "averaged model beside": ({"net": state, "swa": average.state_dict()}, "net"),
        "averaged model alone": (average.state_dict(), ""),
        "average alone": ({"model_ema": ema}, "model_ema"),
        "lightning": (
            {
                "pytorch-lightning_version": "2.5.0",
                "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
                "hyper_parameters": {"lr": 0.1},
                "callbacks": {"EMACallback{'decay': 0.9}": {"ema_state_dict": ema}},
                "optimizer_states": [adam],
                "loops": {"fit_loop": {"state_dict": {}}},
            },
            "state_dict",
        ),
        "student and a much larger teacher's name": ({"model": state, "teacher": ema}, "model"),
        "one network under two keys": ({"model": state, "state_dict": state}, "model"),
    }


HABITS = [
    "bare", "bare with a counter", "state_dict", "model_state_dict", "net",
    "weights beside vectors", "unusual", "encoder", "two deep", "fastai", "a tuple",
    "larger optimizer", "its optimizer in a list", "timm", "deit", "average in a mapping",
    "averaged model beside", "averaged model alone", "average alone", "lightning",
    "student and a much larger teacher's name", "one network under two keys",
]  # fmt: skip


def test_every_habit_is_tested(containers):
    assert sorted(containers) == sorted(HABITS)


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("only_infos", [False, True])
def test_the_state_dict_is_found_in(habit, only_infos, net, containers):
    content, where = containers[habit]
    found = find_state_dict(as_infos(content) if only_infos else content)
    assert found.where == where
    expected = net.state_dict()
    bare = {
        name.removeprefix("module.").removeprefix("model."): t for name, t in found.state.items()
    }
    assert expected.keys() <= bare.keys()
    for name, tensor in expected.items():
        assert tuple(bare[name].shape) == tuple(tensor.shape)
        if not only_infos and habit != "average alone":
            assert torch.equal(bare[name].to(tensor.dtype), tensor)


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("zipped", [True, False])
def test_header_and_tensors_give_the_same_state_dict(habit, zipped, containers, tmp_path):
    content, where = containers[habit]
    path = tmp_path / "last.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    info = read_checkpoint_info(path)
    told = find_state_dict(info.content)
    read = find_state_dict(read_checkpoint(info))
    assert told.where == read.where == where
    assert told.architecture == read.architecture
    assert told.hyper_parameters == read.hyper_parameters
    assert {name: t.shape for name, t in told.state.items()} == {
        name: tuple(t.shape) for name, t in read.state.items()
    }


def test_the_header_of_a_whole_module_gives_its_state_dict(net, tmp_path):
    torch.save({"model": net, "names": dict(enumerate(NAMES))}, tmp_path / "best.pt")
    found = find_state_dict(read_checkpoint_info(tmp_path / "best.pt").content)
    assert dict(found.state) == as_infos(dict(net.state_dict()))
    assert (found.where, found.labels_where) == ("model", "names")


@pytest.mark.parametrize(
    ("habit", "where"),
    [
        ("timm", "state_dict_ema"),
        ("deit", "model_ema"),
        ("average in a mapping", "ema.shadow"),
        ("averaged model beside", "swa"),
        ("averaged model alone", ""),
        ("average alone", "model_ema"),
        ("lightning", "callbacks.EMACallback{'decay': 0.9}.ema_state_dict"),
    ],
)
def test_an_average_is_taken_when_asked_for(habit, where, containers):
    content, _ = containers[habit]
    assert find_state_dict(content, ema=True).where == where
    usual = find_state_dict(content)
    assert where == usual.where or where in usual.others


@pytest.mark.parametrize("habit", ["bare", "state_dict", "fastai", "larger optimizer"])
def test_no_average_is_an_error_with_what_there_is(habit, containers):
    content, where = containers[habit]
    with pytest.raises(CheckpointError, match=rf"no moving average.*{where or 'top level'}"):
        find_state_dict(content, ema=True)


def test_an_average_inside_the_state_dict_is_distinguished(net):
    state = net.state_dict()
    content = {
        "state_dict": {
            **{f"net.{name}": tensor for name, tensor in state.items()},
            **{f"ema_net.module.{name}": tensor * 3 for name, tensor in state.items()},
            "ema_net.n_averaged": torch.tensor(7),
        }
    }
    usual = find_state_dict(content)
    assert set(usual.state) == {f"net.{name}" for name in state}
    assert usual.others == ("state_dict.ema_net.*",)
    averaged = find_state_dict(content, ema=True)
    assert averaged.where == "state_dict.ema_net."[:-1]
    assert torch.equal(averaged.state["net.head.weight"], state["head.weight"] * 3)


def test_an_average_without_dots_and_without_statistics_is_distinguished(net):
    """As latent diffusion's LitEma names it: parameters only, all dots dropped."""
    state = net.state_dict()
    averaged = {
        f"model_ema.{name.replace('.', '')}": parameter.detach() + 1
        for name, parameter in net.named_parameters()
    }
    content = {"state_dict": {**{f"model.{k}": v for k, v in state.items()}, **averaged}}
    assert set(find_state_dict(content).state) == {f"model.{name}" for name in state}
    found = find_state_dict(content, ema=True).state
    assert torch.equal(found["model.head.weight"], state["head.weight"] + 1)
    assert torch.equal(found["model.features.1.running_mean"], state["features.1.running_mean"])


def test_an_attention_that_is_called_ema_stays(net):
    state = {}
    for block in ("block1", "block2"):
        state |= {f"{block}.conv.weight": torch.ones(8, 8, 3, 3)}
        state |= {f"{block}.ema.conv1x1.weight": torch.ones(8, 8, 1, 1)}
    assert find_state_dict(state).state == state


def test_lightnings_averaging_puts_the_average_in_the_place_of_the_weights(net):
    state = net.state_dict()
    content = {
        "state_dict": state,
        "current_model_state": {name: tensor * 2 for name, tensor in state.items()},
        "averaging_state": {"n_averaged": torch.tensor(3)},
    }
    for ema in (False, True):
        assert find_state_dict(content, ema=ema).where == "state_dict"


def test_networks_of_equal_standing_are_listed(net):
    state = net.state_dict()
    content = {"netG": state, "netD": {name: tensor * 2 for name, tensor in state.items()}}
    found = find_state_dict(content)
    assert re.search(r"several networks.*netG \(.*netD \(.*state_dict='netG'", found.unclear)
    assert [part.where for part in found.parts] == ["netD"]


def test_one_of_several_is_taken_by_its_key_or_prefix(net):
    state = net.state_dict()
    doubled = {name: tensor * 2 for name, tensor in state.items()}
    content = {
        "a": {"netG": state, "netD": doubled},
        "both": {f"{k}.{n}": t for k, s in (("x", state), ("y", doubled)) for n, t in s.items()},
    }
    for key in ("a.netD", "y", "y.", "both.y", "both.y."):
        found = find_state_dict(content, key=key)
        assert found.state.keys() == state.keys()
        assert all(torch.equal(found.state[name], doubled[name]) for name in state)
        assert (found.unclear, found.parts, found.averages) == ("", (), ())
    with pytest.raises(CheckpointError, match=r"state_dict='z'.*a\.netG \("):
        find_state_dict(content, key="z")


def test_averages_and_parts_beside_the_weights_are_told(net):
    state = net.state_dict()
    head = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    found = find_state_dict({"model": state, "ema": {"shadow": dict(state)}, "head": head})
    assert found.averages == ("ema.shadow",)
    assert [str(part) for part in found.parts] == ["head (2 tensors, 8 numbers)"]
    swapped = {"meta": {"mmengine_version": "0.10"}, "state_dict": state, "ema_state_dict": state}
    for ema in (False, True):  # mmengine exchanges them on saving
        found = find_state_dict(swapped, ema=ema)
        assert (found.where, found.averages) == ("state_dict", ())


def test_an_average_under_flat_names_is_distinguished(net):
    """As mmcv's EMAHook keeps it: `ema_backbone_features_0_weight`."""
    state = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
    flat = {f"ema_{name.replace('.', '_')}": tensor * 2 for name, tensor in state.items()}
    found = find_state_dict({"state_dict": {**state, **flat}})
    assert found.state.keys() == state.keys()
    assert found.averages == ("state_dict.ema_*",)
    averaged = find_state_dict({"state_dict": {**state, **flat}}, ema=True).state
    name = next(iter(state))
    assert torch.equal(averaged[name], state[name] * 2)


def test_matrices_beside_the_network_are_no_parts_of_it(net):
    beside = {"confusion": torch.eye(8), "centers": torch.ones(2, 8), "hist": [torch.ones(2, 2)]}
    assert find_state_dict({"state_dict": net.state_dict(), **beside}).parts == ()
    head = {"weight": torch.ones(2, 8), "bias": torch.ones(2)}
    assert len(find_state_dict({"state_dict": net.state_dict(), "head": head}).parts) == 1


def test_an_adapter_alone_is_named():
    for name in ("base_model.model.fc.lora_A.default.weight", "unet.lora_down.weight", "a.ia3_l"):
        with pytest.raises(CheckpointError, match=r"an adapter alone \(LoRA"):
            check_no_adapter_alone({name: torch.ones(2, 2)})
    check_no_adapter_alone({"adaptive.weight": torch.ones(2, 2), "colora.weight": torch.ones(2)})


@pytest.mark.parametrize(
    "content",
    [
        {}, [], None, 3, "text", b"bytes", {"epoch": 3}, {"loss": torch.tensor(0.1)},
        {"trainer": {"state": {"conv.weight": torch.ones(3, 3)}, "param_groups": []}},
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(3, 3)}}, "param_groups": []}},
        torch.ones(3, 3), {"state_dict": {}},
        UnknownObject("a.B", None), UnknownObject("a.B", {"x": 1}),
        {"class_weights": torch.ones(9)}, [torch.ones(2, 2)], {1: torch.ones(2, 2)},
    ],
)  # fmt: skip
def test_content_without_a_network_is_an_error(content):
    with pytest.raises(CheckpointError, match="contains no network.*expected a state dict"):
        find_state_dict(content)


def test_content_that_refers_to_itself_ends():
    loop: dict = {"again": None, "w": torch.ones(2, 2)}
    loop["again"] = loop
    assert list(find_state_dict(loop).state) == ["w"]
    wide: list = []
    for _ in range(30):  # ten ways into each level, a thousand million million ways in all
        wide = [wide] * 10
    with pytest.raises(CheckpointError, match="no network"):
        find_state_dict({"model": wide})
    found = find_state_dict({"model": {"w": torch.ones(2, 2)}, "args": {"wide": wide, "lr": 1}})
    assert found.hyper_parameters == {"lr": 1}


def test_a_whole_pickled_module_becomes_its_state_dict(net):
    def pickled(module: nn.Module) -> UnknownObject:
        return UnknownObject(
            f"own_networks.{type(module).__name__}",
            {
                "training": False,
                "_parameters": {k: as_infos(v) for k, v in module._parameters.items()},
                "_buffers": {k: as_infos(v) for k, v in module._buffers.items()},
                "_non_persistent_buffers_set": set(module._non_persistent_buffers_set),
                "_modules": {k: pickled(v) for k, v in module._modules.items()},
            },
        )

    net.features.register_buffer("scratch", torch.ones(2), persistent=False)
    whole = pickled(net)
    assert flatten_module(whole) == as_infos(dict(net.state_dict()))
    assert list(flatten_module(whole)) == list(net.state_dict())
    assert find_state_dict(whole).state == flatten_module(whole)
    learner = UnknownObject("fastai.learner.Learner", {"model": whole, "dls": {"vocab": NAMES}})
    found = find_state_dict(learner)
    assert (found.where, found.labels_where) == ("model", "dls.vocab")
    yolo = {
        "epoch": -1,
        "model": whole,
        "ema": None,
        "train_args": {"imgsz": 64, "task": "classify"},
    }
    assert find_state_dict(yolo).hyper_parameters == {"imgsz": 64, "task": "classify"}


def test_a_live_module_gives_its_state_dict(net):
    assert find_state_dict({"model": net, "epoch": 3}).state.keys() == net.state_dict().keys()
    assert find_state_dict(net).where == ""


@pytest.mark.parametrize(
    ("beside", "where"),
    [
        ({"classes": NAMES}, "classes"),
        ({"class_to_idx": {"cat": 2, "ant": 0, "bee": 1}}, "class_to_idx"),
        ({"idx_to_class": {0: "ant", 1: "bee", 2: "cat"}}, "idx_to_class"),
        ({"id2label": {"0": "ant", "1": "bee", "2": "cat"}}, "id2label"),
        ({"meta": {"CLASSES": tuple(NAMES)}}, "meta.CLASSES"),
        ({"meta": {"dataset_meta": {"classes": tuple(NAMES)}}}, "meta.dataset_meta.classes"),
        ({"hyper_parameters": {"class_names": NAMES, "lr": 1.0}}, "hyper_parameters.class_names"),
        ({"args": argparse.Namespace(classes=NAMES)}, "args.classes"),
        ({"args": UnknownObject("argparse.Namespace", {"classes": NAMES})}, "args.classes"),
        ({"names": {0: "ant", 1: "bee", 2: "cat"}}, "names"),
        ({"class_to_idx": {"ant": 0, "bee": 1, "cat": 2}, "classes": NAMES}, "class_to_idx"),
        ({"classes": NAMES, "labels": ["sunny", "rainy"]}, "classes"),
        (
            {
                "hyper_parameters": UnknownObject(
                    "omegaconf.dictconfig.DictConfig",
                    {"_content": {"classes": UnknownObject("x.AnyNode", {"_val": NAMES})}},
                )
            },
            "hyper_parameters.classes",
        ),
    ],
)
def test_labels_are_found(beside, where, net):
    found = find_state_dict({"state_dict": net.state_dict(), **beside})
    assert found.labels is not None
    assert found.labels.names == tuple(NAMES)
    assert found.labels_where == where


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": 3},
        {"classes": "ant,bee,cat"},
        {"labels": [0, 1, 2]},
        {"labels": torch.arange(3)},
        {"classes": []},
        {"class_to_idx": {"ant": True, "bee": False}},
        {"class_to_idx": {"ant": torch.tensor(0)}},
        {"labels": ["sunny", "rainy"]},  # of two, where the network has three outputs
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}},
        {"optimizer": {"classes": NAMES}},
    ],
)
def test_what_names_no_classes_gives_no_labels(beside, net):
    found = find_state_dict({"state_dict": net.state_dict(), **beside})
    assert found.labels is None
    assert found.labels_where == ""


def test_labels_that_contradict_one_another_are_none(net):
    beside = {
        "classes": ["cat", "bee", "ant"],
        "args": {"class_to_idx": {n: i for i, n in enumerate(NAMES)}},
    }
    found = find_state_dict({"state_dict": net.state_dict(), **beside})
    assert found.labels is None
    assert found.labels_where == "classes and args.class_to_idx, which differ"


def test_labels_of_the_number_of_outputs_outrank_others(net):
    found = find_state_dict(
        {"model": net.state_dict(), "classes": ["a", "b"], "meta": {"classes": NAMES}}
    )
    assert found.labels_where == "meta.classes"


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        ({"arch": "resnet18"}, "resnet18"),
        ({"architecture": "vit_tiny_patch16_224"}, "vit_tiny_patch16_224"),
        ({"arch": "resnet", "args": argparse.Namespace(model="resnet10t")}, "resnet10t"),
        ({"hyper_parameters": {"model_name": "timm/resnet10t.c3_in1k"}}, "timm/resnet10t.c3_in1k"),
        ({"hyper_parameters": {"config": {"backbone": "resnet50"}}}, "resnet50"),
        ({"pretrained_cfg": {"architecture": "resnet10t"}}, "resnet10t"),
        ({"arch": 3, "architecture": ["a"], "model_name": "a\nb"}, None),
        ({}, None),
    ],
)
def test_the_architecture_is_what_the_checkpoint_calls_it(beside, name, net):
    assert find_state_dict({"state_dict": net.state_dict(), **beside}).architecture == name


TIMM = {
    "input_size": (3, 160, 160),
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "crop_pct": 0.9,
}
OWN = {
    "schema": 1,
    "input_size": [32, 32],
    "resize_mode": "none",
    "mean": [0.5],
    "std": [1],
    "channels": "grey",
}
HF = {
    "image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5], "size": {"height": 224, "width": 224},
}  # fmt: skip


@pytest.mark.parametrize(
    ("beside", "input_size"),
    [
        ({"pretrained_cfg": TIMM}, (160, 160)),
        ({"args": argparse.Namespace(**TIMM, model="x")}, (160, 160)),
        ({"args": {**TIMM, "input_size": None, "img_size": 96}}, (96, 96)),
        ({"hyper_parameters": {**TIMM, "input_size": [64, 32]}}, (64, 32)),
        ({"preprocess": OWN}, (32, 32)),
        ({"preprocess": json.dumps(OWN)}, (32, 32)),
        ({"hyper_parameters": {"preprocessor_config": HF}}, (224, 224)),
        ({"config": HF}, (224, 224)),
    ],
)
def test_preprocessing_that_is_recorded_in_full_is_found(beside, input_size, net):
    stated = find_state_dict({"state_dict": net.state_dict(), **beside}).preprocess
    assert stated is not None
    assert transforms.translate(stated).input_size == input_size


@pytest.mark.parametrize(
    "size",
    [
        {"input_size": [3, 32, 40]}, {"input_size": [32, 40, 3]}, {"img_size": (1, 3, 32, 40)},
        {"image_size": [32, 40]}, {"input_size": [3.0, 32.0, 40.0]}, {"input_size": "3x32x40"},
        {"img_size": "(32, 40)"},
    ],
)  # fmt: skip
def test_a_size_is_read_in_any_order(size, net):
    config = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop_pct": 1.0}
    found = find_state_dict({"state_dict": net.state_dict(), "config": {**config, **size}})
    assert found.preprocess["input_size"] == [3, 32, 40]
    half = {**config, "input_size": [3, 32.5, 40]}
    assert find_state_dict({"state_dict": net.state_dict(), "config": half}).preprocess is None


@pytest.mark.parametrize("left_out", ["input_size", "interpolation", "mean", "std", "crop_pct"])
def test_half_a_statement_of_the_preprocessing_is_none(left_out, net):
    half = {key: value for key, value in TIMM.items() if key != left_out}
    for beside in ({"args": half}, {"args": {**half, left_out: None}}, {"pretrained_cfg": half}):
        assert find_state_dict({"state_dict": net.state_dict(), **beside}).preprocess is None


def test_a_filter_for_training_only_gives_nothing(net):
    beside = {"args": {**TIMM, "interpolation": "random"}}
    assert find_state_dict({"state_dict": net.state_dict(), **beside}).preprocess is None


def test_the_metadata_of_safetensors_is_read(net):
    metadata = {
        "format": "pt",
        "architecture": "resnet10t",
        "classes": json.dumps(NAMES),
        "preprocess": json.dumps(OWN),
        "broken": "{",
    }
    found = find_state_dict(as_infos(dict(net.state_dict())), metadata=metadata)
    assert found.architecture == "resnet10t"
    assert found.labels is not None
    assert found.labels.names == tuple(NAMES)
    assert found.preprocess == OWN


def test_hyper_parameters_are_plain(net):
    hyper = {
        "lr": 0.1, "dims": [1, 2], "nested": {"a": None},
        "criterion": UnknownObject("torch.nn.Loss"),
        "weights": torch.ones(3), "long": list(range(5000)),
    }  # fmt: skip
    found = find_state_dict(
        {"state_dict": net.state_dict(), "hyper_parameters": hyper, "args": {"lr": 9, "x": 1}}
    )
    assert found.hyper_parameters == {"lr": 0.1, "dims": [1, 2], "nested": {"a": None}, "x": 1}


@pytest.mark.parametrize(
    ("beside", "names"),
    [
        ({"class_to_idx": {"2": 0, "0": 1, "1": 2}}, ("2", "0", "1")),
        ({"class_to_idx": {2: 0, 0: 1, 1: 2}}, ("2", "0", "1")),
        ({"idx_to_class": {0: "2", 1: "0", 2: "1"}}, ("2", "0", "1")),
        ({"config": {"label2id": {"1": 0, "2": 1, "0": 2}}}, ("1", "2", "0")),
        ({"classes": [2, 0, 1]}, ("2", "0", "1")),
        ({"class_to_idx": {"10": 0, "8": 2, "9": 1}}, ("10", "9", "8")),
    ],
)
def test_classes_that_are_called_by_numbers_keep_their_names(beside, names, net):
    found = find_state_dict({"state_dict": net.state_dict(), **beside})
    assert found.labels is not None
    assert found.labels.names == names


@pytest.mark.parametrize(
    "beside",
    [
        {"class_to_idx": {"ant": 1, "bee": 2, "cat": 3}},
        {"idx_to_class": {"1": "ant", "2": "bee", "3": "cat"}},
        {"config": {"id2label": {1: "ant", 2: "bee", 3: "cat"}}},
    ],
)
def test_indices_from_one_are_taken_and_said(beside, net):
    with pytest.warns(ToplabelWarning, match="numbered from 1: taking 1 to 3 as outputs 0 to 2"):
        found = find_state_dict({"state_dict": net.state_dict(), **beside})
    assert found.labels == Labels(("ant", "bee", "cat"))


def test_indices_with_a_gap_give_no_labels_and_the_reason(net):
    found = find_state_dict(
        {"state_dict": net.state_dict(), "class_to_idx": {"ant": 0, "bee": 1, "cat": 3}}
    )
    assert found.labels is None
    assert found.labels_where.startswith("class_to_idx, but got 3 labels without one for index 2")
