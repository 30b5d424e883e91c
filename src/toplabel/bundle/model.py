"""Model: what a source returns. A module in eval mode and all that is needed to label with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from toplabel.bundle.cache import FileSignature
    from toplabel.labels.labels import Labels
    from toplabel.preprocess.custom import AnyPreprocess

Activation = Literal["softmax", "sigmoid", "none"]
"""How a model's outputs become scores; "none" where they are scores already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A classifier as its source gives it, before it is compiled.

    Args:
        name: What it is, in full and reproducible: `torchvision/resnet50:IMAGENET1K_V2`.
        module: In eval mode, on the CPU, float32; its forward maps a float32 (N, C, H, W) tensor
            to a float32 (N, K) tensor: logits, or scores in [0, 1].
        architecture: Identity of the code that computes it (`torchvision/resnet50`; a user's
            class adds the hash of its file). Together with the weights it is the program's key.
        preprocess: The one that came with the weights.
        labels: One for each of the K outputs.
        activation: How its outputs become scores.
        multi_label: Classes are independent, each applies or not; else they are exclusive.
        weights_files: Those that it was read from, as they were before, to notice when they
            change; empty for a live module.
        provenance: What else is known, as plain text: source, revision, licence, library version.
    """

    name: str
    module: nn.Module
    architecture: str
    preprocess: AnyPreprocess
    labels: Labels
    activation: Activation = "softmax"
    multi_label: bool = False
    weights_files: tuple[FileSignature, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
