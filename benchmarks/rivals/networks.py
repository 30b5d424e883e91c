"""Networks: a name in, an eager module in eval mode and its validation transform out."""

import declare_operators  # noqa: F401  (before torchvision and timm)
import timm
import torch
from torch import nn
from torchvision import models, transforms

BUILDERS = {
    "resnet50": models.resnet50,
    "convnext_tiny": models.convnext_tiny,
    "vit_b_16": models.vit_b_16,
}
"""Without weights: random ones, the same in every process."""

NAMES = ("lite0", *BUILDERS)


def build(name: str, *, weights: str) -> tuple[nn.Module, transforms.Compose]:
    """The network and its transform; `weights` are those of lite0."""
    if name == "lite0":
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return model.eval(), _transform(transforms.InterpolationMode.BICUBIC, [0.5] * 3, [0.5] * 3)
    torch.manual_seed(0)
    model = BUILDERS[name]()
    _spread_head(model)
    bilinear = transforms.InterpolationMode.BILINEAR
    return model.eval(), _transform(bilinear, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def _transform(
    interpolation: transforms.InterpolationMode, mean: list[float], std: list[float]
) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.Resize(256, interpolation=interpolation),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def _spread_head(model: nn.Module) -> None:
    """Give the last layer weights that tell images apart; some networks start it with zeros."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(head.weight, std=head.in_features**-0.5)
