"""What a checkpoint says of itself in, the preprocessing that it states in full out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from toplabel.models.checkpoint.hints import Holder, as_mapping

_OWN = ("preprocess", "preprocessing")
_TIMM = ("pretrained_cfg", "default_cfg", "data_config", "data_cfg")
_HF = ("preprocessor_config", "image_processor", "processor", "feature_extractor")
_HF_CLASS = ("image_processor_type", "feature_extractor_type")
_SIZES = ("input_size", "img_size", "image_size")
_FILTERS = frozenset({"bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"})


def find_preprocess(holders: list[Holder]) -> dict[str, Any] | None:
    """What `recipes.translate` takes, where the checkpoint says all of it; else None.

    Half a statement is none: a mean without its size and crop would leave the rest to a guess.
    """
    for _, plain in holders:
        stated = _own(plain) or _huggingface(plain) or _timm(plain)
        if stated:
            return stated
    return None


def _own(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """Our own recipe: an object, or its JSON."""
    for key in _OWN:
        recipe = plain.get(key)
        if isinstance(recipe, str):
            try:
                recipe = json.loads(recipe)
            except (ValueError, RecursionError):
                continue
        if isinstance(recipe, Mapping) and {"input_size", "mean", "std"} <= recipe.keys():
            return dict(recipe)
    return None


def _huggingface(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """An image processor's configuration; one without its class's name has no meaning."""
    for config in (plain, *(as_mapping(plain.get(key)) or {} for key in _HF)):
        if any(isinstance(config.get(key), str) for key in _HF_CLASS):
            return {str(key): value for key, value in config.items()}
    return None


def _timm(plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """The data config of timm, in a mapping of its own or among the arguments of its training."""
    for config in (*(as_mapping(plain.get(key)) or {} for key in _TIMM), plain):
        stated = _complete(config)
        if stated:
            return stated
    return None


def _complete(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Size, mean, std, filter and crop; None where one is not said or is for training only."""
    mean, std = _numbers(config.get("mean")), _numbers(config.get("std"))
    size, crop = _size(config, len(mean)), config.get("crop_pct")
    if not mean or not std or not size or config.get("interpolation") not in _FILTERS:
        return None
    if isinstance(crop, bool) or not isinstance(crop, int | float) or crop <= 0:
        return None
    return {
        "input_size": size,
        "interpolation": config["interpolation"],
        "mean": mean,
        "std": std,
        "crop_pct": crop,
        "crop_mode": config.get("crop_mode") or "center",
    }


def _size(config: Mapping[str, Any], channels: int) -> list[int]:
    """(channels, height, width), `channels` where nothing says them; empty: no size is said."""
    for key in _SIZES:
        size = config.get(key)
        if isinstance(size, int) and not isinstance(size, bool):
            size = (size, size)
        if isinstance(size, list | tuple) and all(type(side) is int for side in size):
            if len(size) == 2:
                return [config.get("in_chans") or channels, *size]
            if len(size) == 3:
                return list(size)
    return []


def _numbers(value: object) -> list[float]:
    """A list of numbers; empty for anything else."""
    listed = value if isinstance(value, list | tuple) else ()
    numbers = [v for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]
    return numbers if len(numbers) == len(listed) else []
