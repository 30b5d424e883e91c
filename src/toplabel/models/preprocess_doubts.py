"""A preprocessing and the network it is for in; a warning where the two hardly belong together."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from toplabel._internal.notices import warn
from toplabel.models.prefixes import NORMALISATION
from toplabel.preprocess.custom import AnyPreprocess
from toplabel.preprocess.preprocess import Preprocess

_IMAGENET_SIZE = (224, 224)
_TOLERANCE = 0.03  # of what black and white become


def warn_of_normalisation(
    preprocess: AnyPreprocess, state: Mapping[str, torch.Tensor], *, file: str
) -> None:
    """Warn where mmpretrain's file records another mean and std than the preprocessing has."""
    mean, std = (state.get(f"{NORMALISATION}{name}") for name in ("mean", "std"))
    if mean is None or std is None or not isinstance(preprocess, Preprocess):
        return
    if not _normalises_as(preprocess, mean.flatten().float(), std.flatten().float()):
        shown = [[round(one, 3) for one in tensor.flatten().tolist()] for tensor in (mean, std)]
        warn(
            f"{file} records mean {shown[0]} and std {shown[1]}, of values from 0 to 255, in"
            f" {NORMALISATION}mean and std; the preprocessing has others",
            about="preprocess",
        )


def warn_of_size(
    preprocess: AnyPreprocess, zoo: str, made_for: tuple[int, int] | None, *, file: str
) -> None:
    """Warn where images are far smaller than a library's network was made for.

    Args:
        preprocess: What makes its input.
        zoo: The network's name.
        made_for: Height and width of its own weights; None where it has none.
        file: What to call the checkpoint.
    """
    own = made_for or _IMAGENET_SIZE
    if 2 * max(preprocess.input_size) < min(own):
        sizes = ["x".join(map(str, size)) for size in (own, preprocess.input_size)]
        warn(
            f"{zoo} was made for images of {sizes[0]}, and {file} is given {sizes[1]}: for such"
            " sizes strides are often changed, or the first pooling left out, which no tensor"
            " shows; if yours was changed so, pass its class"
        )


def _normalises_as(preprocess: Preprocess, mean: torch.Tensor, std: torch.Tensor) -> bool:
    """Whether black and white become what a mean and std of values from 0 to 255 make of them."""
    own_mean, own_std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    for ours, theirs in zip(preprocess.range, (0, 255), strict=True):
        one, other = (ours - own_mean) / own_std, (theirs - mean) / std
        ways = (other, other.flip(0))  # BGR
        if one.shape != other.shape or not any(
            torch.allclose(one, way, atol=_TOLERANCE) for way in ways
        ):
            return False
    return True
