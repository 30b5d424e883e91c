"""Checkpoint: a file that somebody saved, and what was stated of it, in; a checked Model out.

Nothing is guessed: a network must fit every tensor, and a recipe comes from the file, from the
user, or visibly from the zoo that the network is one of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toplabel._internal.notices import warn
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.model import Model
from toplabel.errors import CheckpointError, ModelError, PreprocessError
from toplabel.labels.files import order_warning
from toplabel.labels.labels import Labels
from toplabel.models import transforms
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.models.checkpoint.info import CheckpointInfo
from toplabel.models.checkpoint.reading import non_finite_names, read_checkpoint
from toplabel.models.checkpoint.state_dict_search import FoundStateDict, find_state_dict
from toplabel.models.options import ModelOptions
from toplabel.models.sources.module import from_module
from toplabel.models.sources.networks import Network, find_network, zoo_preprocess
from toplabel.models.zoo_import import declare_missing_operators
from toplabel.preprocess.preprocess import Preprocess


def load(path: Path, *, options: ModelOptions) -> Model:
    """The classifier in a checkpoint file.

    Args:
        path: A file of torch's or in the safetensors format, or the index of such.
        options: What the file does not say.

    Raises:
        CheckpointError: It cannot be read, would run code, or fits no network.
        ModelError: The network cannot be used as a classifier.
        LabelsError: The labels do not fit its outputs.
        PreprocessError: There is no recipe, or it cannot be expressed.
        MissingDependency: torch is too old to read such a file safely.
    """
    declare_missing_operators()  # for code of the user's that imports torchvision
    info = read_checkpoint_info(path)
    stamps = [FileSignature.of(file) for file in info.files]
    content = read_checkpoint(info, allow_globals=options.allow_globals, trust=options.trust)
    contents = _contents(content, info, options)
    _check_finite(contents, path)
    network = find_network(content, contents, options, path=path)
    recipe = _recipe(contents, network, options, path=path)
    model = from_module(
        network.module,
        preprocess=recipe,
        labels=None,
        multi_label=options.multi_label,
        name=f"checkpoint/{path.name}",
    )
    labels = _labels(contents, options, outputs=len(model.labels), path=path)
    if [FileSignature.of(file) for file in info.files] != stamps:  # tensors are read when used
        raise CheckpointError(f"{path} changed while it was read; try again")
    return replace(
        model,
        labels=labels,
        weights_files=(*stamps, *network.code),
        provenance=_provenance(info, contents, network),
    )


def _contents(content: Any, info: CheckpointInfo, options: ModelOptions) -> FoundStateDict:
    if isinstance(content, nn.Module):
        return FoundStateDict(state=content.state_dict())
    return find_state_dict(content, metadata=info.metadata, ema=options.ema)


def _check_finite(contents: FoundStateDict, path: Path) -> None:
    names = non_finite_names(contents.state)
    if names:
        raise ModelError(
            f"non_finite: {len(names)} tensors of {path} hold NaN or infinity, {names[0]!r} first;"
            " the training diverged, or the file is damaged: take an earlier checkpoint"
        )


def _recipe(
    contents: FoundStateDict, network: Network, options: ModelOptions, *, path: Path
) -> Preprocess:
    """The recipe that was options, that stands in the file, or visibly that of the zoo's entry."""
    given = options.read_preprocess()
    if given is not None:
        return given
    if contents.preprocess is not None:
        return transforms.translate(contents.preprocess)
    assumed = network.zoo and zoo_preprocess(network.zoo)
    if assumed and assumed.num_channels == _input_channels(network.module):
        height, width = assumed.input_size
        warn(
            f"assuming that {path.name} was validated with the preprocessing of {network.zoo}'s"
            f" own weights, {height}x{width} pixels; pass preprocess=... if it was another"
        )
        return assumed
    raise PreprocessError(
        f"{path} does not say how its images were preprocessed, and a wrong guess gives wrong"
        ' labels without an error; pass preprocess="imagenet-crop-256-224" (`toplabel models'
        " --preprocess` lists the presets) or a JSON file; `toplabel doctor` compares candidates on"
        " labelled images"
    )


def _input_channels(module: nn.Module) -> int | None:
    """What the first convolution takes."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
    return None


def _labels(contents: FoundStateDict, options: ModelOptions, *, outputs: int, path: Path) -> Labels:
    """The labels that were stated or stand in the file, one for each output; else indices."""
    labels = options.read_labels()
    if labels is None:
        labels = contents.labels
    if labels is None:
        found = f"names classes in {contents.labels_where}" if contents.labels_where else ""
        warn(
            f"{path.name} {found or 'has no class names'}: labels are indices; pass labels=..."
            " for names"
        )
        return Labels.indices(outputs)
    labels.check_count(outputs)
    if warning := order_warning(labels):
        warn(warning)
    return labels


def _provenance(info: CheckpointInfo, contents: FoundStateDict, network: Network) -> dict[str, str]:
    known: Mapping[str, str | None] = {
        "source": "checkpoint",
        "file": info.path.name,
        "format": info.format,
        "state_dict": contents.where or None,
        "architecture": network.name,
        "loaded": f"{network.share:.1%} of the parameters" if network.share < 1 else None,
        "library": f"torch {torch.__version__}",
    }
    return {name: value for name, value in known.items() if value}
