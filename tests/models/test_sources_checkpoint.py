"""Checkpoints, end to end: a file that somebody saved in, the labels of eager PyTorch out."""

import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import toplabel
from notes import told
from own_networks import GreyNet, OneSize, ResNet20
from toplabel._internal.notices import collect_warnings
from toplabel.bundle.cache import list_entries
from toplabel.errors import (
    CheckpointError,
    LabelsError,
    ModelError,
    ModelNotFound,
    PreprocessError,
    ToplabelWarning,
    UsageError,
)
from toplabel.models.options import ModelOptions
from toplabel.models.preprocess_doubts import warn_of_size
from toplabel.models.sources.checkpoint import load
from toplabel.models.zoo_import import import_timm, import_torchvision
from toplabel.preprocess.presets import preset

NETS = Path(__file__).parents[1] / "own_networks.py"
CIFAR = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
AS_CIFAR = {
    "schema": 1,
    "input_size": [32, 32],
    "resize_mode": "none",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights that make its logits differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5, generator=generator)
            else:
                parameter.uniform_(0.5, 1.0, generator=generator)
    return module.eval()


def eager_index(module: nn.Module, model: toplabel.Predictor, image: np.ndarray) -> int:
    with torch.no_grad():
        return int(module(torch.from_numpy(model.preprocess(image))[None]).argmax())


def notes(path: Path, **options) -> tuple[toplabel.Predictor, list[str]]:
    with told() as said:
        return toplabel.load(path, **options), said


def test_a_class_in_a_file_with_arguments(tmp_path, image):
    module = seeded(GreyNet(5))
    torch.save({"epoch": 3, "model_state_dict": module.state_dict()}, tmp_path / "best.pth")
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    model, said = notes(
        tmp_path / "best.pth",
        arch=f"{NETS}:GreyNet",
        arch_args={"num_classes": 5},
        labels=tmp_path / "classes.txt",
        preprocess={
            "schema": 1,
            "input_size": [28, 28],
            "resize_size": [28, 28],
            "channels": "grey",
            "mean": [0.5],
            "std": [0.5],
        },
    )
    assert model(image).label == "abcde"[eager_index(module, model, image)]
    assert any("recompile=True" in line for line in said)
    assert model.name.startswith("checkpoint/best.pth@")
    model.compile()
    assert model.classifier.bundle.provenance["architecture"] == f"{NETS.name}:GreyNet"
    assert str(NETS.parent) not in str(model.classifier.bundle.to_manifest())


def test_the_second_start_needs_no_torch_and_does_not_import_the_class(tmp_path, image):
    module = seeded(GreyNet(4))
    torch.save(module.state_dict(), tmp_path / "best.pth")
    preprocess = tmp_path / "p.json"
    grey = {"channels": "grey", "mean": [0.5], "std": [0.5], "input_size": [28, 28]}
    preprocess.write_text(json.dumps({"schema": 1, "resize_size": [28, 28], **grey}))
    (tmp_path / "nets.py").write_text(NETS.read_text())
    options = {
        "arch": f"{tmp_path / 'nets.py'}:GreyNet",
        "arch_args": {"num_classes": 4},
        "labels": ["a", "b", "c", "d"],
        "preprocess": str(preprocess),
    }
    model = toplabel.load(tmp_path / "best.pth", **options)
    first = model(image)
    model.compile()
    script = f"""
import sys
sys.modules["torch"] = None
import numpy, toplabel
image = numpy.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=numpy.uint8)
print(toplabel.load({str(tmp_path / "best.pth")!r}, **{options!r})(image))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == first.label
    (tmp_path / "nets.py").write_text(NETS.read_text() + "\n")  # the class's file has changed
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "MissingDependency" in run.stderr


def test_a_class_from_python_with_a_live_transform(tmp_path, image):
    transforms = import_torchvision().transforms
    module = seeded(ResNet20(7))
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, tmp_path / "x"
    )
    steps = [transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor()]
    model = toplabel.load(
        tmp_path / "x",
        arch=ResNet20,
        arch_args={"num_classes": 7},
        labels=list("abcdefg"),
        preprocess=transforms.Compose(steps),
    )
    assert model(image).index == eager_index(module, model, image)


def test_an_architecture_of_torchvisions_is_identified(tmp_path, image):
    module = import_torchvision().models.mobilenet_v3_small(num_classes=6)
    module.features[0][0] = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
    seeded(module)
    torch.save(module.state_dict(), tmp_path / "grey.pt")
    model, said = notes(tmp_path / "grey.pt", labels=list("uvwxyz"), preprocess=grey_preprocess())
    assert model(image).index == eager_index(module, model, image)
    wanted = "torchvision/mobilenet_v3_small with 6 classes and 1 channel"
    assert any(wanted in line for line in said)


def test_shapes_are_not_identity(tmp_path, image):
    """resnetblur18 has a ResNet-18's tensors and other strides."""
    module = seeded(import_torchvision().models.resnet18(num_classes=6))
    torch.save(module.state_dict(), tmp_path / "best.pt")
    options = {"labels": list("uvwxyz"), "preprocess": "imagenet-squash-64"}
    with pytest.raises(CheckpointError, match=r"torchvision/resnet18, timm/resnetblur18; pass"):
        toplabel.load(tmp_path / "best.pt", **options)
    model = toplabel.load(tmp_path / "best.pt", arch="resnet18", **options)
    assert model(image).index == eager_index(module, model, image)


