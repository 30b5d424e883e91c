"""Photos: a folder in, the photos to measure on out; where there are no real ones, drawn ones.

python -m benchmarks.photos FOLDER draws them.
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import ROOT, Bench
from benchmarks.measure import run

REAL = ROOT.parent / "shared" / "data"
REFERENCE = REAL / "reference" / "lite0_imagenet.json"


@dataclass(frozen=True, slots=True)
class Photos:
    """What there is to measure on.

    Args:
        small: 200 photos of some 0.2 megapixels.
        camera: 10 photos of 8 to 17 megapixels.
        others: More camera-like ones, for the guard of the fast decode alone.
        origin: What they are, in a sentence.
    """

    small: tuple[Path, ...]
    camera: tuple[Path, ...]
    others: tuple[Path, ...]
    origin: str


def find_photos(bench: Bench) -> Photos:
    """The real photos beside the checkout, or drawn ones of the same sizes."""
    if REAL.is_dir():
        folders = (REAL / "imagenet", REAL / "camera", REAL / "orientation")
        origin = "200 real photos (median 0.19 megapixels), 10 camera photos (8 to 17 megapixels)"
    else:
        drawn = bench.folder / "drawn"
        if not drawn.is_dir():
            _draw_in_child(drawn)
        folders = (drawn / "small", drawn / "camera", drawn / "others")
        origin = (
            "no real photos beside this checkout: 200 cuttings of the example photos at 0.19"
            " megapixels, and 10 of them enlarged to 12; labels say little on these"
        )
    small, camera, others = (_files(folder) for folder in folders)
    return Photos(small[:24] if bench.quick else small, camera, others, origin)


def _draw_in_child(folder: Path) -> None:
    """Draw in another process: this one has to stay small."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run([sys.executable, "-m", "benchmarks.photos", folder], environment=environment)


def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.glob("*") if path.is_file()))


def draw(folder: Path) -> None:
    """Write 200 small and 10 large JPEG files, cut from the example photos."""
    from PIL import Image  # not in the process that measures

    chance = random.Random(0)
    examples = [Image.open(path) for path in sorted((ROOT / "examples").glob("*.jpg"))]
    for name, count, size in (("small", 200, (500, 375)), ("camera", 10, (4000, 3000))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = examples[number % len(examples)]
            share = chance.uniform(0.6, 1.0)
            width, height = int(image.width * share), int(image.height * share)
            left = chance.randint(0, image.width - width)
            top = chance.randint(0, image.height - height)
            cutting = image.crop((left, top, left + width, top + height))
            resized = cutting.resize(size, Image.Resampling.LANCZOS)
            resized.save(folder / name / f"{number:03d}.jpg", quality=90)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
