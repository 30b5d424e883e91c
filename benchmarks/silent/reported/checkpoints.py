"""Reported kinds: files that hold more than a network, less, or another one."""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from scene import NAMES, TRANSFORM, Body, Net, Scene, Tool, Trial, kind
from torch import nn

State = dict[str, torch.Tensor]


def _prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def _not_strict(scene: Scene, path: Path, *keys: str, make=Net) -> Tool:
    """The thirty lines with strict=False, which people add when the error comes."""

    def load() -> nn.Module:
        torch.manual_seed(5)
        state = torch.load(path, weights_only=False)
        for key in keys:
            state = state[key]
        net = make()
        net.load_state_dict(state, strict=False)
        return net

    return scene.thirty_lines(load)


def _both(scene: Scene, content: object, *keys: str, expected=None, **options) -> Trial:
    path = scene.saved(content)
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, **options),
            "torchvision": _not_strict(scene, path, *keys),
        },
    )


@kind("a prefix before every name", "pytorch/examples#1029", "pytorch/executorch#2191")
def _(scene: Scene) -> Trial:
    return _both(scene, _prefixed(scene.net.state_dict(), "module."), expected=scene.labels)


@kind("two prefixes, of compile and of DataParallel", "PIQuIL/QuCumber#18")
def _(scene: Scene) -> Trial:
    state = _prefixed(scene.net.state_dict(), "_orig_mod.module.")
    return _both(scene, {"model": state}, "model", expected=scene.labels)


@kind("Lightning's file", "Lightning-AI/pytorch-lightning#5648")
def _(scene: Scene) -> Trial:
    content = {
        "state_dict": _prefixed(scene.net.state_dict(), "model."),
        "hyper_parameters": {"num_classes": 4, "lr": 0.1},
        "pytorch-lightning_version": "2.5.0",
        "epoch": 3,
    }
    return _both(scene, content, "state_dict", expected=scene.labels)


@kind("Lightning's file with metrics and a loss's weights", "NRCan/geo-deep-learning#612")
def _(scene: Scene) -> Trial:
    state = _prefixed(scene.net.state_dict(), "network.")
    state |= {"criterion.weight": torch.ones(4), "train_accuracy.tp": torch.zeros(4)}
    content = {"state_dict": state, "pytorch-lightning_version": "2.5.0"}
    return _both(scene, content, "state_dict", expected=scene.labels)


@kind("names that begin with a valid name", "pytorch/pytorch#123510", "huggingface/peft#1389")
def _(scene: Scene) -> Trial:
    """LoRA's tensors beside the layer that they change; the file does not say by how much."""
    state = dict(scene.net.state_dict())
    state["fc.lora_A.default.weight"] = torch.randn(4, 32)
    state["fc.lora_B.default.weight"] = torch.randn(4, 4)
    return _both(scene, state)


@kind("averaged weights beside the plain ones", "facebookresearch/fairchem#284")
def _(scene: Scene) -> Trial:
    """Here the average is what was validated."""
    content = {
        "state_dict": scene.other.state_dict(),
        "state_dict_ema": scene.net.state_dict(),
        "epoch": 9,
    }
    return _both(scene, content, "state_dict", expected=scene.labels)


@kind("averaged and online network in one dict", "lucidrains/ema-pytorch#39")
def _(scene: Scene) -> Trial:
    content = {
        **_prefixed(scene.other.state_dict(), "online_model."),
        **_prefixed(scene.net.state_dict(), "ema_model."),
        "step": torch.tensor(900),
        "initted": torch.tensor(True),
    }
    return _both(scene, content, expected=scene.labels)


@kind("student and teacher", "open-mmlab/mmrazor#594")
def _(scene: Scene) -> Trial:
    """Which is wanted stands nowhere."""
    content = {
        **_prefixed(scene.other.state_dict(), "teacher."),
        **_prefixed(scene.net.state_dict(), "student."),
    }
    return _both(scene, content)


class Encoder(nn.Module):
    """A network that has a head of its own, which nobody trained further."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = Body(), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.body(x))


@kind("encoder and classifier apart", "HobbitLong/CMC#47")
def _(scene: Scene) -> Trial:
    """The answer is classifier(encoder.body(x)); the encoder's own head is an old one."""
    encoder = {**scene.net.state_dict(), "fc.weight": torch.randn(4, 32)}
    content = {"encoder": encoder, "classifier": scene.net.fc.state_dict()}
    trial = _both(scene, content, "encoder", expected=scene.labels, arch=Encoder)
    return trial


@kind("the head is not in the file", "facebookresearch/swav#105", "huggingface/transformers#5421")
def _(scene: Scene) -> Trial:
    return _both(scene, scene.net.body.state_dict() and _prefixed(
        scene.net.body.state_dict(), "body."))  # fmt: skip