def grey_preprocess() -> toplabel.Preprocess:
    return toplabel.Preprocess(
        input_size=(64, 64), resize_size=(64, 64), channels="grey", mean=(0.5,), std=(0.25,)
    )


def test_the_librarys_own_preprocessing_is_assumed_only_visibly(tmp_path, image):
    module = seeded(import_torchvision().models.resnet18())  # the library's thousand classes
    torch.save(module.state_dict(), tmp_path / "best.pth")
    model, said = notes(tmp_path / "best.pth", arch="resnet18")
    assert any(line.startswith("assuming that best.pth was validated") for line in said)
    assert any("labels are indices" in line for line in said)
    prediction = model(image)
    assert prediction.label == str(prediction.index)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "timm/resnet10t", "squeezenet1_1"])
def test_a_librarys_network_with_another_head_needs_its_preprocessing(tmp_path, image, arch):
    library = import_timm() if arch.startswith("timm/") else None
    bare = arch.removeprefix("timm/")
    make = library.create_model if library else import_torchvision().models.get_model
    torch.save(seeded(make(bare, num_classes=3)).state_dict(), tmp_path / "best.pth")
    with pytest.raises(PreprocessError) as caught:
        toplabel.load(tmp_path / "best.pth", arch=arch)
    said = str(caught.value)
    assert "does not say how its images were preprocessed" in said
    assert "its first layer takes 3 channels" in said
    assert f"{bare} with 3 classes of its own; the library's weights" in said
    assert "right only if it was trained so, too" in said
    assert ('preprocess="imagenet-crop-256-224"' in said) == (bare in ("resnet18", "squeezenet1_1"))
    torch.save(
        {"state_dict": torch.load(tmp_path / "best.pth"), "preprocess": grey_free()},
        tmp_path / "own.pth",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToplabelWarning)
        assert toplabel.load(tmp_path / "own.pth", arch=arch).preprocess.input_size == (64, 64)


