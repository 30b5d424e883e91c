"""Unlabelled: a network and ordinary photos in, how its input was normalised out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.doctor.batchnorm_stats import in_order, measure, stored
from toplabel.analysis.doctor.candidates import candidates, usual
from toplabel.analysis.doctor.distortions import distortions
from toplabel.analysis.doctor.kl_divergence import divergence, weights
from toplabel.analysis.doctor.verdict import (
    SCALES,
    SHIFTS,
    ColourVerdict,
    Distorted,
    FamilyVerdict,
    OtherScale,
    decide_colour,
    decide_family,
)
from toplabel.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from toplabel.analysis.doctor.batchnorm_stats import Stored

LEAST_PHOTOS = 16


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What photos say of how a network's input was normalised.

    Args:
        family: The family of constants.
        colour: The order of the channels; None where the family is not known.
        distorted: What of distorted pictures fits best, well or not.
    """

    family: FamilyVerdict
    colour: ColourVerdict | None
    distorted: Distorted


def find_normalisation(network: nn.Module, pixels: NDArray[np.uint8]) -> Normalisation:
    """How the input of a network with batch normalisation was normalised.

    Each candidate's input is run as far as the first batch normalisation, and what reaches it is
    compared with the mean and variance that it remembers of its training.

    Args:
        network: In eval mode, on the CPU.
        pixels: At least 16 ordinary photos of the size that it takes: uint8 (N, h, w, 3), RGB, or
            (N, h, w, 1) for a network of one channel.

    Raises:
        ModelError: It has no batch normalisation that remembers anything.
    """
    every = candidates(pixels.shape[3])
    layers = in_order(network, every[0].tensor(pixels[:1]))
    if not layers:
        raise ModelError(
            "this network has no batch normalisation whose statistics could tell how its input was"
            " normalised (it has none, or they were folded into convolutions); give some labelled"
            " pictures: --labelled FOLDER"
        )
    shares, first = weights(len(pixels)), stored(layers[0])
    divergences = np.stack(
        [
            divergence(measure(network, layers[:1], one.tensor(pixels))[0], first, shares)
            for one in every
        ]
    )
    verdict = decide_family(every, divergences, None, None)
    best = verdict.ranked[0].candidate
    distorted = _distorted(network, pixels, first, layers[:1])
    if not verdict.reason:
        other = _other_scale(network, best.tensor(pixels), first, layers[:1])
        verdict = decide_family(every, divergences, other, distorted)
    if verdict.family is None:
        return Normalisation(verdict, None, distorted)
    of_family = [i for i, one in enumerate(every) if one.family == verdict.family]
    chosen = [every[i] for i in of_family]

    def deep() -> NDArray[np.float64]:
        return np.stack([_depth(network, layers, one.tensor(pixels), shares) for one in chosen])

    colour = decide_colour(chosen, divergences[of_family], deep, photos=len(pixels))
    return Normalisation(verdict, colour, distorted)


def _distorted(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    first: Stored,
    layers: list[_BatchNorm],
) -> Distorted:
    """The distortion that fits best, under the most usual constants of whatever family."""
    channels, alike = pixels.shape[3], np.ones((1, len(pixels))) / len(pixels)
    every = [usual(one.family, one.colour, channels) for one in candidates(channels)]
    found = []
    for distortion in distortions(channels):
        changed = distortion.change(pixels)
        for candidate in dict.fromkeys(every):
            (moments,) = measure(network, layers, candidate.tensor(changed))
            fit = float(divergence(moments, first, alike)[0])
            found.append(Distorted(distortion, candidate, fit))
    return min(found, key=lambda one: one.divergence)


def _other_scale(
    network: nn.Module, inputs: NDArray[np.float32], first: Stored, layers: list[_BatchNorm]
) -> OtherScale:
    centre, spread = float(inputs.mean()), float(inputs.std())
    every = np.ones((1, len(inputs))) / len(inputs)

    def fits(scale: float, shift: float) -> float:
        moved = np.float32(scale) * (inputs - np.float32(centre)) + np.float32(
            centre + shift * spread
        )
        (moments,) = measure(network, layers, moved)
        return float(divergence(moments, first, every)[0])

    found = {(scale, shift): fits(scale, shift) for scale in SCALES for shift in SHIFTS}
    (scale, shift) = min(found, key=lambda key: found[key])
    return OtherScale(scale, shift, found[scale, shift])


def _depth(
    network: nn.Module,
    layers: list[_BatchNorm],
    inputs: NDArray[np.float32],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean over all layers of the logarithm of the divergence: (R,)."""
    found = measure(network, layers, inputs)
    logs = [
        np.log(np.maximum(divergence(moments, stored(layer), shares), 1e-12))
        for moments, layer in zip(found, layers, strict=True)
    ]
    return np.asarray(np.mean(logs, axis=0))
