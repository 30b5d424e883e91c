"""Drift cases: the same network by another way, with other answers."""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cells import NONE, Outcome, by_torch, case, compared, of_ours
from networks import build
from PIL import Image
from torch import nn

import toplabel


@case("drift between fast and exact", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    fast, exact = toplabel.load(), toplabel.load(exact=True)
    return compared([one.index for one in fast(photos)], [one.index for one in exact(photos)])


@case("drift between fast and exact", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    """Transforms on tensors, as its documentation advises for speed, against those on images."""
    from torchvision.transforms import v2

    model, _ = build("lite0", weights=str(checkpoints / "lite0.pth"))
    on_tensors = v2.Compose(
        [v2.ToImage(), v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True),
         v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
    )  # fmt: skip
    on_images = v2.Compose(
        [v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.ToImage(),
         v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
    )  # fmt: skip
    return compared(by_torch(model, on_tensors, photos), by_torch(model, on_images, photos))


@case("drift between fast and exact", "transformers")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    return NONE, "these weights have one image processor; of its own two, see docs/benchmarks.md"


class Branching(nn.Module):
    """Answers by another head where it is dark: an export by tracing keeps one of the two ways."""

    def __init__(self, network: nn.Module, at: float) -> None:
        super().__init__()
        self.network = network
        self.at = at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        if x.mean() > self.at:
            return self.network(x)
        return self.network(x).roll(1, 1)


def _branching(checkpoints: Path, photos: list[str]) -> tuple[nn.Module, Callable, list[int]]:
    """The network, its transform, and its labels; half of the photos go each way."""
    model, transform = build("lite0", weights=str(checkpoints / "lite0.pth"))
    means = [float(transform(Image.open(p).convert("RGB")).mean()) for p in photos]
    branching = Branching(model, float(np.median(means))).eval()
    return branching, transform, [by_torch(branching, transform, [p])[0] for p in photos]


@case("drift after export", "torchvision")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    import onnxruntime

    branching, transform, right = _branching(checkpoints, photos)
    example = transform(Image.open(photos[0]).convert("RGB"))[None]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = f"{folder}/model.onnx"
        torch.onnx.export(branching, example, path, dynamo=False, input_names=["x"])
        session = onnxruntime.InferenceSession(path)
        inputs = [transform(Image.open(p).convert("RGB"))[None].numpy() for p in photos]
        found = [int(session.run(None, {"x": one})[0].argmax()) for one in inputs]
    warning = next((str(one.message) for one in caught if "Tracer" in one.category.__name__), "")
    return compared(found, right, warning=warning[:120])


@case("drift after export", "toplabel")
def _(checkpoints: Path, photos: list[str]) -> Outcome:
    branching, transform, right = _branching(checkpoints, photos)
    return of_ours(
        lambda: [p.index for p in toplabel.wrap(branching, preprocess=transform)(photos)],
        right,
    )
