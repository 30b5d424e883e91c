"""Label one photo with ResNet-18, or another, in eager PyTorch, as tutorials have it.

python textbook_resnet18.py PHOTO WEIGHTS LABELS [NETWORK]
"""

import sys

import declare_operators  # noqa: F401  (before torchvision)
import torch
from PIL import Image
from torchvision import models, transforms

photo, weights, labels, *network = sys.argv[1:]
with open(labels) as file:
    names = file.read().splitlines()

model = getattr(models, *network or ["resnet18"])()
model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
model.eval()

transform = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
batch = transform(Image.open(photo).convert("RGB")).unsqueeze(0)
with torch.no_grad():
    scores = model(batch)[0].softmax(dim=0)
best = scores.topk(5)
for score, index in zip(best.values, best.indices, strict=True):
    print(f"{names[index]}\t{score.item():.4f}")