@kind("weights beside an argparse.Namespace", "mlcommons/mlperf-automations#465")
def _(scene: Scene) -> Trial:
    """weights_only=True refuses it, so people switch that off and run what the file says."""
    content = {
        "args": argparse.Namespace(lr=0.1, data="photos"),
        "best_acc": np.float64(0.9),
        "state_dict": scene.net.state_dict(),
    }
    return _both(scene, content, "state_dict", expected=scene.labels)


@kind("a whole network of a package that is gone", "Comfy-Org/ComfyUI#7425")
def _(scene: Scene) -> Trial:
    module = types.ModuleType("gone_models")
    made = type("Gone", (Net,), {"__module__": "gone_models", "__qualname__": "Gone"})
    module.Gone = made  # type: ignore[attr-defined]
    sys.modules["gone_models"] = module
    net = made().eval()
    net.load_state_dict(scene.net.state_dict())
    path = scene.saved(net, "whole.pth")
    del sys.modules["gone_models"]
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.ours(path),
            "torchvision": scene.thirty_lines(lambda: torch.load(path, weights_only=False)),
        },
    )


@kind("mmpretrain's file with its names", "open-mmlab/mmpretrain#1091", "open-mmlab/mmpretrain#16")
def _(scene: Scene) -> Trial:
    meta = {"mmengine_version": "0.10.4", "dataset_meta": {"classes": list(NAMES)}}
    path = scene.saved({"meta": meta, "state_dict": scene.net.state_dict(), "message_hub": {}})
    return Trial(expected=scene.labels, tools={"toplabel": scene.ours(path, labels=None)})


@kind("mmengine's averaged weights, swapped on saving", "open-mmlab/mmengine#804")
def _(scene: Scene) -> Trial:
    content = {
        "meta": {"mmengine_version": "0.10.4"},
        "state_dict": scene.net.state_dict(),
        "ema_state_dict": _prefixed(scene.other.state_dict(), "module."),
        "message_hub": {},
    }
    return _both(scene, content, "state_dict", expected=scene.labels)


@kind("a published file that was changed", "pytorch/vision#353")
def _(scene: Scene) -> Trial:
    """The name ends in the first digits of a hash that the content does not have."""
    path = scene.saved(scene.other.state_dict(), "net-0a1b2c3d.pth")
    return Trial(
        expected=None,
        tools={"toplabel": scene.ours(path), "torchvision": _not_strict(scene, path)},
    )


@kind("Inception without its auxiliary head", "pytorch/pytorch#18668", "mseitzer/pytorch-fid#34")
def _(scene: Scene) -> Trial:
    """A file written with it, a network built without."""
    from torchvision import models

    torch.manual_seed(0)
    made = models.googlenet(aux_logits=True, init_weights=False, num_classes=4).eval()
    path = scene.saved(made.state_dict(), "googlenet.pth")
    batch = nn.functional.interpolate(scene.batch, 64)
    expected = [NAMES[i] for i in made(batch).argmax(1)]
    from torchvision import transforms

    transform = transforms.Compose(
        [*TRANSFORM.transforms[:2], transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    transform.transforms.append(
        transforms.Lambda(lambda x: nn.functional.interpolate(x[None], 64)[0])
    )

    def load() -> nn.Module:
        net = models.googlenet(aux_logits=False, init_weights=False, num_classes=4)
        net.load_state_dict(torch.load(path, weights_only=True))
        return net

    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, arch="torchvision/googlenet", preprocess=transform),
            "torchvision": scene.thirty_lines(load, transform=transform),
        },
    )


@kind("a stem with other strides", "kuangliu/pytorch-cifar#53")
def _(scene: Scene) -> Trial:
    """Strides are in no tensor: the zoo's network fits strictly and answers otherwise."""
    from torchvision import models

    def small() -> nn.Module:
        net = models.resnet18(num_classes=4)
        net.conv1.stride, net.maxpool = (1, 1), nn.Identity()
        return net

    torch.manual_seed(0)
    made = small().eval()
    with torch.no_grad():
        made.fc.weight.mul_(30)
    path = scene.saved(made.state_dict(), "resnet.pth")
    expected = [NAMES[i] for i in made(scene.batch).argmax(1)]

    def load() -> nn.Module:
        net = models.resnet18(num_classes=4)
        net.load_state_dict(torch.load(path, weights_only=True))
        return net

    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, arch=None),
            "torchvision": scene.thirty_lines(load),
        },
    )


@kind("RepVGG's two forms", "DingXiaoH/RepVGG#19", "apple/ml-mobileone#8")
def _(scene: Scene) -> Trial:
    """The fused weights in the class of training."""
    import timm
    from timm.utils.model import reparameterize_model

    torch.manual_seed(0)
    made = timm.create_model("repvgg_a0", num_classes=4).eval()
    expected = [NAMES[i] for i in made(scene.batch).argmax(1)]
    path = scene.saved(reparameterize_model(made).state_dict(), "repvgg.pth")

    def make() -> nn.Module:
        return timm.create_model("repvgg_a0", num_classes=4)

    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.ours(path, arch="timm/repvgg_a0"),
            "timm": scene.thirty_lines(
                lambda: timm.create_model("repvgg_a0", num_classes=4, checkpoint_path=str(path))
            ),
            "torchvision": _not_strict(scene, path, make=make),
        },
    )


