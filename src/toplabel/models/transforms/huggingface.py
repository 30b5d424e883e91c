"""A Hugging Face image processor, or its JSON, in; what its Pillow backend does out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.errors import PreprocessError
from toplabel.models.transforms import timm
from toplabel.models.transforms.verify import verify
from toplabel.preprocess.constants import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from toplabel.preprocess.preprocess import Preprocess, scaled_values

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Config = dict[str, Any]

_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers
_WORD = "in the image processor's configuration"


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


# What the processors' classes do where their JSON says nothing, as transformers 5.23 has them.
_HALF = (0.5, 0.5, 0.5)
_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers


_BASE: Config = {
    "do_resize": True,
    "resample": _BICUBIC,
    "default_to_square": True,
    "do_center_crop": None,
    "crop_size": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _HALF,
    "image_std": _HALF,
    "do_pad": None,
}
_CROPPED: Config = _BASE | {
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": _square(224),
}
_CLIP: Config = _CROPPED | {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
_IMAGENET: Config = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
_MOBILENET: Config = _CROPPED | {"resample": _BILINEAR, "size": {"shortest_edge": 256}}

DEFAULTS: dict[str, Config] = {
    "BeitImageProcessor": _BASE
    | {"size": _square(224), "do_center_crop": False, "crop_size": _square(224)},
    "BitImageProcessor": _CLIP,
    "BlipImageProcessor": _BASE
    | {"size": _square(384), "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "CLIPImageProcessor": _CLIP,
    "ConvNextImageProcessor": _BASE
    | {"size": {"shortest_edge": 384}, "default_to_square": False, "crop_pct": 224 / 256},
    "DeiTImageProcessor": _BASE
    | {"size": _square(256), "do_center_crop": True, "crop_size": _square(224)},
    "EfficientNetImageProcessor": _BASE
    | {
        "size": _square(346),
        "do_center_crop": False,
        "crop_size": _square(289),
        "rescale_offset": False,
        "include_top": True,
    },
    "LevitImageProcessor": _CROPPED | _IMAGENET,
    "MobileNetV1ImageProcessor": _MOBILENET,
    "MobileNetV2ImageProcessor": _MOBILENET,
    "MobileViTImageProcessor": _CROPPED
    | {"crop_size": _square(256), "do_normalize": None, "do_flip_channel_order": True},
    "PoolFormerImageProcessor": _CROPPED | _IMAGENET | {"crop_pct": 0.9},
    "PvtImageProcessor": _BASE | _IMAGENET | {"size": _square(224)},
    "SegformerImageProcessor": _BASE | _IMAGENET | {"size": _square(512), "resample": _BILINEAR},
    "SiglipImageProcessor": _BASE | {"size": _square(224), "default_to_square": False},
    "ViTImageProcessor": _BASE | {"size": _square(224), "resample": _BILINEAR},
}

REFUSED: dict[str, str] = {
    "DonutImageProcessor": "it turns and shrinks documents in two steps",
    "Gemma3ImageProcessor": "it belongs to a language model and may cut images into parts",
    "ImageGPTImageProcessor": "it makes colour clusters, not a tensor of an image",
    "PPLCNetImageProcessor": "it resizes tensors, not images, and has no Pillow backend",
    "PerceiverImageProcessor": "it crops before it resizes",
    "Siglip2ImageProcessor": "it makes patches whose number depends on the image's shape",
    "TextNetImageProcessor": "it gives different sizes for images of different shapes",
}

_MODEL_TYPES = {
    "BeitImageProcessor": "beit data2vec-vision",
    "BitImageProcessor": "bit dinov2 focalnet hiera",
    "CLIPImageProcessor": "clip metaclip_2",
    "ConvNextImageProcessor": "convnext convnextv2 cvt regnet resnet",
    "DeiTImageProcessor": "deit",
    "ViTImageProcessor": "dinat ijepa swiftformer swin swinv2 vit vit_msn",
    "DonutImageProcessor": "donut-swin",
    "EfficientNetImageProcessor": "efficientnet",
    "ImageGPTImageProcessor": "imagegpt",
    "LevitImageProcessor": "levit",
    "MobileNetV1ImageProcessor": "mobilenet_v1",
    "MobileNetV2ImageProcessor": "mobilenet_v2",
    "MobileViTImageProcessor": "mobilevit mobilevitv2",
    "PerceiverImageProcessor": "perceiver",
    "PoolFormerImageProcessor": "poolformer",
    "PPLCNetImageProcessor": "pp_lcnet",
    "PvtImageProcessor": "pvt pvt_v2",
    "SegformerImageProcessor": "segformer",
    "Gemma3ImageProcessor": "shieldgemma2",
    "SiglipImageProcessor": "siglip",
    "Siglip2ImageProcessor": "siglip2",
    "TextNetImageProcessor": "textnet",
}
CLASS_OF_MODEL_TYPE = {kind: name for name, kinds in _MODEL_TYPES.items() for kind in kinds.split()}


def from_config(config: Mapping[str, Any], *, model_type: str | None = None) -> Preprocess:
    """The preprocessing in a `preprocessor_config.json`, without importing transformers.

    The processor's Pillow backend is meant; the torchvision backend, which transformers prefers
    where it can, resizes tensors and differs from it by a few steps of 255.

    Args:
        config: The JSON object; for timm's models on the hub, their `config.json`.
        model_type: Of the model's `config.json`, for old files that do not name their class.

    Raises:
        PreprocessError: The class is unknown, or does what a `Preprocess` cannot express; it is
            named.
    """
    if "pretrained_cfg" in config:
        return timm.from_config(config["pretrained_cfg"])
    name = _class_name(config, model_type)
    if name not in DEFAULTS:
        reason = REFUSED.get(name, "it is unknown")
        raise PreprocessError(
            f"the image processor {name} is not supported: {reason}; supported are"
            f" {', '.join(sorted(DEFAULTS))}. Write the preprocessing as a JSON file instead"
        )
    defaults = DEFAULTS[name]
    given = {key: config[key] for key in defaults if key in config}  # others the class ignores
    try:
        return _preprocess(name, defaults | given)
    except PreprocessError:
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise PreprocessError(f"cannot make sense of {given!r} {_WORD}: {error}") from error


def from_processor(processor: Any) -> Preprocess:
    """What a live image processor does, compared to the bit with its Pillow backend.

    Args:
        processor: An image processor, or a processor that has one among other parts.

    Raises:
        PreprocessError: As `from_config`, or the result and the processor disagree.
    """
    processor = getattr(processor, "image_processor", processor)
    timm_transform = getattr(processor, "val_transforms", None)
    if timm_transform is not None:
        from toplabel.models.transforms.torchvision import from_transform  # imports torch

        return from_transform(timm_transform)
    if type(processor).__module__.split(".")[0] != "transformers":
        raise PreprocessError(
            f"the image processor {type(processor).__name__} is not one of transformers itself;"
            " write the preprocessing as a JSON file instead"
        )
    config = processor.to_dict()
    preprocess = from_config(config)
    twin = _with_pillow(processor, config)

    def call(image: Image.Image) -> NDArray[np.float32]:
        tensor: NDArray[np.float32] = np.asarray(twin(image)["pixel_values"][0], np.float32)
        return tensor

    return verify(preprocess, call, name=type(processor).__name__)


def _with_pillow(processor: Any, config: Config) -> Any:
    """The same processor with the Pillow backend."""
    if getattr(processor, "backend", "pil") == "pil":
        return processor
    twin = getattr(import_module("transformers"), f"{_class_name(config, None)}Pil")
    return twin.from_dict(config)


def _class_name(config: Mapping[str, Any], model_type: str | None) -> str:
    """The processor's class, without the suffixes of its backends and without its old name."""
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    if name is None:
        name = CLASS_OF_MODEL_TYPE.get(model_type or "")
    if not isinstance(name, str):
        raise PreprocessError(
            f"got no image_processor_type {_WORD}, and the model type {model_type!r}; expected one"
            f" of {', '.join(sorted(CLASS_OF_MODEL_TYPE))}"
        )
    name = name.replace("FeatureExtractor", "ImageProcessor")
    return name.removesuffix("Fast").removesuffix("Pil")


