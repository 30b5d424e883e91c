"""Zoo: an architecture's name in, the recipe of its library's own weights out."""

from __future__ import annotations

from toplabel.errors import ModelError, ModelNotFound
from toplabel.models.sources.timm import find_config, read_recipe
from toplabel.models.sources.torchvision import find_weights
from toplabel.models.transforms.torchvision import from_transform
from toplabel.models.zoo_import import import_timm, import_torchvision
from toplabel.preprocess import Preprocess


def zoo_recipe(name: str) -> Preprocess | None:
    """What `torchvision/NAME` or `timm/NAME` does with its default weights; None without any."""
    library, _, architecture = name.partition("/")
    try:
        if library == "torchvision":
            models = import_torchvision().models
            return from_transform(find_weights(models, architecture, "DEFAULT").transforms())
        timm = import_timm()
        return read_recipe(timm, find_config(timm, architecture))
    except (ModelError, ModelNotFound):
        return None
