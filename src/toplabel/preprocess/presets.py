"""Presets: the name of a usual preprocessing in, a `Preprocess` out; the name has every step.

A name is FAMILY-MODE-SIZES, then perhaps channels, a filter and `invert`:
`imagenet-crop-256-224`, `half-squash-28-grey-invert`, `imagenet-squash-256x128-bgr-bicubic`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Any, get_args

from toplabel.errors import PreprocessError
from toplabel.preprocess import constants
from toplabel.preprocess.preprocess import Preprocess
from toplabel.preprocess.resample import Interpolation

_CAFFE: dict[str, Any] = {"std": (1.0,) * 3, "range": (0, 255), "channels": "bgr"}
_NOTHING: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
_FAMILIES: dict[str, dict[str, Any]] = {
    "imagenet": {"mean": constants.IMAGENET_MEAN, "std": constants.IMAGENET_STD},
    "half": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    "clip": {"mean": constants.CLIP_MEAN, "std": constants.CLIP_STD, "interpolation": "bicubic"},
    "raw-1": _NOTHING,
    "raw-255": {**_NOTHING, "range": (0, 255)},
    "caffe-103": {**_CAFFE, "mean": (103.939, 116.779, 123.68)},  # in the order blue, green, red
    "caffe-104": {**_CAFFE, "mean": (104.0, 117.0, 123.0)},
    "cifar10-202": {"mean": constants.CIFAR10_MEAN, "std": constants.CIFAR10_IMAGE_STD},
    "cifar10-247": {"mean": constants.CIFAR10_MEAN, "std": constants.CIFAR10_STD},
    "mnist": {"mean": constants.MNIST_MEAN, "std": constants.MNIST_STD, "channels": "grey"},
    "fer": {"mean": constants.FER_MEAN, "std": constants.FER_STD, "channels": "grey"},
}
"""Fields of `Preprocess`. A number in a name tells apart what people call by one name: the range of
values, or the first figure of the mean or std (of CIFAR-10's std, two are in use)."""

_SQUASHED = ("raw-1", "raw-255", "mnist", "fer")
"""Families that have one usual way to a size, so that a mode may be left out."""

_MODES = ("crop", "squash", "pad", "none")
_WORDS = (*_FAMILIES, *_MODES, "bgr", "grey", "grey3", "invert", *get_args(Interpolation))
_SIZE = r"[1-9]\d{0,4}(?:x[1-9]\d{0,4})?"
_NAME = re.compile(
    rf"(?P<family>{'|'.join(_FAMILIES)})(?:-(?P<mode>{'|'.join(_MODES)}))?"
    rf"-(?P<first>{_SIZE})(?:-(?P<second>{_SIZE}))?"
    r"(?:-(?P<channels>bgr|grey3?|[1-9]\d{0,2}ch))?"
    rf"(?:-(?P<filter>{'|'.join(get_args(Interpolation))}))?"
    r"(?:-(?P<invert>invert))?"
)
GRAMMAR = (
    f"FAMILY-MODE-SIZES: families {', '.join(_FAMILIES)}; modes crop-RESIZE-CROP, squash-SIZE,"
    " squash-RESIZE-CROP, pad-SIZE, none-SIZE; sizes as 224 or HEIGHTxWIDTH; then, where needed,"
    " -bgr, -grey, -grey3 or -4ch, -bicubic or another filter, and -invert (dark on light"
    " becomes light on dark)"
)
_LIST = "`toplabel models --preprocess` lists examples"


def preset(name: str) -> Preprocess:
    """The preprocessing of a preset's name.

    Resizing is bilinear (for `clip` bicubic) by Pillow, sizes and offsets are rounded as
    torchvision does, values are divided by 255 except in `raw-255` and `caffe`.

    Args:
        name: FAMILY-MODE-SIZES with any sizes, in pixels: `crop-R-S` (the shortest side to R,
            then the centre of S), `squash-S` (to S, proportions lost), `squash-R-S` (to R, then
            the centre of S), `pad-S` (the longest side to S, black beside), `none-S` (no
            resizing; the centre of S). `raw`, `mnist` and `fer` without a mode squash. Then `-bgr`
            (channels turned round; each colour keeps its own mean), `-grey` (one channel of
            brightness), `-grey3` (the same three times) or `-4ch` (arrays of as many channels),
            then a filter, such as `-bicubic`, then `-invert`
            (255 - x first of all, for ink on paper and a model of light strokes on dark).

    Raises:
        PreprocessError: There is no such preset; the message has similar names.
    """
    match = _NAME.fullmatch(name.strip().lower())
    if match is None:
        close = _close(name)
        advice = f"did you mean {' or '.join(map(repr, close))}? {_LIST}" if close else GRAMMAR
        raise PreprocessError(f"unknown preset {name!r:.80}; {advice}")
    try:
        return _of_parts(**match.groupdict())
    except PreprocessError as error:
        raise PreprocessError(f"in the preset {name!r:.80}: {error}; {_LIST}") from error


def preset_name(preprocess: Preprocess) -> str | None:
    """The shortest name of the preset that does exactly this; None where none does."""
    crop, resize = _written(preprocess.input_size), _written(preprocess.resize_size)
    sizes = {
        "shortest": f"crop-{resize.partition('x')[0]}-{crop}",
        "squash": f"squash-{crop if crop == resize else f'{resize}-{crop}'}",
        "longest": f"pad-{crop}",
        "none": f"none-{crop}",
    }[preprocess.resize_mode]
    options = ("", "-grey", "-grey3", "-bgr"), ("", f"-{preprocess.interpolation}"), ("", "-invert")
    for family, *more in product(_FAMILIES, *options):
        name = f"{family}-{sizes}{''.join(more)}"
        if _is_preset(name) and preset(name) == preprocess:
            return name
    return None


def _written(size: tuple[int, int] | None) -> str:
    height, width = size or (0, 0)
    return f"{height}" if height == width else f"{height}x{width}"


def _of_parts(
    *,
    family: str,
    mode: str | None,
    first: str,
    second: str | None,
    channels: str | None,
    filter: str | None,
    invert: str | None,
) -> Preprocess:
    fields = dict(_FAMILIES[family])
    if filter is not None:
        fields["interpolation"] = filter
    if mode is None:
        if family not in _SQUASHED or second is not None:
            raise PreprocessError("it has no mode; expected crop, squash, pad or none, then sizes")
        mode = "squash"
    crop = None if second is None else _size(second)
    fields |= _geometry(mode, _size(first), crop, both_sides="x" in first)
    if mode == "none" and filter is not None:
        raise PreprocessError(f"got the filter {filter!r} with mode none, which does not resize")
    if channels is not None:
        fields |= _turned(family, channels)
    fields["invert"] = invert is not None
    return Preprocess(**fields)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _geometry(
    mode: str, first: tuple[int, int], second: tuple[int, int] | None, *, both_sides: bool
) -> dict[str, Any]:
    """The resize and the crop."""
    if mode == "none":
        _refuse_second(mode, second)
        return {"resize_mode": "none", "input_size": first}
    if mode == "pad":
        _refuse_second(mode, second)
        return {"resize_mode": "longest", "resize_size": first, "input_size": first}
    if mode == "squash":
        return {"resize_mode": "squash", "resize_size": first, "input_size": second or first}
    if second is None:
        raise PreprocessError("crop takes two sizes, as in crop-256-224: the resize and the crop")
    if both_sides:
        raise PreprocessError(
            "crop resizes the shortest side, which is one number, as in crop-256-256x128; where"
            " both sides are resized to fixed sizes, it is squash-RESIZE-CROP"
        )
    if min(second) > first[0]:
        raise PreprocessError(
            f"the crop of {min(second)} is larger than the resize to {first[0]}; expected"
            " crop-RESIZE-CROP, as in crop-256-224"
        )
    return {"resize_mode": "shortest", "resize_size": first, "input_size": second}


def _refuse_second(mode: str, second: tuple[int, int] | None) -> None:
    if second is not None:
        raise PreprocessError(f"{mode} takes one size, as in {mode}-224 or {mode}-HEIGHTxWIDTH")


def _turned(family: str, channels: str) -> dict[str, Any]:
    """The channels, with the mean and std that belong to them."""
    fields = _FAMILIES[family]
    mean, std = fields["mean"], fields["std"]
    if "channels" in fields:
        raise PreprocessError(f"{family} already sets the channels ({fields['channels']})")
    if channels == "bgr":
        return {"channels": "bgr", "mean": mean[::-1], "std": std[::-1]}
    if channels == "grey3":
        return {"channels": "grey"}
    count = 1 if channels == "grey" else int(channels.removesuffix("ch"))
    if len(set(mean)) > 1:
        raise PreprocessError(
            f"{family} has a mean for each of three colours; expected half, raw-1 or raw-255 with"
            f" -{channels}, or JSON with the mean used in training"
        )
    named = "grey" if channels == "grey" else count
    return {"channels": named, "mean": mean[:1] * count, "std": std[:1] * count}


def _close(name: str) -> list[str]:
    """Names that exist and are close to this one: with its words corrected, else examples."""
    from difflib import get_close_matches  # only where something is wrong already

    def meant(token: str) -> list[str]:
        families = [family for family in _FAMILIES if family.startswith(f"{token}-")]
        known = token in _WORDS or not token.isalpha()
        return families or ([] if known else get_close_matches(token, _WORDS, n=2, cutoff=0.7))

    tokens = re.split(r"[-_\s/]+", name.strip().lower())[:7]
    corrected = map("-".join, product(*(meant(token) or [token] for token in tokens)))
    found = [candidate for candidate in corrected if _is_preset(candidate)][:2]
    return found or get_close_matches(name, PRESETS, n=2, cutoff=0.7)


def _is_preset(name: str) -> bool:
    match = _NAME.fullmatch(name)
    try:
        return match is not None and bool(_of_parts(**match.groupdict()))
    except PreprocessError:
        return False


def _describe(preprocess: Preprocess) -> str:
    """What it does, in that order."""
    steps = [_resizing(preprocess), *_values(preprocess)]
    if preprocess.invert == "before_resize":
        steps.insert(0, "inverted (255 - x)")
    elif preprocess.invert:
        steps.insert(1, "inverted (255 - x)")
    return ", ".join(steps)


def _resizing(preprocess: Preprocess) -> str:
    crop = "x".join(map(str, preprocess.input_size))
    if preprocess.resize_mode == "none" or preprocess.resize_size is None:
        return f"no resizing, centre {crop}, black where the image is smaller"
    size = "x".join(map(str, preprocess.resize_size))
    if preprocess.resize_mode == "longest":
        return f"longest side to {size} ({preprocess.interpolation}), black beside"
    if preprocess.resize_mode == "squash":
        squashed = f"squash to {size} ({preprocess.interpolation})"
        return squashed if crop == size else f"{squashed}, centre {crop}"
    return (
        f"shortest side to {preprocess.resize_size[0]} ({preprocess.interpolation}), centre {crop}"
    )


def _values(preprocess: Preprocess) -> list[str]:
    steps = [f"values {preprocess.range[0]:g} to {preprocess.range[1]:g}"]
    if any(preprocess.mean):
        steps.append(f"mean {_numbers(preprocess.mean)}")
    if set(preprocess.std) != {1.0}:
        steps.append(f"std {_numbers(preprocess.std)}")
    channels = {"rgb": "RGB", "bgr": "BGR"}
    if preprocess.channels == "grey":
        return [*steps, "grey in three channels" if preprocess.num_channels == 3 else "grey"]
    return [*steps, channels.get(str(preprocess.channels), f"{preprocess.channels} channels")]


def _numbers(values: tuple[float, ...]) -> str:
    distinct = values[:1] if len(set(values)) == 1 else values
    return "/".join(f"{value:g}" if value == round(value, 4) else str(value) for value in distinct)


_USED_BY = {
    "imagenet-crop-256-224": "torchvision's V1 weights and most training scripts",
    "imagenet-crop-232-224": "torchvision's V2 weights",
    "imagenet-crop-248-224-bicubic": "timm with crop_pct 0.9: resize = crop / crop_pct",
    "imagenet-squash-224": "torchvision's Resize((224, 224))",
    "imagenet-squash-256-224": "Resize((256, 256)), then CenterCrop(224)",
    "imagenet-squash-256x128": "person re-identification",
    "imagenet-pad-224": "letterbox",
    "imagenet-none-32": "images of 32x32 as they are",
    "imagenet-crop-256-224-bgr": "OpenCV's channels, each colour with its own mean",
    "imagenet-crop-256-224-grey3": "Grayscale(num_output_channels=3)",
    "half-crop-256-224": "timm's Inception-like mean and std: -1 to 1",
    "half-crop-342-299": "Inception",
    "half-none-32": "PyTorch's CIFAR-10 tutorial (cifar_net.pth), for images of 32x32",
    "half-squash-32": "the same for images of any size: Resize((32, 32))",
    "half-squash-224": "ViT of Google and Hugging Face",
    "half-squash-224-nearest": "Keras' mode 'tf' after load_img: MobileNet, Xception",
    "half-squash-28-grey": "MNIST and Fashion-MNIST with Normalize(0.5, 0.5)",
    "half-squash-28-grey-invert": "the same, for dark ink on light paper",
    "half-squash-48-grey": "faces (FER-2013) with Normalize(0.5, 0.5)",
    "clip-crop-224-224": "CLIP and OpenCLIP",
    "raw-1-224": "ToTensor() alone, after Resize((224, 224))",
    "raw-1-squash-224-nearest": "Keras' load_img with rescale=1/255",
    "raw-1-squash-28-grey": "MNIST with ToTensor() alone",
    "raw-1-squash-48-grey": "faces (FER-2013) with ToTensor() alone",
    "raw-1-crop-256-224": "ToTensor() alone, after a crop",
    "raw-1-squash-64-4ch": "arrays of four channels",
    "raw-255-224": "networks that scale by themselves",
    "raw-255-squash-224-nearest": "Keras' load_img alone: EfficientNet, which scales by itself",
    "raw-255-crop-256-224": "networks that scale by themselves",
    "caffe-103-squash-224-nearest": "Keras' mode 'caffe' after load_img: VGG, ResNet50",
    "caffe-103-crop-256-224": "Caffe's VGG and ResNet",
    "caffe-104-squash-256-224": "Caffe's GoogLeNet and CaffeNet",
    "cifar10-202-none-32": "CIFAR-10 with std 0.2023/0.1994/0.2010, the mean of the images' own",
    "cifar10-247-none-32": "CIFAR-10 with std 0.247/0.2435/0.2616, that of all pixels",
    "mnist-28": "PyTorch's MNIST example (mnist_cnn.pt), for images of any size",
    "mnist-28-invert": "the same, for dark ink on light paper",
    "mnist-none-28": "the same, for images of 28x28 as they are",
    "fer-48": "faces with FER-2013's own mean and std",
}

PRESETS: Mapping[str, str] = MappingProxyType(
    {name: f"{_describe(preset(name))} ({use})" for name, use in _USED_BY.items()}
)
"""Names that show what there is -> what each does, for people; sizes may be any."""