def grey_free():
    """What a checkpoint may bring of its own."""
    return {"input_size": [64, 64], "resize_size": [64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}


def test_what_the_file_says_of_its_images_is_named_and_nothing_that_contradicts_it(tmp_path):
    network = seeded(import_torchvision().models.resnet18())
    config = {"image_size": 32, "mean": [0.49, 0.48, 0.45], "lr": 0.1}
    torch.save({"state_dict": network.state_dict(), "config": config}, tmp_path / "best.pth")
    with pytest.raises(PreprocessError) as caught:
        toplabel.load(tmp_path / "best.pth", arch="resnet18")
    said = str(caught.value)
    assert "its file says image_size=32; its file says mean=[0.49, 0.48, 0.45]" in said
    assert "imagenet-crop" not in said
    assert "lr" not in said.replace("already", "").split("Known is:")[1]


def test_sizes_far_from_the_librarys_are_cautioned(tmp_path):
    module = seeded(import_torchvision().models.shufflenet_v2_x0_5(num_classes=3))
    torch.save(module.state_dict(), tmp_path / "best.pth")
    for side, cautioned in ((32, True), (96, True), (128, False), (224, False)):
        preprocess = preset(f"imagenet-squash-{side}")
        with told() as said:
            warn_of_size(preprocess, "a network", (224, 224), file="best.pth")
        assert any("made for images of 224x224" in line for line in said) == cautioned
    for side, cautioned in ((32, True), (128, False)):
        _, said = notes(
            tmp_path / "best.pth", arch="shufflenet_v2_x0_5", preprocess=f"imagenet-squash-{side}"
        )
        assert any("made for images of 224x224" in line for line in said) == cautioned


def test_a_rebuilt_head_of_several_layers_is_told(tmp_path, image):
    module = import_torchvision().models.shufflenet_v2_x0_5()
    module.fc = nn.Sequential(nn.Dropout(), nn.Linear(1024, 9), nn.ReLU(), nn.Linear(9, 3))
    seeded(module)
    torch.save(module.state_dict(), tmp_path / "best.pth")
    for arch in (None, "shufflenet_v2_x0_5"):
        model, said = notes(tmp_path / "best.pth", arch=arch, preprocess="imagenet-squash-128")
        assert any("'fc' of best.pth is rebuilt as Linear(1024, 9), ReLU" in line for line in said)
        assert model(image).index == eager_index(module, model, image)


def test_a_normalisation_in_the_state_dict_contradicts_another(tmp_path):
    state = dict(seeded(GreyNet(3)).state_dict())
    for mean, told_of in ((127.5, False), (100.0, True)):
        state["data_preprocessor.mean"] = torch.full((1, 1, 1), mean)
        state["data_preprocessor.std"] = torch.full((1, 1, 1), 127.5)
        torch.save({"state_dict": state}, tmp_path / "best.pth")
        half = replace(grey_preprocess_28(), mean=(0.5,), std=(0.5,))
        _, said = notes(tmp_path / "best.pth", arch=lambda: GreyNet(3), preprocess=half)
        assert any("records mean [100.0] and std [127.5]" in line for line in said) == told_of


def test_recorded_preprocessing_that_cannot_be_is_told_of_the_file(tmp_path):
    config = {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 1.0}
    config |= {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    content = {"state_dict": GreyNet(3).state_dict(), "config": config}
    torch.save(content, tmp_path / "best.pth")
    with pytest.raises(PreprocessError, match=r"best\.pth records its preprocessing, but got mean"):
        toplabel.load(tmp_path / "best.pth", arch=lambda: GreyNet(3))


def test_averaged_weights_are_taken_only_when_asked_for(tmp_path, image):
    timm = import_timm()
    usual, averaged = (
        seeded(timm.create_model("resnet10t", num_classes=3, pretrained=False), seed)
        for seed in (1, 2)
    )
    torch.save(
        {
            "arch": "resnet10t",
            "state_dict": usual.state_dict(),
            "state_dict_ema": averaged.state_dict(),
        },
        tmp_path / "last.pth.tar",
    )
    options = {"labels": ["a", "b", "c"], "preprocess": "imagenet-squash-64"}
    for module, ema in ((usual, False), (averaged, True)):
        model, said = notes(tmp_path / "last.pth.tar", ema=ema, **options)
        assert any("averaged (EMA) weights, under state_dict_ema" in line for line in said) != ema
        assert not any("holds more than" in line for line in said)
        with torch.no_grad():
            expected = module(torch.from_numpy(model.preprocess(image))[None]).softmax(1).max()
        assert model(image).score == pytest.approx(float(expected), abs=1e-4)


def test_a_file_or_a_class_alone_is_answered_with_how_a_class_is_named(tmp_path):
    torch.save(GreyNet(3).state_dict(), tmp_path / "net.pth")
    with pytest.raises(UsageError, match=r'without a class.*arch="nets\.py:MyCNN".*script="nets'):
        toplabel.load(tmp_path / "net.pth", arch="nets.py")
    with pytest.raises(ModelNotFound, match=r'a class of your own is arch="nets\.py:GreyNet"'):
        toplabel.load(tmp_path / "net.pth", arch="GreyNet")


def test_what_a_lightning_checkpoint_says_of_itself_is_used(tmp_path, image):
    module = seeded(GreyNet(3))
    torch.save(
        {
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {f"model.{k}": v for k, v in module.state_dict().items()},
            "hyper_parameters": {"lr": 0.1, "class_to_idx": {"ant": 0, "bee": 1, "cat": 2}},
        },
        tmp_path / "epoch=3.ckpt",
    )
    model = toplabel.load(
        tmp_path / "epoch=3.ckpt",
        arch=lambda: GreyNet(3),
        preprocess=grey_preprocess_28(),
    )
    assert model.labels.names == ("ant", "bee", "cat")
    assert model(image).label == model.labels[eager_index(module, model, image)]


def grey_preprocess_28() -> toplabel.Preprocess:
    return toplabel.Preprocess(
        input_size=(28, 28), resize_size=(28, 28), channels="grey", mean=(0.5,), std=(0.5,)
    )


class Recorded(GreyNet):
    """Two settings that no tensor shows."""

    def __init__(self, num_classes: int = 3, negate: bool = False, pretrained: bool = False):
        assert not pretrained
        super().__init__(num_classes)
        self.sign = -1 if negate else 1

    def forward(self, x):
        return self.sign * super().forward(x)


def test_what_lightning_recorded_of_the_constructor_is_given_to_it(tmp_path, image):
    module = seeded(Recorded(4, negate=True))
    settings = {"num_classes": 4, "negate": True, "pretrained": True, "lr": 0.1}
    state = {f"model.{k}": v for k, v in module.state_dict().items()}
    content = {"state_dict": state, "hyper_parameters": settings}
    torch.save(content, tmp_path / "last.ckpt")
    options = {"arch": Recorded, "preprocess": grey_preprocess_28()}
    model = toplabel.load(tmp_path / "last.ckpt", **options)
    assert model(image).index == eager_index(module, model, image)
    model = toplabel.load(tmp_path / "last.ckpt", arch_args={"negate": False}, **options)
    assert model(image).index != eager_index(module, model, image)  # the user's own come first


class Shuffled(GreyNet):
    """Draws an order of its features that no state dict has."""

    def __init__(self, buffer: bool) -> None:
        super().__init__(3)
        if buffer:
            self.register_buffer("order", torch.randperm(128), persistent=False)
        else:
            self.order = torch.randperm(128)

    def forward(self, x):
        return self.head(self.features(x).flatten(1)[:, self.order])


@pytest.mark.parametrize("buffer", [False, True])
def test_numbers_that_a_class_draws_anew_are_an_error(buffer, tmp_path, image):
    module = seeded(Shuffled(buffer))
    torch.save(module.state_dict(), tmp_path / "best.pth")
    options = {"preprocess": grey_preprocess_28()}
    with pytest.raises(ModelError, match="Shuffled makes order anew for every network"):
        toplabel.load(tmp_path / "best.pth", arch=lambda: Shuffled(buffer), **options)
    model = toplabel.load(tmp_path / "best.pth", arch=module, **options)
    assert model(image).index == eager_index(module, model, image)


def test_safetensors_need_no_pickle(tmp_path, image):
    from safetensors.torch import save_file

    module = seeded(GreyNet(3))
    save_file(module.state_dict(), tmp_path / "best.safetensors")
    model = toplabel.load(
        tmp_path / "best.safetensors",
        arch=GreyNet,
        arch_args={"num_classes": 3},
        preprocess=grey_preprocess_28(),
        labels=["a", "b", "c"],
    )
    assert model(image).index == eager_index(module, model, image)


def test_arrays_of_other_channel_counts_reach_a_network_for_them(tmp_path):
    """Four channels are not taken for alpha where the preprocessing says that they are channels."""
    module = seeded(
        nn.Sequential(
            nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3)
        )
    )
    torch.save(module.state_dict(), tmp_path / "best.pth")
    preprocess = toplabel.Preprocess(
        input_size=(26, 34),  # 24x32 to be pooled to 4x4, which the quick exporter knows
        resize_mode="squash",
        resize_size=(26, 34),
        channels=4,
        mean=(0.5,) * 4,
        std=(0.5,) * 4,
    )
    model = toplabel.load(
        tmp_path / "best.pth", arch=module, preprocess=preprocess, labels=["a", "b", "c"]
    )
    for seed in range(5):
        array = np.random.default_rng(seed).integers(0, 256, (40, 50, 4), dtype=np.uint8)
        assert model(array).index == eager_index(module, model, array)
        assert model(torch.from_numpy(array).permute(2, 0, 1)).index == model(array).index


def test_a_part_is_loaded_only_when_that_is_allowed_and_says_its_share(tmp_path):
    state = seeded(GreyNet(3)).state_dict()
    del state["head.bias"]
    torch.save(state, tmp_path / "best.pth")
    options = {"arch": lambda: GreyNet(3), "preprocess": grey_preprocess_28()}
    with pytest.raises(CheckpointError, match=r"head\.bias"):
        toplabel.load(tmp_path / "best.pth", **options)
    _, said = notes(tmp_path / "best.pth", allow_partial=True, **options)
    assert any("%" in line and "head.bias" in line for line in said)


def test_nothing_is_guessed(tmp_path):
    torch.save(seeded(GreyNet(3)).state_dict(), tmp_path / "best.pth")
    path = tmp_path / "best.pth"
    with pytest.raises(CheckpointError, match="no architecture of torchvision or timm fits"):
        toplabel.load(path)
    arch = {"arch": GreyNet, "arch_args": {"num_classes": 3}}
    with pytest.raises(PreprocessError, match=r"pass preprocess=\.\.\. .* 1 channel\."):
        toplabel.load(path, **arch)
    with pytest.raises(LabelsError, match="got 2 labels for a model with 3 outputs"):
        toplabel.load(path, **arch, preprocess=grey_preprocess_28(), labels=["a", "b"])
    with pytest.raises(CheckpointError, match="head.weight"):
        toplabel.load(
            path, arch=GreyNet, arch_args={"num_classes": 4}, preprocess=grey_preprocess_28()
        )


def test_all_that_is_lacking_is_said_at_once(tmp_path):
    torch.save(seeded(GreyNet(3)).state_dict(), tmp_path / "best.pth")
    lacking = "has no preprocessing and no class names either; pass"
    with pytest.raises(CheckpointError, match=lacking) as caught:
        toplabel.load(tmp_path / "best.pth")
    assert 'arch="nets.py:MyCNN" preprocess="PRESET" labels="classes.txt"' in str(caught.value)
    with pytest.raises(CheckpointError, match=r"has no preprocessing either; pass") as caught:
        toplabel.load(tmp_path / "best.pth", labels=["a", "b", "c"])
    assert "labels=" not in str(caught.value)


def test_presets_are_proposed_that_the_network_takes(tmp_path):
    torch.save(seeded(OneSize()).state_dict(), tmp_path / "best.pth")
    with pytest.raises(PreprocessError, match="takes 28x28 to 29x29 pixels of 1 channel") as caught:
        toplabel.load(tmp_path / "best.pth", arch=OneSize)
    proposed = re.findall(r'preprocess="(.*?)"', str(caught.value))
    assert proposed == ["raw-1-squash-28-grey", "half-squash-28-grey", "mnist-28"]
    for name in proposed:
        model = toplabel.load(tmp_path / "best.pth", arch=OneSize, preprocess=name, engine="torch")
        assert model.preprocess.input_size == (28, 28)


def test_numbers_that_are_no_pixels_get_no_preset(tmp_path):
    landmarks = torch.nn.Linear(42, 5)
    torch.save(landmarks.state_dict(), tmp_path / "best.pth")
    with pytest.raises(PreprocessError, match="takes rows of 42 numbers, which are no pixels"):
        toplabel.load(tmp_path / "best.pth", arch=lambda: torch.nn.Linear(42, 5))


def test_weights_that_are_not_finite_are_an_error(tmp_path):
    module = seeded(GreyNet(3))
    with torch.no_grad():
        module.head.weight[0, 0] = torch.nan
    torch.save(module.state_dict(), tmp_path / "best.pth")
    with pytest.raises(ModelError, match="non_finite: 1 tensor .* 'head.weight' first"):
        toplabel.load(
            tmp_path / "best.pth", arch=lambda: GreyNet(3), preprocess=grey_preprocess_28()
        )


@pytest.mark.parametrize("content", ["module", "method", "in a dict", "scripted"])
def test_the_weights_of_a_whole_pickled_network_go_into_its_class(content, tmp_path, image):
    module = seeded(GreyNet(3)).eval()
    path = tmp_path / "whole.pth"
    if content == "scripted":
        with warnings.catch_warnings(action="ignore"):
            torch.jit.trace(module, torch.zeros(1, 1, 28, 28)).save(path)
    else:
        whole = {"module": module, "method": module.state_dict, "in a dict": {"net": module}}
        torch.save(whole[content], path)
    options = {"preprocess": grey_preprocess_28(), "labels": ["a", "b", "c"]}
    with pytest.raises(CheckpointError, match=r"""arch="FILE.py:GreyNet".*trust=True"""):
        toplabel.load(path, **options)
    model = toplabel.load(path, arch=lambda: GreyNet(3), **options)
    assert model(image).index == eager_index(module, model, image)
    if content == "module":
        model = toplabel.load(path, trust=True, **options)
        assert model(image).index == eager_index(module, model, image)


def test_a_whole_pickled_network_of_torchs_own_layers_is_rebuilt(tmp_path, image):
    head = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3)]
    module = seeded(nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), *head))
    torch.save(module, tmp_path / "whole.pth")
    model = toplabel.load(tmp_path / "whole.pth", preprocess=grey_preprocess_28())
    assert model(image).index == eager_index(module, model, image)


