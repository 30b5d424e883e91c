"""Train on a folder of images with fastai: its vision_learner and fine_tune, as its docs have it.

python fastai_fine_tune.py WEIGHTS DATA EPOCHS
"""

import json
import sys

import declare_operators  # noqa: F401  (before torchvision and timm)
import torch
from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    set_seed,
    vision_learner,
)

weights, data, epochs = sys.argv[1:]
set_seed(0)
loaders = ImageDataLoaders.from_folder(
    data,
    train="train",
    valid="val",
    item_tfms=Resize(224),
    batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3),
    bs=32,
    num_workers=0,
)
learner = vision_learner(
    loaders, "tf_efficientnet_lite0", pretrained=False, normalize=False, metrics=accuracy
)
body = learner.model[0].model
state = torch.load(weights, map_location="cpu", weights_only=True)
missing = body.load_state_dict({k: v for k, v in state.items() if k in body.state_dict()})
assert not missing.missing_keys
with learner.no_bar(), learner.no_logging():
    learner.fine_tune(int(epochs))
print(json.dumps({"accuracy": float(learner.validate()[1])}))
