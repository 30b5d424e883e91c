"""torchvision: the name of a classifier and its weights in, the Model out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toplabel._internal.notices import quiet_libraries
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.model import Model
from toplabel.errors import ModelError, ModelNotFound
from toplabel.labels.known import known_labels
from toplabel.labels.labels import Labels
from toplabel.models.sources import names
from toplabel.models.sources.fetch import cannot_load, fetch_url
from toplabel.models.transforms.torchvision import from_transform
from toplabel.models.zoo_import import import_torchvision
from toplabel.preprocess.custom import AnyPreprocess


def load(name: str, *, offline: bool, preprocess: AnyPreprocess | None = None) -> Model:
    """The classifier `NAME[:WEIGHTS]`; without weights, those that torchvision calls DEFAULT.

    Raises:
        ModelNotFound: There is no such model, or no such weights of it.
        ModelError: It is not an image classifier, or these weights are not.
        DownloadError: The weights are not in torch's cache and cannot be fetched.
        CheckpointError: The file in torch's cache cannot be read or does not fit.
    """
    models = import_torchvision().models
    architecture, _, weights_name = name.partition(":")
    weights = find_weights(models, architecture, weights_name or "DEFAULT")
    labels = read_labels(models, weights)
    preprocess = preprocess or from_transform(weights.transforms())
    path = fetch_url(weights.url, offline=offline)
    stamp = FileSignature.of(path)
    return Model(
        name=f"torchvision/{architecture}:{weights.name}",
        module=_build(models, architecture, weights, path),
        architecture=f"torchvision/{architecture}",
        preprocess=preprocess,
        labels=labels,
        weights_files=(stamp,),
        provenance=_provenance(weights),
    )


def find_weights(models: Any, architecture: str, weights_name: str) -> Any:
    """The entry of torchvision's weights enum.

    Args:
        models: The module `torchvision.models`.
        architecture: Name of the model.
        weights_name: Name of the entry, or "DEFAULT".

    Raises:
        ModelNotFound: There is no such model, or no such entry.
        ModelError: The model is not an image classifier.
    """
    if architecture not in models.list_models(module=models):
        if architecture in {*models.list_models(), *names.other_names("torchvision")}:
            raise ModelError(
                f"torchvision/{architecture} is not an image classifier (it detects, segments,"
                " reads video or is quantised); `toplabel models` lists the classifiers"
            )
        raise ModelNotFound(f"unknown model {f'torchvision/{architecture}'!r}")
    entries = models.get_model_weights(architecture)
    try:
        return entries[weights_name]
    except KeyError:
        known = ", ".join(entry.name for entry in entries)
        raise ModelNotFound(
            f"unknown weights {weights_name!r} for torchvision/{architecture}; expected one of"
            f" {known}"
        ) from None


def read_labels(models: Any, weights: Any) -> Labels:
    """The categories that stand with the weights, and WordNet's ids where they are ImageNet's.

    Raises:
        ModelError: There are none: the weights are not a classifier's.
    """
    categories = weights.meta.get("categories")
    if not categories:
        raise ModelError(
            f"{weights} has no class names: its outputs are features, not classes; choose other"
            " weights"
        )
    imagenet = models.ResNet18_Weights.DEFAULT.meta["categories"]
    ids = known_labels("imagenet").ids if categories == imagenet else None
    return Labels(tuple(categories), ids=ids)


def _build(models: Any, architecture: str, weights: Any, path: Path) -> Any:
    """The network with its weights, by torchvision's own loading code, in eval mode."""
    try:
        with quiet_libraries(), _unpickle_only_weights():
            module = models.get_model(architecture, weights=weights, progress=False)
    except Exception as error:  # whatever the library's code makes of what stands in the file
        raise cannot_load(f"torchvision/{architecture}", path, error) from error
    return module.eval()


@contextmanager
def _unpickle_only_weights() -> Iterator[None]:
    """Let torch.load take weights and nothing else: torchvision's call of it allows any pickle."""
    before = {
        name: os.environ.pop(name, None)
        for name in ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    }
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _provenance(weights: Any) -> dict[str, str]:
    accuracy = weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    known = {
        "source": "torchvision",
        "weights": str(weights),
        "url": weights.url,
        "licence": weights.meta.get("license"),
        "recipe": weights.meta.get("recipe"),
        "accuracy": accuracy and f"{accuracy} % top-1 on ImageNet-1K, as published",
        "library": f"torchvision {import_torchvision().__version__}",
    }
    return {name: value for name, value in known.items() if value}
