"""Weight cases: weights of another network, or that are no numbers."""

import tempfile
from pathlib import Path

import torch
from cells import Outcome, by_torch, case, compared, imagenet_transform, of_ours, truth
from networks import build

import toplabel


@case("wrong class with strict=False", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from torchvision import models

    torch.manual_seed(0)
    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    other = models.mobilenet_v2().eval()
    other.load_state_dict(
        torch.load(checkpoints / "lite0.pth", weights_only=True), strict=False
    )  # it returns the names; nobody looks
    return compared(by_torch(other, imagenet_transform(), photos), truth(checkpoints, photos))


@case("wrong class with strict=False", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return of_ours(
        lambda: [
            p.index
            for p in toplabel.load(
                checkpoints / "lite0.pth",
                arch="torchvision/mobilenet_v2",
                preprocess="half-crop-256-224",
            )(photos)
        ],
        truth(checkpoints, photos),
    )


def _with_nan(checkpoints: Path, folder: str) -> Path:
    state = torch.load(checkpoints / "lite0.pth", weights_only=True)
    state["conv_stem.weight"][0] = float("nan")
    path = Path(folder) / "nan.pth"
    torch.save(state, path)
    return path


@case("NaN weights", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        model, transform = build("lite0", weights=str(_with_nan(checkpoints, folder)))
        return compared(by_torch(model, transform, photos), truth(checkpoints, photos))


@case("NaN weights", "timm")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import timm
    from timm.data import create_transform, resolve_data_config

    with tempfile.TemporaryDirectory() as folder:
        model = timm.create_model(
            "tf_efficientnet_lite0", checkpoint_path=str(_with_nan(checkpoints, folder))
        ).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    return compared(by_torch(model, transform, photos), truth(checkpoints, photos))


@case("NaN weights", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(checkpoints / "lite0-hf"), device="cpu")
    with torch.no_grad():
        next(classify.model.parameters())[0] = float("nan")
    found = [int(best[0]["label"]) for best in classify(photos, top_k=1)]
    return compared(found, truth(checkpoints, photos))


@case("NaN weights", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = _with_nan(checkpoints, folder)
        return of_ours(
            lambda: [
                p.index for p in toplabel.load(path, arch="timm/tf_efficientnet_lite0")(photos)
            ],
            truth(checkpoints, photos),
        )