def test_what_may_be_the_real_classifier_is_not_left_out(tmp_path, image):
    module = seeded(GreyNet(5))
    head = {"weight": torch.ones(3, 5), "bias": torch.zeros(3)}
    path = tmp_path / "best.pth"
    options = {"arch": lambda: GreyNet(5), "preprocess": grey_preprocess_28()}
    nested = {f"net.{name}": tensor for name, tensor in module.state_dict().items()}
    contents = [
        {"net": module.state_dict(), "linear": head},
        {**nested, **{f"linear.{name}": tensor for name, tensor in head.items()}},
    ]
    for content in contents:
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"under 'net', and beside it linear \(2 tensors"):
            toplabel.load(path, **options)
        model = toplabel.load(path, state_dict="net", **options)
        assert model(image).index == eager_index(module, model, image)


def test_the_network_that_the_class_fits_is_taken_and_the_others_are_told(tmp_path, image):
    student, teacher = seeded(GreyNet(5)), seeded(GreyNet(7))
    both = {"student": student.state_dict(), "teacher": teacher.state_dict()}
    flat = {f"{key}.{name}": t for key, state in both.items() for name, t in state.items()}
    options = {"arch": lambda: GreyNet(5), "preprocess": grey_preprocess_28()}
    for content in (both, flat, {"state_dict": flat}):
        torch.save(content, tmp_path / "best.pth")
        model, said = notes(tmp_path / "best.pth", **options)
        assert any(re.search(r"left out are teacher \(\d+ tensors", line) for line in said), said
        assert model(image).index == eager_index(student, model, image)


