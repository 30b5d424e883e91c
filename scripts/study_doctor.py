"""Train small networks under known preprocessings, and see what `toplabel doctor` finds.

    python scripts/study_doctor.py DATA [--photos FOLDER] [--out docs/doctor.json]

DATA holds CIFAR-10's images in class folders; digits come from scikit-learn, shapes are drawn.
Twenty networks of four kinds; twelve have a preprocessing that doctor knows, eight one that it
does not. Each is asked about with draws of 16 images of its own kind that it was not trained on,
and of 16 foreign photos.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from torch import nn
from torch.nn import functional

from toplabel.analysis.doctor.batchnorm_stats import find_normalisation

Pixels = NDArray[np.uint8]
Prepare = Callable[[Pixels], NDArray[np.float32]]

SIDE = 32
EPOCHS = 7
DRAWS = 10
PHOTOS = 16


def constants(mean: Any, std: Any, *, high: float = 1.0, bgr: bool = False) -> Prepare:
    """(x * high / 255 - mean) / std, of RGB or BGR."""
    centre, spread = np.float32(np.broadcast_to(mean, 3)), np.float32(np.broadcast_to(std, 3))

    def prepare(pixels: Pixels) -> NDArray[np.float32]:
        values = np.float32(pixels[..., ::-1] if bgr else pixels) * np.float32(high / 255)
        return np.ascontiguousarray(((values - centre) / spread).transpose(0, 3, 1, 2))

    return prepare


def per_image(pixels: Pixels) -> NDArray[np.float32]:
    """Each image less its own mean, by its own std."""
    values = np.float32(pixels).transpose(0, 3, 1, 2)
    mean, std = values.mean((1, 2, 3), keepdims=True), values.std((1, 2, 3), keepdims=True)
    return np.ascontiguousarray((values - mean) / np.maximum(std, 1))


def hsv(pixels: Pixels) -> NDArray[np.float32]:
    """Hue, saturation and value from 0 to 1: no candidate of doctor's."""
    turned = [np.asarray(Image.fromarray(one).convert("HSV")) for one in pixels]
    return constants(0, 1)(np.stack(turned))


def cubed(pixels: Pixels) -> NDArray[np.float32]:
    """A strong gamma: no candidate of doctor's."""
    return constants(0, 1)(pixels) ** 3


def inverted(pixels: Pixels) -> NDArray[np.float32]:
    """White is -1 and black 1: no candidate of doctor's."""
    return -constants(0.5, 0.5)(pixels)


def brighter(pixels: Pixels) -> NDArray[np.float32]:
    """Another gamma: no candidate of doctor's, nor one of its distortions."""
    return constants(0, 1)(pixels) ** 0.6


def equalised(pixels: Pixels) -> NDArray[np.float32]:
    """Each channel's histogram made flat: no candidate, nor one of its distortions."""
    flat = [np.asarray(ImageOps.equalize(Image.fromarray(one))) for one in pixels]
    return constants(0, 1)(np.stack(flat))


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Planted:
    """A network to train: what it sees, how it is built, and what doctor should say.

    `family` None: the preprocessing is none that doctor knows.
    """

    name: str
    kind: str
    data: str
    prepare: Prepare
    family: str | None
    colour: str | None = None


PLANTED = (
    Planted("ImageNet's mean and std", "plain", "cifar", constants(*IMAGENET), "z-score", "rgb"),
    Planted("0.5 and 0.5", "residual", "cifar", constants(0.5, 0.5), "-1 to 1", "rgb"),
    Planted("0 to 1", "depthwise", "cifar", constants(0, 1), "0 to 1", "rgb"),
    Planted("0 to 255", "stacked", "cifar", constants(0, 1, high=255), "0 to 255", "rgb"),
    Planted(
        "0 to 255, BGR", "plain", "cifar", constants(0, 1, high=255, bgr=True), "0 to 255", "bgr"
    ),
    Planted(
        "caffe's mean, BGR",
        "residual",
        "cifar",
        constants((103.939, 116.779, 123.68), 1, high=255, bgr=True),
        "caffe",
        "bgr",
    ),
    Planted("less 0.5", "depthwise", "cifar", constants(0.5, 1), "-0.5 to 0.5", "rgb"),
    Planted("per image", "stacked", "cifar", per_image, "per image"),
    Planted("0 to 1, BGR", "plain", "shapes", constants(0, 1, bgr=True), "0 to 1", "bgr"),
    Planted("0.5 and 0.5", "depthwise", "digits", constants(0.5, 0.5), "-1 to 1", "rgb"),
    Planted("ImageNet's mean and std", "stacked", "shapes", constants(*IMAGENET), "z-score", "rgb"),
    Planted("0 to 1", "residual", "digits", constants(0, 1), "0 to 1", "rgb"),
    Planted("0 to 2", "plain", "cifar", constants(0, 0.5), None),
    Planted("hue, saturation, value", "residual", "cifar", hsv, None),
    Planted("ImageNet's, std tripled", "depthwise", "cifar", constants(IMAGENET[0], 0.68), None),
    Planted("mean 0.9, std 0.1", "stacked", "cifar", constants(0.9, 0.1), None),
    Planted("0 to 1, cubed", "plain", "cifar", cubed, None),
    Planted("0.5 and 0.5, inverted", "depthwise", "cifar", inverted, None),
    Planted("0 to 1, to the power of 0.6", "residual", "cifar", brighter, None),
    Planted("0 to 1, histograms equalised", "stacked", "cifar", equalised, None),
)


