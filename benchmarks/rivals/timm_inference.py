"""Label a folder as timm's inference script does: its dataset, its loader, an eager model, a CSV.

python timm_inference.py WEIGHTS FOLDER OUTPUT
"""

import csv
import sys

import torch
from networks import build
from timm.data import create_dataset, create_loader

weights, folder, output = sys.argv[1:]
model, _ = build("lite0", weights=weights)
model = model.to(memory_format=torch.channels_last)
dataset = create_dataset("", root=folder, split="validation")
loader = create_loader(
    dataset,
    input_size=(3, 224, 224),
    batch_size=32,
    use_prefetcher=False,
    is_training=False,
    num_workers=2,
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    crop_pct=0.875,
    device=torch.device("cpu"),
)
rows = []
with torch.inference_mode():
    for batch, _ in loader:
        scores = model(batch.contiguous(memory_format=torch.channels_last)).softmax(-1)
        top = scores.topk(5)
        rows += zip(top.indices.tolist(), top.values.tolist(), strict=True)
with open(output, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["filename", "indices", "scores"])
    for name, (indices, values) in zip(dataset.filenames(basename=True), rows, strict=True):
        writer.writerow([name, indices, values])