# Hugging Face's folders


def folder_of(scene: Scene, name: str, **config) -> tuple[Path, list[str]]:
    """A small ViT with names, and its right labels by transformers in eager PyTorch."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    made = ViTForImageClassification(
        ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=SIZE_OF_VIT, patch_size=8, num_labels=4, initializer_range=0.3,
            id2label=dict(enumerate(NAMES)), label2id={n: i for i, n in enumerate(NAMES)},
        )
    ).eval()  # fmt: skip
    folder = scene.folder / name
    made.save_pretrained(folder)
    ViTImageProcessor(size={"height": SIZE_OF_VIT, "width": SIZE_OF_VIT}).save_pretrained(folder)
    with torch.no_grad():
        pixels = ViTImageProcessor.from_pretrained(folder)(scene.images, return_tensors="pt")
        labels = [NAMES[i] for i in made(**pixels).logits.argmax(1).tolist()]
    change_config(folder, **config)
    return folder, labels


SIZE_OF_VIT = 32


def change_config(folder: Path, **config) -> None:
    """Write these into config.json."""
    file = folder / "config.json"
    written = json.loads(file.read_text(encoding="utf-8")) | config
    file.write_text(json.dumps(written), encoding="utf-8")


def of_folder(scene: Scene, folder: Path, expected) -> Trial:
    """By us and by the pipeline."""
    ours = scene.ours(folder, arch=None, labels=None, preprocess=None)
    tools = {"toplabel": ours, "transformers": scene.pipeline(folder)}
    return Trial(expected=expected, tools=tools)


@kind("a folder with fewer rows in the head than names", "huggingface/peft#2270")
def _(scene: Scene) -> Trial:
    names = {str(i): name for i, name in enumerate([*NAMES, "extra"])}
    folder, _ = folder_of(scene, "rows", id2label=names, num_labels=5, label2id={})
    return of_folder(scene, folder, None)


@kind("a folder without the classifier's weights", "huggingface/transformers#30374")
def _(scene: Scene) -> Trial:
    from safetensors.torch import load_file, save_file

    folder, _ = folder_of(scene, "headless")
    file = folder / "model.safetensors"
    state = {k: v for k, v in load_file(file).items() if not k.startswith("classifier.")}
    save_file(state, file, metadata={"format": "pt"})
    return of_folder(scene, folder, None)


@kind("two sets of weights in a folder", "huggingface/transformers#26729", "Blaizzy/mlx-vlm#1464")
def _(scene: Scene) -> Trial:
    """The newer ones lie beside those that are taken."""
    folder, labels = folder_of(scene, "sets")
    from safetensors.torch import load_file, save_file

    newer = load_file(folder / "model.safetensors")
    torch.save(newer, folder / "pytorch_model.bin")
    older = {name: torch.roll(tensor, 1, 0) for name, tensor in newer.items()}
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})
    return of_folder(scene, folder, labels)


@kind("id2label against label2id", "huggingface/pytorch-image-models#2080")
def _(scene: Scene) -> Trial:
    """One was edited by hand; which is right stands nowhere."""
    names = {str(i): name for i, name in enumerate(sorted(NAMES))}
    folder, _ = folder_of(scene, "ids", id2label=names)
    return of_folder(scene, folder, None)


@kind("a folder for several labels", "huggingface/transformers#35848")
def _(scene: Scene) -> Trial:
    """The scores are independent: sigmoid, not softmax."""
    from transformers import AutoModelForImageClassification, ViTImageProcessor

    import toplabel

    folder, _ = folder_of(scene, "several", problem_type="multi_label_classification")
    with torch.no_grad():
        pixels = ViTImageProcessor.from_pretrained(folder)(scene.images, return_tensors="pt")
        net = AutoModelForImageClassification.from_pretrained(folder)
        scores = net(**pixels).logits.sigmoid().max(1).values.tolist()

    def ours() -> list:
        said = toplabel.load(folder)(scene.images, threshold=0.0)
        return [round(one.top[0].score, 2) for one in said]

    def pipeline() -> list:
        from transformers import pipeline as make

        classify = make("image-classification", model=str(folder), device="cpu")
        return [round(best[0]["score"], 2) for best in classify(scene.images, top_k=1)]

    return Trial(
        expected=[round(score, 2) for score in scores],
        tools={"toplabel": ours, "transformers": pipeline},
    )


@kind("an adapter without its base", "huggingface/peft#577")
def _(scene: Scene) -> Trial:
    from safetensors.torch import save_file

    folder = scene.folder / "adapter"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "./gone"})
    )
    save_file(
        {"base_model.model.classifier.weight": torch.zeros(4, 32)},
        folder / "adapter_model.safetensors",
    )
    return of_folder(scene, folder, None)
