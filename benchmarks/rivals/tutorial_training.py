"""Train on a folder of images as PyTorch's transfer-learning tutorial does, all of the network.

python tutorial_training.py WEIGHTS DATA EPOCHS
"""

import json
import sys
from pathlib import Path

import declare_operators  # noqa: F401  (before torchvision and timm)
import timm
import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

weights, data, epochs = sys.argv[1:]
torch.manual_seed(0)
normalize = transforms.Normalize([0.5] * 3, [0.5] * 3)
changes = {
    "train": [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()],
    "val": [transforms.Resize(256), transforms.CenterCrop(224)],
}
sets = {
    part: datasets.ImageFolder(
        Path(data) / part, transforms.Compose([*steps, transforms.ToTensor(), normalize])
    )
    for part, steps in changes.items()
}
loaders = {part: DataLoader(images, batch_size=4, shuffle=True) for part, images in sets.items()}

model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
model.classifier = nn.Linear(model.classifier.in_features, len(sets["train"].classes))
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

best = 0.0
for _ in range(int(epochs)):
    for part in ("train", "val"):
        model.train(part == "train")
        right = 0
        for inputs, labels in loaders[part]:
            optimizer.zero_grad()
            with torch.set_grad_enabled(part == "train"):
                outputs = model(inputs)
                loss = criterion(outputs, labels)
                if part == "train":
                    loss.backward()
                    optimizer.step()
            right += int((outputs.argmax(1) == labels).sum())
    scheduler.step()
    best = max(best, right / len(sets["val"]))  # the tutorial keeps the best of its epochs
print(json.dumps({"accuracy": best}))