def _preprocess(name: str, config: Config) -> Preprocess:
    """What a known class does, with every default filled in."""
    if config["do_pad"]:
        raise PreprocessError(f"the image processor {name} pads (do_pad), which is not supported")
    geometry = _geometry(name, config)
    mean, std, again = _statistics(config)
    return Preprocess(
        **geometry,
        channels="bgr" if config.get("do_flip_channel_order") else "rgb",
        interpolation=_interpolation(config["resample"]),
        range=_range(config),
        mean=mean,
        std=std,
        std_again=again,
        convention="hf",
    )


def _geometry(name: str, config: Config) -> dict[str, Any]:
    """Resize and crop, with what some classes make of `size`."""
    crop = _crop_size(config) if config["do_center_crop"] else None
    if not config["do_resize"]:
        resize: dict[str, Any] = {"resize_mode": "none"}
    elif name == "ConvNextImageProcessor":
        resize, own_crop = _convnext_resize(_size(config), config["crop_pct"])
        if crop is not None and own_crop not in (None, crop):
            raise PreprocessError(f"the image processor {name} crops twice, to different sizes")
        crop = crop or own_crop
    elif name == "LevitImageProcessor":
        resize = _resize(_size(config), shortest=lambda edge: int((256 / 224) * edge))
    elif name == "PoolFormerImageProcessor":
        resize = _poolformer_resize(_size(config), config["crop_pct"])
    else:
        resize = _resize(_size(config))
    if crop is None and resize["resize_mode"] == "squash":
        crop = resize["resize_size"]
    if crop is None:
        raise PreprocessError(
            f"the image processor {name} gives tensors of different sizes for images of different"
            f" shapes: got no do_center_crop {_WORD}, and a size without height and width"
        )
    return resize | {"input_size": crop}


