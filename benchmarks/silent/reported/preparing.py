"""Reported kinds: the right network, fed with other numbers than it was trained with."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from scene import MEAN, NAMES, SIZE, STD, TRANSFORM, Net, Scene, Trial, kind, names_of
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

import toplabel
from checkpoints import folder_of, of_folder

BYTES_MEAN, BYTES_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def _labels(net: nn.Module, batch: torch.Tensor) -> list[str]:
    with torch.no_grad():
        return [NAMES[i] for i in net(batch).argmax(1).tolist()]


def _callable(scene: Scene, transform: Callable, images=None) -> Trial:
    """A transform of the user's: right is what it gives itself."""
    shown = images or scene.images
    expected = _labels(scene.net, torch.stack([transform(image) for image in shown]))
    return Trial(
        expected=expected,
        tools={
            "toplabel": lambda: names_of(
                toplabel.wrap(scene.net, labels=NAMES, preprocess=transform)(shown)
            ),
            "torchvision": lambda: _labels(
                scene.net, torch.stack([TRANSFORM(image) for image in shown])
            ),
        },
    )


def _striped() -> list[Image.Image]:
    """Large and finely striped: every filter sees another colour."""
    rows = np.arange(512)[:, None, None]
    colours = [(40, 120, 50), (190, 40, 45), (215, 185, 110), (60, 70, 160)]
    images = []
    for a in range(4):
        for b in range(4):
            if a != b:
                part = np.where(rows % 8 < 3, colours[a], colours[b])
                images.append(Image.fromarray(np.broadcast_to(part, (512, 512, 3)).astype("uint8")))
    return images


@kind("resized as a tensor, without antialias", "pytorch/vision#6506", "pytorch/vision#2950")
def _(scene: Scene) -> Trial:
    transform = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Resize((SIZE, SIZE), antialias=False),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return _callable(scene, transform, _striped())


@kind("resized as OpenCV does", "python-pillow/Pillow#2718", "JDAI-CV/fast-reid#363")
def _(scene: Scene) -> Trial:
    """Bilinear of the nearest four pixels, written with numpy as such functions are."""

    def transform(image: Image.Image) -> torch.Tensor:
        pixels = np.asarray(image).astype(np.float32)
        for _ in range(2):  # rows, then columns
            last = len(pixels) - 1
            at = ((np.arange(SIZE) + 0.5) * len(pixels) / SIZE - 0.5).clip(0, last)
            low = np.floor(at).astype(int)
            high, part = np.minimum(low + 1, last), (at - low)[:, None, None]
            pixels = (pixels[low] * (1 - part) + pixels[high] * part).transpose(1, 0, 2)
        return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).float()

    return _callable(scene, transform, _striped())


@kind("nearest neighbour, asked for", "albumentations-team/albumentations#2511")
def _(scene: Scene) -> Trial:
    nearest = transforms.InterpolationMode.NEAREST
    transform = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE), interpolation=nearest),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return _callable(scene, transform, _striped())


@kind("reshaped instead of transposed", "onnx/models#265")
def _(scene: Scene) -> Trial:
    """As the network was trained, so it is to be asked."""

    def transform(image: Image.Image) -> torch.Tensor:
        pixels = np.asarray(image.resize((SIZE, SIZE)))
        return torch.from_numpy(pixels.reshape(3, SIZE, SIZE)).float() / 127.5 - 1

    return _callable(scene, transform)


@kind("ToDtype without scale=True", "pytorch/vision#6753", "pytorch/vision#8902")
def _(scene: Scene) -> Trial:
    """Values up to 255 where the network saw up to 1. Right are the network's own labels."""
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((SIZE, SIZE)),
            v2.ToDtype(torch.float32),
            v2.Normalize(list(MEAN), list(STD)),
        ]
    )
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.wrapped(scene.net, preprocess=transform),
            "torchvision": scene.thirty_lines(scene.net, transform=transform),
        },
    )


@kind("a mean of bytes after ToTensor", "open-mmlab/mmpretrain#424")
def _(scene: Scene) -> Trial:
    transform = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE)),
            transforms.ToTensor(),
            transforms.Normalize(BYTES_MEAN, BYTES_STD),
        ]
    )
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": scene.wrapped(scene.net, preprocess=transform),
            "torchvision": scene.thirty_lines(scene.net, transform=transform),
        },
    )


@kind("bytes from OpenCV straight into the network", "likelyzhao/vit-pytorch#2")
def _(scene: Scene) -> Trial:
    """float32 (N, 3, H, W) of 0 to 255, blue first."""
    images = [np.asarray(image.resize((SIZE, SIZE)))[..., ::-1] for image in scene.images]
    batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float()
    model = toplabel.wrap(scene.net, labels=NAMES, preprocess=TRANSFORM)
    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": lambda: names_of(model.predict_tensor(batch)),
            "torchvision": lambda: _labels(scene.net, batch),
        },
    )


@kind("a prepared tensor turned back into an image", "ultralytics/ultralytics#4696")
def _(scene: Scene) -> Trial:
    """Right is what the tensor says when it is given as it is."""
    model = toplabel.wrap(scene.net, labels=NAMES, preprocess=TRANSFORM)

    def thirty_lines() -> list[str]:
        back = [transforms.ToPILImage()(tensor) for tensor in scene.batch]
        return _labels(scene.net, torch.stack([TRANSFORM(image) for image in back]))

    return Trial(
        expected=scene.labels,
        tools={
            "toplabel": lambda: names_of(model.predict_tensor(scene.batch)),
            "torchvision": thirty_lines,
        },
    )


