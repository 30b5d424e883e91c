"""Label photos by the right preprocessing, and by each usual mistake; all else equal.

python preprocessing_mistakes.py CHECKPOINTS PHOTO...

Prints, for each preprocessing, the index and top score of each photo; and the index of the right
class where the photo's name begins with a synset, as in n02123045_tabby.JPEG.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import declare_operators  # noqa: F401  (before torchvision and timm)
import numpy as np
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn
from torchvision import transforms

RIGHT = "the right preprocessing"
BICUBIC = transforms.InterpolationMode.BICUBIC
resize = transforms.Resize(256, interpolation=BICUBIC)
crop = transforms.CenterCrop(224)
tensor = transforms.ToTensor()
normalize = transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
imagenet = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
squash = transforms.Resize((224, 224), interpolation=BICUBIC)


def swap(image: Image.Image) -> Image.Image:
    """What `Image.fromarray(cv2.imread(path))` gives: blue first."""
    return Image.fromarray(np.asarray(image)[:, :, ::-1].copy())


PREPROCESSINGS = {
    RIGHT: [resize, crop, tensor, normalize],
    "bilinear instead of bicubic": [transforms.Resize(256), crop, tensor, normalize],
    "ImageNet's mean and std, not the model's": [resize, crop, tensor, imagenet],
    "both: a tutorial's transform, copied": [transforms.Resize(256), crop, tensor, imagenet],
    "`Resize((224, 224))`: squashed": [squash, tensor, normalize],
    "no `Normalize`": [resize, crop, tensor],
    "BGR, as OpenCV reads": [swap, resize, crop, tensor, normalize],
}


def load_model(checkpoints: str) -> nn.Module:
    """In the mode that timm leaves it in, which is not eval."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(torch.load(f"{checkpoints}/lite0.pth", weights_only=True))
    return model


@torch.no_grad()
def logits(
    model: nn.Module, steps: list[Callable], images: list[Image.Image], *, batch: int
) -> torch.Tensor:
    """What the model says, `batch` images at a time."""
    transform = transforms.Compose(steps)
    starts = range(0, len(images), batch)
    stacks = (torch.stack([transform(image) for image in images[at : at + batch]]) for at in starts)
    return torch.cat([model(stack) for stack in stacks])


def best(scores: torch.Tensor) -> dict[str, list]:
    """The best class of each image, and its score."""
    top = scores.max(dim=1)
    return {"indices": top.indices.tolist(), "scores": top.values.tolist()}


def main() -> None:
    torch.set_num_threads(1)  # nothing is timed here
    checkpoints, *photos = sys.argv[1:]
    images = [Image.open(photo).convert("RGB") for photo in photos]
    model = load_model(checkpoints).eval()
    outputs = {
        name: logits(model, steps, images, batch=5) for name, steps in PREPROCESSINGS.items()
    }
    for batch in (1, 25):
        forgetful = load_model(checkpoints)
        name = f"`eval()` forgotten, batches of {batch}"
        outputs[name] = logits(forgetful, PREPROCESSINGS[RIGHT], images, batch=batch)
    found = {name: best(each.softmax(dim=1)) for name, each in outputs.items()}
    found["softmax twice"] = best(outputs[RIGHT].softmax(dim=1).softmax(dim=1))
    index_of = {synset: index for index, synset in enumerate(ImageNetInfo().label_names())}
    truth = [index_of.get(Path(photo).name.split("_")[0]) for photo in photos]
    print(json.dumps({"truth": truth, "found": found}))


if __name__ == "__main__":
    main()
