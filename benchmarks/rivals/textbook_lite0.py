"""Label one photo with EfficientNet-Lite0 in eager PyTorch: the usual script.

python textbook_lite0.py PHOTO WEIGHTS LABELS
"""

import sys

import declare_operators  # noqa: F401  (before torchvision and timm)
import timm
import torch
from PIL import Image
from torchvision import transforms

photo, weights, labels = sys.argv[1:]
with open(labels) as file:
    names = file.read().splitlines()

model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
model.eval()

transform = transforms.Compose(
    [
        transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ]
)
batch = transform(Image.open(photo).convert("RGB")).unsqueeze(0)
with torch.no_grad():
    scores = model(batch)[0].softmax(dim=0)
best = scores.topk(5)
for score, index in zip(best.values, best.indices, strict=True):
    print(f"{names[index]}\t{score.item():.4f}")
