"""Label many photos in eager PyTorch, 32 at a time: the usual loop.

python textbook_loop.py NETWORK WEIGHTS PHOTO...
"""

import json
import sys
import time

import torch
from networks import build
from PIL import Image

network, weights, *photos = sys.argv[1:]
model, transform = build(network, weights=weights)


def label(paths: list[str]) -> list[int]:
    batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        return model(batch).argmax(dim=1).tolist()


label(photos[:4])
started = time.perf_counter()
indices = [index for at in range(0, len(photos), 32) for index in label(photos[at : at + 32])]
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "indices": indices, "threads": torch.get_num_threads()}))