def test_a_live_predictor_does_not_follow_its_file(tmp_path, image):
    module = seeded(import_torchvision().models.mobilenet_v3_small(num_classes=4))
    path = tmp_path / "best.pth"
    torch.save(module.state_dict(), path)
    options = {"labels": list("abcd"), "preprocess": "imagenet-squash-64"}
    model = toplabel.load(path, engine="torch", **options)
    before = model(image).score
    with path.open("r+b") as file:  # as another training run may
        file.seek(2000)
        file.write(bytes(len(path.read_bytes()) - 4000))
    assert model(image).score == before


@pytest.mark.parametrize("step", ["read_checkpoint_info", "read_checkpoint"])
def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, monkeypatch, step):
    from toplabel.models.sources import checkpoint

    torch.save(seeded(GreyNet(3)).state_dict(), tmp_path / "best.pth")
    read = getattr(checkpoint, step)

    def read_then_replace(*arguments, **options):
        content = read(*arguments, **options)
        (tmp_path / "new").mkdir()
        torch.save(seeded(GreyNet(3), 1).state_dict(), tmp_path / "new" / "best.pth")
        (tmp_path / "new" / "best.pth").replace(tmp_path / "best.pth")
        return content

    monkeypatch.setattr(checkpoint, step, read_then_replace)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        toplabel.load(
            tmp_path / "best.pth", arch=lambda: GreyNet(3), preprocess=grey_preprocess_28()
        )
    assert list_entries() == []