def build(kind: str, classes: int, *, seed: int) -> nn.Module:
    """A small network of one of four kinds."""
    torch.manual_seed(seed)
    if kind == "plain":
        return nn.Sequential(
            *_step(3, 16), *_step(16, 32, 2), *_step(32, 64, 2), *_end(64, classes)
        )
    if kind == "stacked":  # two convolutions a step, a bias before each normalisation
        return nn.Sequential(
            *_step(3, 16, bias=True), *_step(16, 16, bias=True), nn.MaxPool2d(2),
            *_step(16, 32, bias=True), *_step(32, 32, bias=True), nn.MaxPool2d(2),
            *_step(32, 64, bias=True), *_end(64, classes),
        )  # fmt: skip
    if kind == "depthwise":
        return nn.Sequential(
            *_step(3, 24, 2), *_depthwise(24, 48), *_depthwise(48, 64, 2), *_end(64, classes)
        )
    return nn.Sequential(
        *_step(3, 16), Residual(16), *_step(16, 32, 2), Residual(32), *_step(32, 48, 2),
        *_end(48, classes),
    )  # fmt: skip


def _step(inputs: int, outputs: int, stride: int = 1, *, bias: bool = False) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _depthwise(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    spread = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    return [
        *(spread, nn.BatchNorm2d(inputs), nn.ReLU()),
        *(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
    ]


def _end(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_step(width, width)[:2], nn.ReLU(), *_step(width, width)[:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both ways."""
        return functional.relu(x + self.inner(x))


def train(
    network: nn.Module, inputs: NDArray[np.float32], truth: NDArray[np.int64], *, held: int
) -> float:
    """Train it, left in eval mode; its accuracy on the first `held` images, kept out."""
    order = torch.arange(len(truth))
    x, y = torch.from_numpy(inputs)[order], torch.from_numpy(truth)[order]
    optimiser = torch.optim.SGD(network.parameters(), 0.05, 0.9, weight_decay=5e-4)
    steps = EPOCHS * max(1, (len(y) - held) // 64) * max(1, 4000 // len(y))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=steps)
    network.train()
    for _ in range(steps):
        batch = torch.randint(held, len(y), (64,))
        images = x[batch]
        if torch.rand(()) < 0.5:
            images = images.flip(3)
        loss = functional.cross_entropy(network(images), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return float((network(x[:held]).argmax(1) == y[:held]).float().mean())


def read_folder(folder: Path, count: int | None = None) -> tuple[Pixels, NDArray[np.int64]]:
    """Images below a folder, their middle at 32x32, and the place of their class folder."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if count is not None:
        files = [files[int(i)] for i in np.linspace(0, len(files) - 1, count)]
    names = sorted({file.parent.name for file in files})
    pixels = np.stack([_square(Image.open(file).convert("RGB")) for file in files])
    return pixels, np.array([names.index(file.parent.name) for file in files])


def _square(image: Image.Image) -> Pixels:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def digits() -> tuple[Pixels, NDArray[np.int64]]:
    """scikit-learn's digits in ink of some colour on paper of another."""
    from sklearn.datasets import load_digits

    found, chance = load_digits(), np.random.default_rng(3)
    made = []
    for one in found.images:
        ink, paper = chance.integers(0, 90, 3), chance.integers(150, 256, 3)
        grey = np.asarray(Image.fromarray(np.uint8(one * 15.9)).resize((SIDE, SIDE))) / 255.0
        made.append(np.uint8(grey[..., None] * ink + (1 - grey[..., None]) * paper))
    return np.stack(made), np.int64(found.target)


def shapes(count: int = 2000) -> tuple[Pixels, NDArray[np.int64]]:
    """Discs, squares, triangles and crosses of any colour on a ground of another."""
    chance, made, truth = np.random.default_rng(4), [], []
    for number in range(count):
        ground, ink = (tuple(int(v) for v in chance.integers(0, 256, 3)) for _ in range(2))
        image = Image.new("RGB", (SIDE, SIDE), ground)
        left, top = (int(v) for v in chance.integers(1, 12, 2))
        right, bottom = left + int(chance.integers(10, 19)), top + int(chance.integers(10, 19))
        draw, box = ImageDraw.Draw(image), (left, top, right, bottom)
        kind = number % 4
        if kind == 0:
            draw.ellipse(box, fill=ink)
        elif kind == 1:
            draw.rectangle(box, fill=ink)
        elif kind == 2:
            draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=ink)
        else:
            draw.line(box, fill=ink, width=4)
            draw.line((left, bottom, right, top), fill=ink, width=4)
        noisy = np.asarray(image, np.int16) + chance.integers(-12, 13, (SIDE, SIDE, 3))
        made.append(np.uint8(noisy.clip(0, 255)))
        truth.append(kind)
    return np.stack(made), np.array(truth)


def asked(
    network: nn.Module, pixels: Pixels, one: Planted, *, seed: int
) -> Iterator[dict[str, Any]]:
    """What doctor finds with each draw of 16 images."""
    chance = np.random.default_rng(seed)
    for _ in range(DRAWS):
        drawn = pixels[chance.choice(len(pixels), PHOTOS, replace=False)]
        found = find_normalisation(network, drawn)
        said = {found.family.family, found.family.tied} - {None}
        colour = found.colour and found.colour.colour
        yield {
            "family": _verdict(said, one.family),
            "colour": "cannot tell" if colour is None else _verdict({colour}, one.colour),
            "said": sorted(said),
            "divergence": round(found.family.ranked[0].divergence, 4),
        }


def _verdict(said: set[Any], truth: str | None) -> str:
    if not said:
        return "cannot tell"
    return "right" if truth in said else "wrong"


def count(answers: list[dict[str, Any]], what: str) -> list[int]:
    """How many are right, cannot tell, and wrong."""
    return [sum(a[what] == v for a in answers) for v in ("right", "cannot tell", "wrong")]


def main() -> None:
    """Train, ask, print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=Path, help="foreign photos")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(2)
    every = {"cifar": read_folder(given.data), "digits": digits(), "shapes": shapes()}
    photos = read_folder(given.photos, 96)[0] if given.photos else None
    rows = []
    for one in PLANTED:
        began = time.perf_counter()
        pixels, truth = every[one.data]
        mixed = np.random.default_rng(given.seed).permutation(len(truth))
        pixels, truth = pixels[mixed], truth[mixed]
        held = len(truth) // 6  # neither trained on nor normalised by
        network = build(one.kind, int(truth.max()) + 1, seed=given.seed)
        accuracy = train(network, one.prepare(pixels), truth, held=held)
        foreign = (
            photos if photos is not None else every["cifar" if one.data != "cifar" else "shapes"][0]
        )
        row: dict[str, Any] = {
            "preprocessing": one.name,
            "network": one.kind,
            "data": one.data,
            "listed": one.family is not None,
            "accuracy": round(accuracy, 3),
        }
        for where, images in (("own", pixels[:held]), ("foreign", foreign)):
            answers = list(asked(network, images, one, seed=given.seed))
            row[where] = {what: count(answers, what) for what in ("family", "colour")}
            row[where]["said"] = [a["said"] for a in answers]
        rows.append(row)
        print(json.dumps(row | {"seconds": round(time.perf_counter() - began)}), file=sys.stderr)
    print(table(rows))
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """Right / cannot tell / wrong of each network, as Markdown."""
    lines = [
        "| preprocessing | network | data | accuracy | family, own | colour, own | family, foreign"
        " | colour, foreign |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            " / ".join(map(str, row[where][what]))
            for where in ("own", "foreign")
            for what in ("family", "colour")
        ]
        name = row["preprocessing"] + ("" if row["listed"] else " (not listed)")
        lines.append(
            f"| {name} | {row['network']} | {row['data']} | {row['accuracy']:.2f} |"
            f" {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
