"""ImageNet: names and WordNet synset ids of its class lists, as timm ships them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from toplabel.labels.labels import Labels
from toplabel.models.zoo_import import import_timm

_SYNSETS = Path("data", "_info", "imagenet_synsets.txt")  # in timm's package


def imagenet_labels(subset: str) -> Labels:
    """The names and synset ids of one of timm's ImageNet lists.

    A name is the first of the synset's words: "tabby" where WordNet says "tabby, tabby cat".
    Several classes may share a name (ImageNet has two cranes); their ids differ.

    Args:
        subset: As timm infers it: "imagenet-1k", "imagenet-12k", "imagenet-22k" and so on.
    """
    info = import_timm().data.ImageNetInfo(subset)
    names = (description.split(", ")[0] for description in info.label_descriptions())
    return Labels(tuple(names), ids=tuple(info.label_names()))


def imagenet_1k_ids() -> tuple[str, ...] | None:
    """The synset ids of ImageNet's 1000 classes in order; None where timm is not installed."""
    spec = find_spec("timm")  # its file is read without importing timm, which takes a second
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / _SYNSETS
        if path.is_file():
            return tuple(path.read_text(encoding="utf-8").split())
    return None
