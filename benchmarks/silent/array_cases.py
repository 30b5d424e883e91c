"""Array cases: images from memory, in an order or a range that is not what is expected."""

from pathlib import Path

import numpy as np
import torch
from cells import NAMED, Outcome, case, compared, of_ours, truth
from networks import build
from PIL import Image

import toplabel


def _arrays(photos: list[str]) -> list[np.ndarray]:
    return [np.asarray(Image.open(photo).convert("RGB")) for photo in photos]


@case("BGR arrays, 4", "torchvision")
@case("BGR arrays, 10", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    with torch.no_grad():
        found = [
            int(model(transform(Image.fromarray(one[..., ::-1].copy()))[None]).argmax())
            for one in _arrays(photos)
        ]
    return compared(found, truth(checkpoints, photos))


@case("BGR arrays, 4", "transformers")
@case("BGR arrays, 10", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(checkpoints / "lite0-hf"), device="cpu")
    try:
        said = classify([one[..., ::-1] for one in _arrays(photos)], top_k=1)
    except Exception as error:
        return NAMED, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return compared([int(best[0]["label"]) for best in said], truth(checkpoints, photos))


@case("BGR arrays, 4", "toplabel")
@case("BGR arrays, 10", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return of_ours(
        lambda: [p.index for p in toplabel.load()([one[..., ::-1] for one in _arrays(photos)])],
        truth(checkpoints, photos),
    )


@case("float range", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    from torchvision import transforms

    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Resize(256), transforms.CenterCrop(224),
         transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )  # fmt: skip
    with torch.no_grad():  # ToTensor scales uint8 only: 0 to 255 stays 0 to 255
        found = [
            int(model(transform(one.astype(np.float32))[None]).argmax()) for one in _arrays(photos)
        ]
    return compared(found, truth(checkpoints, photos))


@case("float range", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    said = toplabel.load()([one.astype(np.float32) for one in _arrays(photos)])
    failed = [one.error for one in said if one.error is not None]
    if len(failed) == len(said):
        return NAMED, f"{failed[0].code}: {failed[0].message[:140]}"
    return compared([one.index for one in said], truth(checkpoints, photos))