@pytest.mark.slow
def test_settings_that_no_tensor_shows_have_to_be_stated(tmp_path):
    models = import_torchvision().models
    module = models.inception_v3(
        num_classes=3, aux_logits=True, transform_input=True, init_weights=False
    )
    torch.save(seeded(module).state_dict(), tmp_path / "best.pth")
    options = {"labels": ["a", "b", "c"], "preprocess": "imagenet-squash-299"}
    with pytest.raises(CheckpointError, match="arch_args={'transform_input': True}"):
        toplabel.load(tmp_path / "best.pth", arch="inception_v3", **options)
    for setting in (True, False):
        model = toplabel.load(
            tmp_path / "best.pth",
            arch="inception_v3",
            arch_args={"aux_logits": True, "transform_input": setting},
            **options,
        )
        module.transform_input = setting
        image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        with torch.no_grad():
            logits = module(torch.from_numpy(model.preprocess(image))[None])
        assert model(image).score == pytest.approx(float(logits.softmax(1).max()), abs=1e-3)


def test_arguments_of_a_librarys_architecture_may_be_stated(tmp_path, image):
    module = seeded(import_torchvision().models.mobilenet_v3_small(num_classes=4))
    torch.save(module.state_dict(), tmp_path / "best.pth")
    options = {"preprocess": "imagenet-squash-64", "labels": list("abcd")}
    arch = "torchvision/mobilenet_v3_small"
    model = toplabel.load(tmp_path / "best.pth", arch=arch, arch_args={"num_classes": 4}, **options)
    assert model(image).index == eager_index(module, model, image)
    with pytest.raises(CheckpointError, match=r'arch_args=\{"num_classes": 4\}'):
        toplabel.load(tmp_path / "best.pth", arch=arch, arch_args={"num_classes": 5}, **options)
    with pytest.raises(UsageError, match="cannot be built with {'bogus': 6}"):
        toplabel.load(tmp_path / "best.pth", arch="resnet34", arch_args={"bogus": 6}, **options)


