"""What the image processors of transformers do where their JSON says nothing.

A class's name goes in, its defaults come out, as transformers 5.23 has them (tests compare).
"""

from __future__ import annotations

from typing import Any

from toplabel.preprocess.constants import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

Config = dict[str, Any]

_HALF = (0.5, 0.5, 0.5)
_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


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
    "Gemma3ImageProcessor": "it belongs to a language model and may cut pictures into parts",
    "ImageGPTImageProcessor": "it makes colour clusters, not a tensor of a picture",
    "PPLCNetImageProcessor": "it resizes tensors, not pictures, and has no Pillow backend",
    "PerceiverImageProcessor": "it crops before it resizes",
    "Siglip2ImageProcessor": "it makes patches whose number depends on the picture's shape",
    "TextNetImageProcessor": "it gives another size for pictures of another shape",
}

CLASS_OF_MODEL_TYPE: dict[str, str] = {
    "beit": "BeitImageProcessor",
    "bit": "BitImageProcessor",
    "clip": "CLIPImageProcessor",
    "convnext": "ConvNextImageProcessor",
    "convnextv2": "ConvNextImageProcessor",
    "cvt": "ConvNextImageProcessor",
    "data2vec-vision": "BeitImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinat": "ViTImageProcessor",
    "dinov2": "BitImageProcessor",
    "donut-swin": "DonutImageProcessor",
    "efficientnet": "EfficientNetImageProcessor",
    "focalnet": "BitImageProcessor",
    "hiera": "BitImageProcessor",
    "ijepa": "ViTImageProcessor",
    "imagegpt": "ImageGPTImageProcessor",
    "levit": "LevitImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "mobilenet_v1": "MobileNetV1ImageProcessor",
    "mobilenet_v2": "MobileNetV2ImageProcessor",
    "mobilevit": "MobileViTImageProcessor",
    "mobilevitv2": "MobileViTImageProcessor",
    "perceiver": "PerceiverImageProcessor",
    "poolformer": "PoolFormerImageProcessor",
    "pp_lcnet": "PPLCNetImageProcessor",
    "pvt": "PvtImageProcessor",
    "pvt_v2": "PvtImageProcessor",
    "regnet": "ConvNextImageProcessor",
    "resnet": "ConvNextImageProcessor",
    "segformer": "SegformerImageProcessor",
    "shieldgemma2": "Gemma3ImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "swiftformer": "ViTImageProcessor",
    "swin": "ViTImageProcessor",
    "swinv2": "ViTImageProcessor",
    "textnet": "TextNetImageProcessor",
    "vit": "ViTImageProcessor",
    "vit_msn": "ViTImageProcessor",
}
