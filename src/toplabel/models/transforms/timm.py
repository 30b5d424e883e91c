"""timm's data config or `pretrained_cfg` in, what its evaluation transform does out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from toplabel.errors import PreprocessError
from toplabel.preprocess.constants import IMAGENET_MEAN, IMAGENET_STD
from toplabel.preprocess.preprocess import Preprocess

_DEFAULTS: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
    "crop_pct": 0.875,
    "crop_mode": "center",
}
_REFUSED = ("crop_border_pixels", "tf_preprocessing", "naflex", "patchify")


def from_config(config: Mapping[str, Any]) -> Preprocess:
    """What `timm.data.create_transform` makes of this config, at its training-time size.

    Args:
        config: What `timm.data.resolve_data_config` gives, or a model's `pretrained_cfg`; what it
            leaves out is timm's default. `test_input_size` and `test_crop_pct` are ignored.

    Raises:
        PreprocessError: It asks for something that a `Preprocess` cannot express.
    """
    for key in _REFUSED:
        if config.get(key):
            raise PreprocessError(f"timm's {key!r} is not supported: got {config[key]!r}")
    try:
        return _preprocess(config)
    except PreprocessError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        given = {key: config[key] for key in _DEFAULTS if key in config}
        raise PreprocessError(f"cannot make sense of timm's {given!r}: {error}") from error


def _preprocess(config: Mapping[str, Any]) -> Preprocess:
    channels, *crop = _input_size(_setting(config, "input_size"))
    mean, std = (_per_channel(_setting(config, key), channels) for key in ("mean", "std"))
    common: dict[str, Any] = {
        "input_size": tuple(crop),
        "interpolation": _setting(config, "interpolation"),
        "channels": {1: "grey", 3: "rgb"}.get(channels, channels),
        "mean": mean,
        "std": std,
    }
    return Preprocess(**common, **_geometry(config, crop, mean))


def _setting(config: Mapping[str, Any], key: str) -> Any:
    """What the config says; timm takes None, 0 and an empty list for nothing."""
    return config.get(key) or _DEFAULTS[key]


def _input_size(size: Any) -> tuple[int, int, int]:
    if not isinstance(size, list | tuple) or len(size) != 3:
        raise PreprocessError(f"got timm input_size {size!r}; expected (channels, height, width)")
    return size[0], size[1], size[2]


def _per_channel(numbers: Any, channels: int) -> tuple[float, ...]:
    listed = tuple(numbers) if isinstance(numbers, list | tuple) else (numbers,)
    return listed * channels if len(listed) == 1 else listed


def _geometry(
    config: Mapping[str, Any], crop: list[int], mean: tuple[float, ...]
) -> dict[str, Any]:
    """The resize and what fills a border, by timm's `crop_pct` and `crop_mode`."""
    crop_pct, crop_mode = _setting(config, "crop_pct"), _setting(config, "crop_mode")
    size = tuple(math.floor(side / crop_pct) for side in crop)
    geometry: dict[str, Any] = {"resize_size": size}
    if crop_mode == "squash":
        return geometry | {"resize_mode": "squash"}
    if crop_mode == "border":
        fill = tuple(round(255 * value) for value in mean)
        return geometry | {"resize_mode": "longest", "convention": "timm", "pad_value": fill}
    if crop_mode == "center":
        # timm leaves a square resize to torchvision, and does any other itself
        convention = "torchvision" if size[0] == size[1] else "timm"
        return geometry | {"resize_mode": "shortest", "convention": convention}
    raise PreprocessError(
        f"got timm crop_mode {crop_mode!r}; expected 'center', 'squash' or 'border'"
    )
