"""Label many photos in PyTorch as one who knows it well: workers, channels_last, inference_mode.

python expert_loop.py NETWORK WEIGHTS PHOTO...
"""

import json
import sys
import time

import torch
from networks import build
from PIL import Image
from torch.utils.data import DataLoader, Dataset

network, weights, *photos = sys.argv[1:]
model, transform = build(network, weights=weights)
model = model.to(memory_format=torch.channels_last)


class Photos(Dataset):
    """The photos as tensors."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return transform(image.convert("RGB"))


@torch.inference_mode()
def label(paths: list[str]) -> list[int]:
    indices = []
    for batch in DataLoader(Photos(paths), batch_size=32, num_workers=2):
        logits = model(batch.contiguous(memory_format=torch.channels_last))
        indices += logits.argmax(dim=1).tolist()
    return indices


label(photos[:4])
started = time.perf_counter()
indices = label(photos)
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "indices": indices, "threads": torch.get_num_threads()}))
