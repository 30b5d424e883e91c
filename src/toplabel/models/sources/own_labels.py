"""What a network or its weights file bring by themselves: class names, and preprocessing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from toplabel._internal.notices import warn
from toplabel.errors import LabelsError, ModelError
from toplabel.labels.labels import Labels
from toplabel.models.sources import huggingface, timm, torchvision
from toplabel.models.transforms.torchvision import from_transform
from toplabel.models.zoo_import import import_timm, import_torchvision
from toplabel.preprocess.preprocess import Preprocess

_HASH_IN_URL = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)(?:$|[?#])")
_IMAGENET_OUTPUTS = 1000
_ZOOS = ("torchvision.models.", "timm.models.")


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """What a library says of weights that it publishes."""

    title: str
    labels: Labels
    preprocess: Preprocess


def labels_of_network(network: nn.Module, outputs: int) -> Labels | None:
    """The class names that a live network brings; None where it brings none.

    transformers keeps them in `config.id2label`, timm in `pretrained_cfg["label_names"]`.

    Args:
        network: As the user has it.
        outputs: Of how many classes it is; names of another number are not its own.
    """
    config_of_hub = getattr(network, "config", None)
    id2label = getattr(config_of_hub, "id2label", None)
    config = getattr(network, "pretrained_cfg", None)
    if config is not None and not isinstance(config, Mapping):
        config = getattr(config, "__dict__", {})  # timm's own class
    stated = (config or {}).get("label_names")
    try:
        if isinstance(id2label, Mapping) and len(id2label) == outputs:
            return huggingface.read_labels(id2label, getattr(config_of_hub, "label2id", None))
        if stated and len(stated) == outputs:
            return Labels.of(stated)
    except LabelsError as error:
        warn(f"the class names that the network brings are not used: {error}")
    return None


def warn_of_no_names(network: nn.Module, labels: Labels, name: str) -> None:
    """Warn where the labels are indices; and offer ImageNet's names where they may be these.

    The weights of a library's network of a thousand outputs may have been trained on ImageNet, or
    on anything else with a thousand classes.
    """
    if labels != Labels.indices(len(labels)):
        return
    inner = network.module if isinstance(network, nn.DataParallel) else network
    of_zoo = type(inner).__module__.startswith(_ZOOS)
    hint = "labels=[...] for names"
    if of_zoo and len(labels) == _IMAGENET_OUTPUTS:
        hint = 'labels="imagenet" if it was trained on ImageNet'
    warn(f"{name} has no class names: labels are indices; pass {hint}", about="labels")


def find_published_weights(path: Path, zoo: str) -> PublishedWeights | None:
    """The published weights that a file is, by the hash that the library puts in its URL.

    Args:
        path: The file, whatever it is called now.
        zoo: The network's name, `torchvision/resnet18` or `timm/NAME`.
    """
    library, _, architecture = zoo.partition("/")
    entries = _of_torchvision if library == "torchvision" else _of_timm
    hashes = {match[1] for url, _ in entries(architecture) if (match := _HASH_IN_URL.search(url))}
    if not hashes:
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not any(digest.startswith(start) for start in hashes):
        return None
    for url, entry in entries(architecture):
        match = _HASH_IN_URL.search(url)
        if match and digest.startswith(match[1]):
            return _describe(library, entry)
    return None


def _of_torchvision(architecture: str) -> Iterator[tuple[str, Any]]:
    models = import_torchvision().models
    for entry in models.get_model_weights(architecture):
        yield entry.url, entry


def _of_timm(architecture: str) -> Iterator[tuple[str, Any]]:
    library = import_timm()
    for name in library.list_pretrained(architecture):
        config = library.models.get_pretrained_cfg(name).to_dict(remove_null=False)
        yield config.get("url") or "", config


def _describe(library: str, entry: Any) -> PublishedWeights | None:
    try:
        if library == "torchvision":
            models = import_torchvision().models
            labels = torchvision.read_labels(models, entry)
            return PublishedWeights(str(entry), labels, from_transform(entry.transforms()))
        labels = timm.read_labels(import_timm(), entry, registered=True)
        title = f"{entry['architecture']}.{entry.get('tag') or 'weights'}"
        return PublishedWeights(title, labels, timm.read_preprocess(import_timm(), entry))
    except ModelError:  # features, not classes
        return None
