"""Recipes: a transform as people have it goes in, the same as a `Preprocess` comes out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from toplabel.errors import PreprocessError
from toplabel.preprocess import Preprocess
from toplabel.preprocess.recipe_fields import parse_object, read_text

_ACCEPTED = (
    "a toplabel.Preprocess, its JSON, a torchvision Compose or preset, a timm data config, or a"
    " Hugging Face image processor or its preprocessor_config"
)
_TIMM_KEYS = frozenset({"crop_pct", "crop_mode", "test_input_size", "test_crop_pct", "url"})
_HF_KEYS = frozenset(
    {"image_processor_type", "feature_extractor_type", "do_resize", "image_mean", "do_normalize"}
)


def translate(transform: object) -> Preprocess:
    """The recipe that does what this transform does, to the bit.

    What can be called is run on drawn photos of several shapes and compared.

    Args:
        transform: A `Preprocess`; a mapping, the text of a JSON object, or the `Path` of a file
            with one (our own recipe, timm's data config or `pretrained_cfg`, Hugging Face's
            `preprocessor_config.json`); a torchvision `Compose`, preset or single transform (v1
            or v2); timm's `PretrainedCfg`; a Hugging Face image processor.

    Raises:
        PreprocessError: It is none of these, or does something that a recipe cannot say; the
            operation is named.
    """
    if isinstance(transform, Preprocess):
        return transform
    if isinstance(transform, Path):
        return _from_mapping(parse_object(read_text(transform)))
    if isinstance(transform, str):
        return _from_mapping(parse_object(transform))
    if isinstance(transform, Mapping):
        return _from_mapping(transform)
    return _from_object(transform)


def _from_mapping(plain: Mapping[str, Any]) -> Preprocess:
    if "pretrained_cfg" in plain:
        return _timm(plain["pretrained_cfg"])
    if not _HF_KEYS.isdisjoint(plain):
        huggingface = import_module("toplabel.models.transforms.huggingface")
        recipe: Preprocess = huggingface.from_config(plain)
        return recipe
    size = plain.get("input_size")
    if not _TIMM_KEYS.isdisjoint(plain) or (isinstance(size, list | tuple) and len(size) == 3):
        return _timm(plain)
    return Preprocess.from_dict(plain)


def _timm(config: Mapping[str, Any]) -> Preprocess:
    recipe: Preprocess = import_module("toplabel.models.transforms.timm").from_config(config)
    return recipe


def _from_object(transform: object) -> Preprocess:
    """Choose by the library of the object's class, or of one that it derives from."""
    libraries = {cls.__module__.split(".")[0] for cls in type(transform).__mro__}
    if "transformers" in libraries:
        processor: Preprocess = import_module(
            "toplabel.models.transforms.huggingface"
        ).from_processor(transform)
        return processor
    to_dict = getattr(transform, "to_dict", None)
    if "timm" in libraries and callable(to_dict):
        return _timm(to_dict())
    if libraries & {"torchvision", "timm", "torch"} or isinstance(transform, list | tuple):
        recipe: Preprocess = import_module("toplabel.models.transforms.torchvision").from_transform(
            transform
        )
        return recipe
    kind = f"{type(transform).__module__}.{type(transform).__qualname__}"
    raise PreprocessError(f"got a transform of type {kind}; expected {_ACCEPTED}")
