"""Catalog: a pattern in, the classifiers that can be named out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from toplabel.errors import MissingDependency, ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A classifier that can be named, and what its library says of it.

    Args:
        name: What to type, in full: `torchvision/resnet50:IMAGENET1K_V2`.
        is_default: The name may be typed without the weights or tag.
        classes: The number of its outputs.
        input_size: Height and width of the pixels it sees.
        accuracy: Top-1 on ImageNet-1K in percent, as published; None: not stated.
        parameters: How many; None: not stated.
        size_bytes: Of the weights file; None: not stated.
    """

    name: str
    is_default: bool
    classes: int
    input_size: tuple[int, int]
    accuracy: float | None = None
    parameters: int | None = None
    size_bytes: int | None = None


BUILT_IN = ModelInfo(
    name="embedded/efficientnet_lite0",
    is_default=True,
    classes=1000,
    input_size=(224, 224),
    accuracy=75.1,
    parameters=4_652_008,
)


def list_models(pattern: str | None = None) -> list[ModelInfo]:
    """The classifiers whose names match: the built-in one, torchvision's, then timm's.

    What gives no classes (features, embeddings, detections) is left out, and so is a library that
    is not installed. Takes seconds where torch is installed, which is imported.

    Args:
        pattern: As for file names, such as `resnet*`; it may match the full name, the name without
            its source, or without its weights or tag. Without any of `*?[` the name need only
            contain it. None is all.
    """
    return [info for info in _all_models() if pattern is None or _matches(info.name, pattern)]


def _matches(name: str, pattern: str) -> bool:
    short = name.partition("/")[2]
    bare = short.partition(":")[0] if name.startswith("torchvision/") else short.partition(".")[0]
    if not any(character in pattern for character in "*?["):
        return pattern.lower() in name.lower()
    return any(fnmatchcase(text.lower(), pattern.lower()) for text in (name, short, bare))


def _all_models() -> Iterator[ModelInfo]:
    yield BUILT_IN
    for list_source in (_torchvision_models, _timm_models):
        try:
            yield from list_source()
        except MissingDependency:
            continue


def _torchvision_models() -> Iterator[ModelInfo]:
    from toplabel.models.zoo_import import import_torchvision  # imports torch

    models = import_torchvision().models
    for architecture in models.list_models(module=models):
        entries = models.get_model_weights(architecture)
        for weights in sorted(entries, key=lambda entry: entry is not entries.DEFAULT):
            if weights.meta.get("categories"):
                yield _torchvision_info(
                    architecture, weights, is_default=weights is entries.DEFAULT
                )


def _torchvision_info(architecture: str, weights: Any, *, is_default: bool) -> ModelInfo:
    size = weights.transforms().crop_size
    megabytes = weights.meta.get("_file_size")
    return ModelInfo(
        name=f"torchvision/{architecture}:{weights.name}",
        is_default=is_default,
        classes=len(weights.meta["categories"]),
        input_size=(size[0], size[-1]),
        accuracy=weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
        parameters=weights.meta.get("num_params"),
        size_bytes=None if megabytes is None else round(megabytes * 2**20),
    )


def _timm_models() -> Iterator[ModelInfo]:
    from toplabel.models.zoo_import import import_timm  # imports torch

    timm = import_timm()
    from toplabel.models.sources.timm import check_classifies

    for name in timm.list_models(pretrained=True):
        config = timm.models.get_pretrained_cfg(name).to_dict(remove_null=False)
        try:
            check_classifies(config)
        except ModelError:
            continue
        default = timm.models.get_pretrained_cfg(config["architecture"])
        yield ModelInfo(
            name=f"timm/{name}",
            is_default=default is not None and default.tag == config["tag"],
            classes=config["num_classes"],
            input_size=(config["input_size"][1], config["input_size"][2]),
        )