def _size(config: Config) -> dict[str, int]:
    """The size as a mapping, also where an old file says one number or two."""
    size = config["size"]
    if size is None:
        raise PreprocessError(f"got do_resize {_WORD}, but size null")
    if isinstance(size, int):
        return _square(size) if config["default_to_square"] else {"shortest_edge": size}
    if isinstance(size, list | tuple):
        return {"height": size[0], "width": size[1]}
    return {key: side for key, side in dict(size).items() if side}


def _crop_size(config: Config) -> tuple[int, int]:
    size = config["crop_size"]
    if isinstance(size, int):
        size = _square(size)
    elif isinstance(size, list | tuple):
        size = {"height": size[0], "width": size[1]}
    size = dict(size or {})
    if not size.get("height") or not size.get("width"):
        raise PreprocessError(f"got crop_size {size!r} {_WORD}; expected height and width")
    return size["height"], size["width"]


def _resize(size: dict[str, int], shortest: Any = int) -> dict[str, Any]:
    """The resize for a size; `shortest` is what the class makes of a shortest edge."""
    keys = set(size)
    if keys == {"shortest_edge"}:
        edge = shortest(size["shortest_edge"])
        return {"resize_mode": "shortest", "resize_size": (edge, edge)}
    if keys == {"height", "width"}:
        return {"resize_mode": "squash", "resize_size": (size["height"], size["width"])}
    if keys == {"max_height", "max_width"}:
        return {"resize_mode": "longest", "resize_size": (size["max_height"], size["max_width"])}
    raise PreprocessError(
        f"got size {size!r} {_WORD}; expected shortest_edge, or height and width, or max_height"
        " and max_width"
    )


def _convnext_resize(
    size: dict[str, int], crop_pct: float | None
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Below 384 shrink to more than the size and crop; from there on squash."""
    edge = size.get("shortest_edge")
    if edge is None:
        raise PreprocessError(f"got size {size!r} {_WORD}; ConvNext expects shortest_edge")
    if edge >= 384:
        return _resize(_square(edge)), None
    if crop_pct is None:
        raise PreprocessError(f"got crop_pct null {_WORD}; ConvNext expects one below 384 pixels")
    return _resize({"shortest_edge": int(edge / crop_pct)}), (edge, edge)


def _poolformer_resize(size: dict[str, int], crop_pct: float | None) -> dict[str, Any]:
    """Shrink to more than the size, which a square stands for the shortest edge of."""
    if crop_pct is None:
        return _resize(size)
    if set(size) == {"height", "width"} and size["height"] == size["width"]:
        size = {"shortest_edge": size["height"]}
    if set(size) == {"height", "width"}:
        return _resize({side: int(length / crop_pct) for side, length in size.items()})
    return _resize(size, shortest=lambda edge: int(edge / crop_pct))


def _interpolation(resample: Any) -> Any:
    """Pillow's name of the filter, from its number or torchvision's name."""
    name = getattr(resample, "value", resample)
    if isinstance(name, int) and 0 <= name < len(_FILTERS):
        return _FILTERS[name]
    if isinstance(name, str):
        return "nearest" if name == "nearest-exact" else name
    raise PreprocessError(f"got resample {resample!r} {_WORD}; expected a number from 0 to 5")


def _statistics(config: Config) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Mean, std, and what is divided by once more."""
    mean, std = _three(config["image_mean"]), _three(config["image_std"])
    if "do_flip_channel_order" in config or not config["do_normalize"]:  # MobileViT never does
        mean, divisors = (0.0, 0.0, 0.0), []
    else:
        divisors = [std]
    if config.get("include_top"):  # EfficientNet divides once more
        divisors.append(std)
    first, again, *_ = [*divisors, (), ()] if divisors else [(1.0, 1.0, 1.0), ()]
    return mean, first, again


def _three(numbers: Any) -> tuple[float, ...]:
    """One number for each channel; transformers takes a single one for all."""
    if isinstance(numbers, int | float):
        return (float(numbers),) * 3
    if not isinstance(numbers, list | tuple):
        raise PreprocessError(f"got image_mean or image_std {numbers!r} {_WORD}; expected numbers")
    return tuple(numbers)


def _range(config: Config) -> tuple[float, float]:
    """What 0 and 255 become, such that the steps between are theirs to the last bit."""
    if not config["do_rescale"]:
        return 0.0, 255.0
    factor = config["rescale_factor"]
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise PreprocessError(f"got rescale_factor {factor!r} {_WORD}; expected a number")
    low = -1.0 if config.get("rescale_offset") else 0.0
    theirs = (np.arange(256, dtype=np.float64) * factor).astype(np.float32)
    if low:
        theirs = theirs - np.float32(1)
    high = 255 * factor + low
    for candidate in (high, math.nextafter(high, -math.inf), math.nextafter(high, math.inf)):
        limits = (low, float(candidate))
        if np.array_equal(scaled_values(limits, "multiply64"), theirs):
            return limits
    raise PreprocessError(f"got rescale_factor {factor!r} {_WORD}, which no range can express")