@pytest.mark.slow
def test_code_that_was_loaded_before_it_changed_is_not_remembered(tmp_path, image, monkeypatch):
    """In this process the old class goes on; the next one must not be given it."""
    (tmp_path / "mynets.py").write_text(
        NETS.read_text() + "\n\nclass Mine(GreyNet):\n    sign = 1\n\n"
        "    def forward(self, x):\n        return self.sign * super().forward(x)\n"
    )
    module = seeded(GreyNet(3))
    torch.save(module.state_dict(), tmp_path / "best.pth")
    preprocess = tmp_path / "p.json"
    preprocess.write_text(grey_preprocess_28().to_json())
    monkeypatch.chdir(tmp_path)
    options = {
        "arch": "mynets:Mine",
        "arch_args": {"num_classes": 3},
        "labels": ["a", "b", "c"],
        "preprocess": str(preprocess),
    }
    script = f"""
import numpy, toplabel
image = numpy.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=numpy.uint8)
print(toplabel.load("./best.pth", **{options!r})(image))
"""
    toplabel.load("./best.pth", **options).compile()
    changed = (tmp_path / "mynets.py").read_text().replace("sign = 1", "sign = -1")
    (tmp_path / "mynets.py").write_text(changed)
    toplabel.load("./best.pth", **options).compile()
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    logits = module(torch.from_numpy(grey_preprocess_28()(image))[None])
    assert run.stdout.strip() == "abc"[int((-logits).argmax())], run.stderr


