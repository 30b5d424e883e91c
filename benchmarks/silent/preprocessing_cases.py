"""Preprocessing cases: right weights, run in a wrong way."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from cells import (
    NAMED,
    RIGHT,
    SILENT,
    Outcome,
    by_torch,
    case,
    compared,
    imagenet_transform,
    of_ours,
    truth,
)
from networks import build
from PIL import Image
from torch import nn
from torch.nn import functional

import toplabel

# Wrong preprocessing for pretrained weights: these were trained with mean and std 0.5


@case("wrong preprocessing for pretrained weights", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    return compared(by_torch(model, imagenet_transform(), photos), truth(checkpoints, photos))


@case("wrong preprocessing for pretrained weights", "timm")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from timm.data import create_transform, resolve_data_config

    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    transform = create_transform(**resolve_data_config({}, model=model))
    return compared(by_torch(model, transform, photos), truth(checkpoints, photos))


@case("wrong preprocessing for pretrained weights", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(checkpoints / "lite0-hf"), device="cpu")
    found = [int(best[0]["label"]) for best in classify(photos, top_k=1)]
    return compared(found, truth(checkpoints, photos))


@case("wrong preprocessing for pretrained weights", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model = toplabel.load()
    return compared([one.index for one in model(photos)], truth(checkpoints, photos))


# Unknown preprocessing: somebody's checkpoint, whose file says nothing of it


class Mine(nn.Module):
    """A class of the user's around the network, as training code has it."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.net(x)


def _mine(checkpoints: Path, folder: str) -> Path:
    state = torch.load(checkpoints / "lite0.pth", weights_only=True)
    path = Path(folder) / "mine.pth"
    torch.save({f"net.{name}": tensor for name, tensor in state.items()}, path)
    return path


@case("unknown preprocessing", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        model = Mine()
        model.load_state_dict(torch.load(_mine(checkpoints, folder), weights_only=True))
        return compared(
            by_torch(model.eval(), imagenet_transform(), photos), truth(checkpoints, photos)
        )


@case("unknown preprocessing", "timm")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    """A checkpoint trained with ImageNet's constants instead of the architecture's own."""
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(
        "tf_efficientnet_lite0", checkpoint_path=str(checkpoints / "lite0.pth")
    ).eval()
    right = by_torch(model, imagenet_transform(), photos)  # what it would have been trained with
    own = create_transform(**resolve_data_config({}, model=model))
    return compared(by_torch(model, own, photos), right)


@case("unknown preprocessing", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import shutil

    from transformers import pipeline

    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "model"
        shutil.copytree(checkpoints / "lite0-hf", copied)
        config = json.loads((copied / "config.json").read_text())
        config.pop("pretrained_cfg", None)
        (copied / "config.json").write_text(json.dumps(config))
        for name in ("preprocessor_config.json",):
            (copied / name).unlink(missing_ok=True)
        try:
            classify = pipeline("image-classification", model=str(copied), device="cpu")
            found = [int(best[0]["label"]) for best in classify(photos, top_k=1)]
        except Exception as error:
            return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return compared(found, truth(checkpoints, photos))


@case("unknown preprocessing", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = _mine(checkpoints, folder)
        return of_ours(
            lambda: [p.index for p in toplabel.load(path, arch=Mine)(photos)],
            truth(checkpoints, photos),
        )


# Train mode


@case("train mode", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    model.train()  # as it comes out of training
    return compared(
        [by_torch(model, transform, [photo])[0] for photo in photos], truth(checkpoints, photos)
    )


@case("train mode", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    model.train()
    return of_ours(
        lambda: [p.index for p in toplabel.wrap(model, preprocess=transform)(photos)],
        truth(checkpoints, photos),
    )


# Hidden dropout


class Dropping(nn.Module):
    """F.dropout without `training=self.training`: always active."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of an image half of which is missing."""
        return self.network(functional.dropout(x, 0.5))


@case("hidden dropout", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    torch.manual_seed(0)
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    found = by_torch(Dropping(model).eval(), transform, photos)
    return compared(found, truth(checkpoints, photos))


@case("hidden dropout", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    return of_ours(
        lambda: [p.index for p in toplabel.wrap(Dropping(model), preprocess=transform)(photos)],
        truth(checkpoints, photos),
    )


# Double softmax: the network ends in one; a score is wrong where the label is right


def _scores(found: float, right: float) -> Outcome:
    close = abs(found - right) < 0.01
    return (RIGHT if close else SILENT), f"score {found:.3f}, its own is {right:.3f}"


def _own_score(model: nn.Module, transform: Callable, photo: str) -> float:
    with torch.no_grad():
        return float(model(transform(Image.open(photo).convert("RGB"))[None]).softmax(1).max())


@case("double softmax", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    ended = nn.Sequential(model, nn.Softmax(1))
    return _scores(_own_score(ended, transform, photos[0]), _own_score(model, transform, photos[0]))


@case("double softmax", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    wrapped = toplabel.wrap(nn.Sequential(model, nn.Softmax(1)), preprocess=transform)
    return _scores(wrapped(photos[0]).score, _own_score(model, transform, photos[0]))
