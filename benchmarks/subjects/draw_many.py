"""Make a folder of very many tiny images: hard links to a few, for a file system's sake.

python draw_many.py FOLDER COUNT IN_EACH_FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

folder, count, in_each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
LINKS = 60_000  # a file of ext4 may have 65,000 names

source = Path()
for number in range(count):
    place = folder / f"{number // in_each:06d}"
    if number % in_each == 0:
        place.mkdir(parents=True, exist_ok=True)
    path = place / f"{number:08d}.png"
    if number % LINKS == 0:
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., number // LINKS % 3] = 255
        Image.fromarray(pixels).save(path)
        source = path
    else:
        os.link(source, path)