def test_names_in_the_order_of_text_are_told_for_any_model(tmp_path):
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    preprocess = toplabel.Preprocess(
        input_size=(8, 8), resize_size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    with told() as said:
        toplabel.wrap(module, labels=["1", "10", "2", "3"], preprocess=preprocess)
    assert any("ImageFolder" in line for line in said)
    toplabel.wrap(module, labels=list("abcd"), preprocess=preprocess).save(tmp_path / "m.toplabel")
    _, said = notes(tmp_path / "m.toplabel", labels=["1", "10", "2", "3"])
    assert any("ImageFolder" in line for line in said)


def test_warnings_come_at_every_start(tmp_path, image):
    torch.save(seeded(GreyNet(3)).state_dict(), tmp_path / "best.pth")
    preprocess = tmp_path / "p.json"
    preprocess.write_text(grey_preprocess_28().to_json())
    options = {"arch": f"{NETS}:GreyNet", "arch_args": {"num_classes": 3}}
    for _ in range(2):
        model, said = notes(tmp_path / "best.pth", preprocess=str(preprocess), **options)
        model(image)
        model.compile()
        assert "best.pth has no class names: labels are indices; pass labels=... for names" in said


def test_a_doubt_ends_where_an_option_answers_it(tmp_path, image):
    torch.save(seeded(GreyNet(3)).state_dict(), tmp_path / "best.pth")
    options = {"arch": f"{NETS}:GreyNet", "arch_args": {"num_classes": 3}}
    model, _ = notes(tmp_path / "best.pth", preprocess=grey_preprocess_28(), **options)
    model.save(tmp_path / "best.toplabel")
    model, said = notes(tmp_path / "best.toplabel")
    assert model(image).warnings == tuple(said) != ()
    model, said = notes(tmp_path / "best.toplabel", labels=["cat", "dog", "fox"])
    assert model(image).warnings == tuple(said) == ()
    model.save(tmp_path / "named.toplabel")
    assert notes(tmp_path / "named.toplabel")[0](image).warnings == ()


def test_label_follows_the_folder_and_takes_lists(tmp_path, monkeypatch):
    for name, answers in (("one", ["a", "a"]), ("two", ["b", "b"])):
        module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        with torch.no_grad():
            module[2].weight.normal_(0, 5, generator=torch.Generator().manual_seed(0))
        preprocess = toplabel.Preprocess(
            input_size=(8, 8), resize_size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3
        )
        (tmp_path / name).mkdir()
        toplabel.wrap(module, labels=answers, preprocess=preprocess).save(
            tmp_path / name / "m.toplabel"
        )
    image = np.full((8, 8, 3), 200, np.uint8)
    found = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        found.append(toplabel.label(image, model="m.toplabel"))
    assert found == ["a", "b"]
    assert toplabel.label(image, model="m.toplabel", labels=["x", "x"]) == "x"


def test_what_only_checkpoints_need_is_refused_elsewhere():
    with pytest.raises(UsageError, match=r"got arch=\.\.\. for the built-in model"):
        toplabel.load(arch="resnet18")


def test_labels_may_be_stated_for_any_model(image):
    names = [f"class {index}" for index in range(1000)]
    assert toplabel.load(labels=names)(image).label.startswith("class ")
    with pytest.raises(LabelsError, match="got 2 labels"):
        toplabel.load(labels=["a", "b"])


@pytest.fixture(scope="module")
def resnet20(tmp_path_factory) -> dict:
    preprocess = tmp_path_factory.mktemp("preprocess") / "p.json"
    preprocess.write_text(json.dumps(AS_CIFAR))
    return {"arch": f"{NETS}:ResNet20", "preprocess": str(preprocess)}


@pytest.mark.slow
@pytest.mark.shared_data
def test_a_real_checkpoint_gives_the_indices_of_eager_pytorch(shared_data, tmp_path, resnet20):
    """In the library, and from a packed bundle in a process without torch."""
    reference = json.loads((shared_data / "reference" / "resnet20_cifar10.json").read_text())
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    paths = [str(shared_data / "cifar10-test" / name) for name in reference["index"]]
    expected = list(reference["index"].values())
    model = toplabel.load(path, labels=shared_data / "cifar10-test", **resnet20)
    assert model.labels.names == CIFAR
    found = list(model.stream(paths, top_k=1))
    assert [one.index for one in found] == expected
    for batch_size in (1, 7, 64):
        other = toplabel.load(
            path, labels=shared_data / "cifar10-test", batch_size=batch_size, **resnet20
        )
        scores = [one.score for one in other.stream(paths[:200], top_k=1)]
        assert np.allclose(scores, [one.score for one in found[:200]], rtol=0, atol=1e-4)
    right = sum(Path(path).parent.name == one.label for path, one in zip(paths, found, strict=True))
    assert right == reference["correct"] == 795
    model.save(tmp_path / "cifar.toplabel")
    script = f"""
import sys, json
sys.modules["torch"] = None
import toplabel
model = toplabel.load({str(tmp_path / "cifar.toplabel")!r})
print(json.dumps([one.index for one in model.stream(json.load(sys.stdin), top_k=1)]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == expected


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_command_line_gives_the_same_and_packs_it(shared_data, tmp_path, resnet20):
    reference = json.loads((shared_data / "reference" / "resnet20_cifar10.json").read_text())
    folder = shared_data / "cifar10-test"
    stated = [
        "--arch", resnet20["arch"], "--arch-arg", "num_classes=10",
        "--preprocess", resnet20["preprocess"], "--labels", folder,
    ]  # fmt: skip
    checkpoint = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    packed = tmp_path / "cifar.toplabel"
    for arguments in (
        [folder, "--json", "-m", checkpoint, *stated],
        ["pack", checkpoint, *stated, "-o", packed],
        [folder, "--json", "-m", packed],
    ):
        run = subprocess.run(
            [sys.executable, "-m", "toplabel", *map(str, arguments)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        records = [json.loads(line) for line in run.stdout.splitlines()]
        if arguments[0] != "pack":
            found = {str(Path(r["source"]).relative_to(folder)): r["index"] for r in records}
            assert found == reference["index"]


def test_the_wrong_class_stops_with_the_names_that_differ(shared_data, tmp_path):
    path = shared_data / "checkpoints" / "resnet20-12fca82f.th"
    with pytest.raises(CheckpointError, match=r"linear\.weight: the file has"):
        toplabel.load(
            path, arch=ResNet20, arch_args={"num_classes": 100}, preprocess="imagenet-squash-32"
        )


def test_an_image_file_is_no_checkpoint(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    with pytest.raises(CheckpointError, match="it is an image"):
        toplabel.load(tmp_path / "cat.png")


def test_the_files_beside_that_of_a_class_are_remembered_with_it(tmp_path):
    (tmp_path / "parts_of_mine.py").write_text(
        "from torch import nn\ndef head():\n    return nn.Linear(3, 2)\n"
    )
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom parts_of_mine import head\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.head = head()\n"
        "    def forward(self, x):\n        return self.head(x.mean((2, 3)))\n"
    )
    torch.manual_seed(0)
    torch.save({"head.weight": torch.rand(2, 3), "head.bias": torch.rand(2)}, tmp_path / "best.pth")
    options = ModelOptions(arch=f"{tmp_path / 'mine.py'}:Net", preprocess="half-squash-32")
    with collect_warnings():
        model = load(tmp_path / "best.pth", options=options)
    names = {Path(file.path).name for file in model.weights_files}
    assert names == {"best.pth", "mine.py", "parts_of_mine.py"}