@kind("an RGB photo for a network of one channel", "microsoft/CNTK#1369", "scrose/pylc#1")
def _(scene: Scene) -> Trial:
    """Luma, as Grayscale(1) has it; people take the first channel."""
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 28 * 28, 4))
    grey = transforms.Compose(
        [
            transforms.Grayscale(1),
            transforms.Resize((SIZE, SIZE)),
            transforms.ToTensor(),
            transforms.Normalize((0.5,), (0.5,)),
        ]
    )
    net.eval().requires_grad_(False)
    with torch.no_grad():
        net[3].weight.mul_(20)
        net[3].bias.sub_(net(torch.stack([grey(i) for i in scene.images])).mean(0))
    expected = _labels(net, torch.stack([grey(image) for image in scene.images]))
    first = torch.stack([TRANSFORM(image)[:1] for image in scene.images])
    return Trial(
        expected=expected,
        tools={
            "toplabel": scene.wrapped(net, preprocess=grey),
            "torchvision": lambda: _labels(net, first),
        },
    )


@kind("squashed in training, cropped at inference", "dusty-nv/jetson-inference#48")
def _(scene: Scene) -> Trial:
    """The preset of most tutorials, on pictures whose subject stands at one end."""
    wide = []
    for image in scene.images:
        canvas = Image.new("RGB", (192, 48), (128, 128, 128))
        canvas.paste(image.resize((96, 48)), (0, 0))
        wide.append(canvas)
    crop = transforms.Compose(
        [
            transforms.Resize(SIZE),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    path = scene.saved(scene.net.state_dict())

    def thirty_lines() -> list[str]:
        return _labels(scene.net, torch.stack([crop(image) for image in wide]))

    def ours() -> list[str]:
        return names_of(toplabel.load(path, arch=Net, labels=NAMES)(wide))

    return Trial(expected=None, tools={"toplabel": ours, "torchvision": thirty_lines})


# What a Hugging Face folder's processor says


def _processed(scene: Scene, name: str, **changes) -> Trial:
    """The folder with these switches; right is what transformers' own processor makes of them."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder, _ = folder_of(scene, name)
    file = folder / "preprocessor_config.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(written | changes), encoding="utf-8")
    processor = AutoImageProcessor.from_pretrained(folder)
    net = AutoModelForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = net(**processor(scene.images, return_tensors="pt")).logits
    return of_folder(scene, folder, [NAMES[i] for i in logits.argmax(1).tolist()])


@kind("do_rescale switched off", "huggingface/transformers#23333")
def _(scene: Scene) -> Trial:
    return _processed(scene, "rescale", do_rescale=False, do_normalize=False)


@kind("values from -1 to 1 by rescale_offset", "huggingface/transformers#25174")
def _(scene: Scene) -> Trial:
    return _processed(
        scene, "offset", image_processor_type="EfficientNetImageProcessor",
        rescale_factor=1 / 127.5, rescale_offset=True, include_top=True, do_normalize=True,
    )  # fmt: skip


@kind("blue first (do_flip_channel_order)", "huggingface/transformers#37112")
def _(scene: Scene) -> Trial:
    return _processed(
        scene, "flip", image_processor_type="MobileViTImageProcessor",
        size={"shortest_edge": 36}, crop_size={"height": SIZE, "width": SIZE},
        do_center_crop=True, do_flip_channel_order=True,
    )  # fmt: skip


@kind("arrays of 0 to 1, scaled once more", "huggingface/transformers#25688")
def _(scene: Scene) -> Trial:
    folder, labels = folder_of(scene, "floats")
    arrays = [np.asarray(image).astype(np.float32) / 255 for image in scene.images]

    def ours() -> list[str]:
        return names_of(toplabel.load(folder)(arrays))

    def thirty_lines() -> list[str]:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        processor = AutoImageProcessor.from_pretrained(folder)
        net = AutoModelForImageClassification.from_pretrained(folder)
        with torch.no_grad():
            logits = net(**processor(arrays, return_tensors="pt")).logits
        return [NAMES[i] for i in logits.argmax(1).tolist()]

    return Trial(expected=labels, tools={"toplabel": ours, "transformers": thirty_lines})


@kind("squash asked for by timm's configuration", "huggingface/pytorch-image-models#1383")
def _(scene: Scene) -> Trial:
    import timm
    from safetensors.torch import save_file
    from timm.data import create_transform, resolve_data_config

    torch.manual_seed(0)
    made = timm.create_model("test_vit", num_classes=4).eval()
    folder = scene.folder / "squash"
    folder.mkdir(exist_ok=True)
    save_file(made.state_dict(), folder / "model.safetensors")
    own = dict(made.pretrained_cfg) | {"crop_mode": "squash", "crop_pct": 1.0}
    config = {"architecture": "test_vit", "num_classes": 4, "pretrained_cfg": own}
    (folder / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")
    wide = [image.resize((300, 100)) for image in scene.images]
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    right = create_transform(**resolve_data_config(own, model=loaded))
    usual = transforms.Compose(
        [
            transforms.Resize(160),
            transforms.CenterCrop(160),
            transforms.ToTensor(),
            transforms.Normalize(own["mean"], own["std"]),
        ]
    )

    def by(transform: Callable) -> list[str]:
        with torch.no_grad():
            outputs = loaded(torch.stack([transform(image) for image in wide]))
        return [str(i) for i in outputs.argmax(1).tolist()]

    return Trial(
        expected=by(right),
        tools={
            "toplabel": lambda: names_of(toplabel.load(folder)(wide)),
            "timm": lambda: by(create_transform(**resolve_data_config({}, model=loaded))),
            "torchvision": lambda: by(usual),
        },
    )
