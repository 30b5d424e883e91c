"""Drawn images by class, to train on; each is another one, and the classes are easy to tell."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96


def draw(kind: str, number: int) -> Image.Image:
    """An image of a class: "round", "striped" or "grid", in colours and places of its own."""
    rng = np.random.default_rng([number, *kind.encode()])
    noise = rng.integers(0, 90, (SIDE, SIDE, 3), np.uint8) + rng.integers(0, 120, 3, np.uint8)
    image = Image.fromarray(noise.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    colour = tuple(int(one) for one in rng.integers(60, 256, 3))
    step = int(rng.integers(9, 17))
    if kind == "round":
        for _ in range(4):
            x, y, size = rng.integers(5, 60, 3).tolist()
            pen.ellipse((x, y, x + size, y + size), outline=colour, width=4)
    for place in range(int(rng.integers(0, step)), SIDE, step):
        if kind in ("striped", "grid"):
            pen.line((place, 0, place, SIDE), fill=colour, width=3)
        if kind == "grid":
            pen.line((0, place, SIDE, place), fill=colour, width=3)
    return image


def draw_folder(folder: Path, classes: Mapping[str, int], *, first: int = 0) -> Path:
    """A folder with so many images of each class; `first` is the number of the first of each."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            draw(name.split()[0].lower(), number).save(folder / name / f"{number:03}.png")
    return folder
