"""What a trained model flags as unknown, and what a class prior does for rare classes.

    python scripts/measure_unknown.py [DATA]

DATA (`../shared/data`) holds `train/{flowers,trash,bees}`, `cifar10-test` and `imagenet`. Features
are those of the built-in network. Of each own set half of each class, at most 50, trains; the rest
and all other sets are labelled. Then scaled decodes against full ones; then the cost of a photo.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import toplabel
from toplabel.bundle.unknown import UnknownDetector
from toplabel.image.reading import read_image
from toplabel.training.head import fit_head
from toplabel.training.unknown import fit_unknown

Set = tuple[NDArray[np.float32], NDArray[np.int64], list[Path]]
DRAWS = 10
RARE = {"flowers": (90, 8), "trash": (45, 4), "cifar": (75, 4)}  # most and fewest of a class
LARGE = 2400  # pixels of the short side of photos that a scaled decode reads


def main() -> None:
    """Measure all, and print tables."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    model = toplabel.load(exact=True)
    sets = {name: read(model, path) for name, path in folders(data).items()}
    print("| own set | photos a class | own flagged | foreign flagged | a class left out |")
    print("|---|---|---|---|---|")
    for own in ("flowers", "trash"):
        for most in (20, 50):
            print_flagged(sets, own, most)
    print("\n| set | way | balanced accuracy | recall of the rarest |\n|---|---|---|---|")
    for name, (most, least) in RARE.items():
        print_rare(sets[name], name, most, least)
    detector = fit_unknown(*sets["flowers"][:2])
    print_decodes(model, detector, sets)
    print_cost()


def folders(data: Path) -> dict[str, Path]:
    """The sets by name."""
    trained = {name: data / "train" / name for name in ("flowers", "trash", "bees")}
    return trained | {"cifar": data / "cifar10-test", "imagenet": data / "imagenet"}


def read(model: toplabel.Predictor, folder: Path) -> Set:
    """Features (N, D), classes (N,) and paths of the images below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    names = [path.parent.name for path in paths]
    targets = np.unique(names, return_inverse=True)[1]
    return model.embed([str(path) for path in paths]), targets.astype(np.int64), paths


def split(
    targets: NDArray[np.int64], counts: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images train, so many of each class, and which do not."""
    chance, inside = np.random.default_rng(seed), np.zeros(len(targets), np.bool_)
    for number, count in enumerate(counts):
        inside[chance.permutation(np.flatnonzero(targets == number))[:count]] = True
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def print_flagged(sets: dict[str, Set], own: str, most: int) -> None:
    """How many own and foreign photos are flagged, over the draws."""
    features, targets, _ = sets[own]
    rows = []
    for seed in range(DRAWS):
        counts = np.minimum(np.bincount(targets) // 2, most)
        inside, outside = split(targets, counts, seed)
        detector = fit_unknown(features[inside], targets[inside])
        foreign = [flagged(detector, sets[name][0]) for name in sets if name != own]
        siblings = detector.siblings or 0.0
        rows.append([flagged(detector, features[outside]), float(np.mean(foreign)), siblings])
    own_share, foreign_share, siblings = np.mean(rows, axis=0)
    print(
        f"| {own} | {most} | {own_share:.1%} | {foreign_share:.1%} | {siblings:.1%} |", flush=True
    )


def flagged(detector: UnknownDetector, features: NDArray[np.float32]) -> float:
    """The share of images that are unknown."""
    return float((detector.distance(features) > detector.threshold).mean())


def print_rare(found: Set, name: str, most: int, least: int) -> None:
    """Balanced accuracy and the recall of the rarest class where classes differ in number."""
    features, targets, _ = found
    classes = int(targets.max()) + 1
    ways: dict[str, list[list[float]]] = {"as trained": [], "class weights": [], "log prior": []}
    for seed in range(DRAWS):
        order = np.random.default_rng(100 + seed).permutation(classes)
        counts = np.geomspace(most, least, classes).round().astype(np.int64)[order]
        inside, outside = split(targets, counts, seed)
        known, prior = targets[outside], np.bincount(targets[inside]) / len(inside)
        plain = fit_head(features[inside], targets[inside], classes=classes, strength=0.1)
        weights = 1 / (classes * prior[targets[inside]])
        weighted = fit_head(
            features[inside], targets[inside], classes=classes, strength=0.1, weights=weights
        )
        logits = plain.logits(features[outside])
        for way, answer in (
            ("as trained", logits),
            ("class weights", weighted.logits(features[outside])),
            ("log prior", logits - np.log(prior)),
        ):
            recalls = [(answer[known == c].argmax(1) == c).mean() for c in range(classes)]
            ways[way].append([float(np.mean(recalls)), float(recalls[int(counts.argmin())])])
    for way, rows in ways.items():
        balanced, rarest = np.mean(rows, axis=0)
        print(f"| {name} | {way} | {balanced:.1%} | {rarest:.1%} |", flush=True)


def print_decodes(
    model: toplabel.Predictor, detector: UnknownDetector, sets: dict[str, Set]
) -> None:
    """By how much a scaled decode changes a photo's distance."""
    paths = [path for name in ("flowers", "trash", "imagenet") for path in sets[name][2][::8]]
    apart = []
    engine = model.classifier.open_engine(1, features=True)
    for path in paths:
        content = enlarged(path)
        distances = [
            float(detector.distance(features_of(model, engine, content, exact=exact))[0])
            for exact in (True, False)
        ]
        apart.append(abs(distances[0] - distances[1]))
    print(
        f"\n{len(apart)} photos of {LARGE} pixels, scaled decode against full one: the distance"
        f" differs by {np.median(apart):.4f} in the median, {max(apart):.4f} at most"
    )


def enlarged(path: Path) -> bytes:
    """A JPEG of the photo that is large enough to be decoded at a reduced scale."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = LARGE / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    file = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def features_of(
    model: toplabel.Predictor, engine: object, content: bytes, *, exact: bool
) -> NDArray[np.float32]:
    """Features (1, D) of an image, decoded in full or at a reduced scale."""
    preprocess = model.preprocess
    image = read_image(content, resized_size=None if exact else preprocess.resized_size)
    size = image.height, image.width
    tensor = preprocess(image.pixels, original_size=size, scale=image.scale)
    return engine.answer(tensor[None])[1]  # type: ignore[attr-defined,no-any-return]


def print_cost() -> None:
    """What telling costs a photo, of a model that was trained on 5,000."""
    chance = np.random.default_rng(0)
    features = np.abs(chance.normal(size=(5000, 1280))).astype(np.float32)
    started = time.process_time()
    detector = fit_unknown(features, np.arange(5000) % 5)
    fitted = time.process_time() - started
    detector.distance(features[:1])
    started = time.process_time()
    for place in range(500):
        detector.distance(features[place : place + 1])
    each = (time.process_time() - started) / 500
    size = len(detector.memory.to_bytes())
    print(
        f"\n5,000 training photos: {fitted:.1f} CPU-s to fit, {size / 1e6:.2f} MB in the bundle"
        f" ({size / 5000:,.0f} bytes a photo), {1000 * each:.2f} CPU-ms a photo"
    )


if __name__ == "__main__":
    main()
