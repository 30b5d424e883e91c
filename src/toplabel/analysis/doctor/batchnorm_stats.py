"""Batch normalisation statistics: a network and ordinary photos in, its input's normalisation out.

Each candidate's input is run as far as the first batch normalisation, and the mean and variance
that reach it are compared, by their KL divergence, with those that it remembers of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toplabel.analysis.doctor.candidates import (
    Candidate,
    Colour,
    Distortion,
    Family,
    candidates,
    distortions,
    families,
    usual,
)
from toplabel.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 8

LEAST_PHOTOS = 16

RESAMPLES = 200
_SEED = 0

SHARE = 0.95
"""Of the resamples of the photos, so many must give the same family."""

MARGIN = 0.3
"""Of the logarithms of two families' divergences."""

FIT = 0.12
"""Nats a channel: the true preprocessing on ordinary photos lies below it."""

PAIR_MARGIN = 0.7
"""Between constants and each image's own mean and std, which do nearly the same to photos."""

_PAIR: tuple[Family, Family] = ("z-score", "per image")

_CENTRED: tuple[Family, ...] = ("z-score", "per image", "caffe")
"""Where each channel loses its own mean, either channel order looks much the same."""

COLOUR_PHOTOS = 32
"""With fewer the order is named wrongly by chance: of draws of 16 held-out images one in ten."""

COLOUR_SHARE = 0.95
COLOUR_MARGINS = (0.5, 0.25)
"""Of the logarithms of both orders' divergences, at the first layer and over all: a network whose
training images had no colours of their own (digits in any ink) stays below."""

_OTHER_SCALE = 1.5
"""How many times as well as the best candidate another scale of its input may fit."""

_DISTORTED = 1.0
_DISTORTED_CENTRED = 2.0
"""The same of distorted images; more where images lose their mean, as an inverted one then looks
much like an upright one."""

SCALES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0)
SHIFTS = (-0.6, -0.3, 0.0, 0.3, 0.6)
"""Of the input, about its own mean; shifts in its own standard deviations."""
_NEAR_SCALE, _NEAR_SHIFT = 1.25, 0.3


class _LastLayerReached(Exception):
    """All that is asked for has been seen."""


@dataclass(frozen=True, slots=True, eq=False)
class RunningStats:
    """What a batch normalisation remembers of its training: float64 (D,) each."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, module: _BatchNorm) -> RunningStats:
        """Those of a layer."""
        assert module.running_mean is not None
        assert module.running_var is not None
        mean, variance = module.running_mean.double().numpy(), module.running_var.double().numpy()
        return cls(mean, np.maximum(variance, 1e-12))


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What reaches a batch normalisation, of each image: float64 (N, D) each."""

    mean: NDArray[np.float64]
    square: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a candidate fits, in nats a channel: the lower, the better."""

    candidate: Candidate
    divergence: float

    @property
    def family(self) -> Family:
        """Of the candidate."""
        return self.candidate.family


@dataclass(frozen=True, slots=True)
class DistortedFit(Fit):
    """The same of distorted photos."""

    distortion: Distortion


@dataclass(frozen=True, slots=True)
class FamilyVerdict:
    """Which family fits.

    Args:
        family: It; None where it is unclear.
        tied: Another that does nearly the same to photos and fits as well; "z-score" and "per
            image" are such a pair.
        ranked: The best candidate of each family, the best first.
        share: Of the resamples that give the best one.
        margin: Of the logarithms of the first two divergences.
        reason: Why it is unclear; "" where it is not.
    """

    family: Family | None
    tied: Family | None
    ranked: tuple[Fit, ...]
    share: float
    margin: float
    reason: str


@dataclass(frozen=True, slots=True)
class ColourVerdict:
    """Which channel order fits.

    Args:
        colour: It; None where it is unclear.
        share: Of the resamples that give the same, the lower of the statistics looked at.
    """

    colour: Colour | None
    share: float


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What photos reveal of how a network's input was normalised.

    Args:
        family: The family of constants.
        colour: The channel order; None where the family is unclear.
        distorted: Which distortion of the images fits best, well or not.
    """

    family: FamilyVerdict
    colour: ColourVerdict | None
    distorted: DistortedFit


def find_normalisation(network: nn.Module, pixels: NDArray[np.uint8]) -> Normalisation:
    """How the input of a network with batch normalisation was normalised.

    Args:
        network: In eval mode, on the CPU.
        pixels: At least 16 ordinary photos of the size that it takes: uint8 (N, h, w, 3), RGB, or
            (N, h, w, 1) for a network of one channel.

    Raises:
        ModelError: It has no batch normalisation that remembers anything.
    """
    every = candidates(pixels.shape[3])
    layers = layers_in_order(network, every[0].tensor(pixels[:1]))
    if not layers:
        raise ModelError(
            "this network has no batch normalisation whose statistics could reveal how its input"
            " was normalised (it has none, or they were folded into convolutions); give some"
            ' labelled images: labelled="FOLDER"'
        )
    weights, first = resample_weights(len(pixels)), RunningStats.of(layers[0])

    def at_first(inputs: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return kl_divergence(measure(network, layers[:1], inputs)[0], first, weights)

    def fit(inputs: NDArray[np.float32]) -> float:
        return float(at_first(inputs, np.full((1, len(inputs)), 1 / len(inputs)))[0])

    divergences = np.stack([at_first(one.tensor(pixels), weights) for one in every])
    verdict = decide_family(every, divergences)
    distorted = _best_distortion(fit, pixels)
    if not verdict.reason and (rival := _find_rival(verdict.ranked[0], distorted, fit, pixels)):
        verdict = replace(verdict, family=None, tied=None, reason=rival)
    if verdict.family is None:
        return Normalisation(verdict, None, distorted)
    of_family = [i for i, one in enumerate(every) if one.family == verdict.family]
    chosen = [every[i] for i in of_family]

    def at_all() -> NDArray[np.float64]:
        return np.stack([_mean_log(network, layers, one.tensor(pixels), weights) for one in chosen])

    colour = decide_colour(chosen, divergences[of_family], at_all, photos=len(pixels))
    return Normalisation(verdict, colour, distorted)


def batch_normalisations(network: nn.Module) -> list[_BatchNorm]:
    """Its layers that remember a mean and a variance, in no order of running."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and module.running_var is not None
    ]


def layers_in_order(network: nn.Module, inputs: NDArray[np.float32]) -> list[_BatchNorm]:
    """Those that run, as they run, of one input (1, C, h, w). Raises what the network raises."""
    seen: dict[int, _BatchNorm] = {}

    def keep(module: nn.Module, _given: Any) -> None:
        assert isinstance(module, _BatchNorm)
        seen.setdefault(id(module), module)

    with pre_hooked(batch_normalisations(network), keep):
        network(torch.from_numpy(inputs))
    return list(seen.values())


def measure(
    network: nn.Module, layers: list[_BatchNorm], inputs: NDArray[np.float32]
) -> list[Moments]:
    """The moments at each layer, of each input.

    Args:
        network: In eval mode; it is run no farther than the last of the layers needs.
        layers: Of it, in the order in which they run.
        inputs: float32 (N, C, h, w).
    """
    rows: list[list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = [[] for _ in layers]
    places = {id(layer): place for place, layer in enumerate(layers)}

    def keep(module: nn.Module, given: Any) -> None:
        values = given[0].flatten(2) if given[0].ndim > 2 else given[0][..., None]
        mean, square = values.mean(2), torch.square(values).mean(2)  # in doubles: 50 times as long
        place = places[id(module)]
        rows[place].append((mean.double().numpy(), square.double().numpy()))
        if place == len(layers) - 1:
            raise _LastLayerReached

    with pre_hooked(layers, keep):
        for start in range(0, len(inputs), BATCH_SIZE):
            try:
                network(torch.from_numpy(inputs[start : start + BATCH_SIZE]))
            except _LastLayerReached:
                continue
    return [
        Moments(np.concatenate([m for m, _ in row]), np.concatenate([s for _, s in row]))
        for row in rows
    ]


@contextmanager
def pre_hooked(modules: list[_BatchNorm], hook: Callable[[nn.Module, Any], None]) -> Iterator[None]:
    """While it lasts, and no gradients are kept, `hook` sees what each module is given."""
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


def resample_weights(photos: int) -> NDArray[np.float64]:
    """All photos, then `RESAMPLES` draws of as many with replacement: (R + 1, N), rows sum to 1."""
    generator = np.random.default_rng(_SEED)
    drawn = generator.multinomial(photos, np.full(photos, 1 / photos), size=RESAMPLES)
    return np.vstack([np.ones(photos), drawn]) / photos


def kl_divergence(
    moments: Moments, remembered: RunningStats, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """KL divergence of Gaussians, observed from remembered, mean over channels: (R,) nats.

    Args:
        moments: Of N photos.
        remembered: By the layer.
        weights: (R, N): how much each photo counts in each resample.
    """
    mean = weights @ moments.mean  # (R, D)
    variance = np.maximum(weights @ moments.square - mean**2, 1e-12)
    ratio = variance / remembered.variance
    shift = (mean - remembered.mean) ** 2 / remembered.variance
    return np.asarray(0.5 * (ratio + shift - 1 - np.log(ratio)).mean(axis=1))


def decide_family(every: Sequence[Candidate], divergences: NDArray[np.float64]) -> FamilyVerdict:
    """The family of the lowest divergence at the first layer, or that it is unclear.

    It is named only where resampled photos give it, too, where the next family is clearly worse,
    and where it fits in itself.

    Args:
        every: C candidates.
        divergences: (C, R): of all photos, then of each resample of them.
    """
    ranked, lowest = [], []
    for name in families(every):
        places = [i for i, one in enumerate(every) if one.family == name]
        best = min(places, key=lambda i: divergences[i, 0])
        ranked.append(Fit(every[best], float(divergences[best, 0])))
        lowest.append(divergences[places].min(axis=0))
    won = np.array(families(every))[np.stack(lowest)[:, 1:].argmin(axis=0)]
    ranked.sort(key=lambda one: one.divergence)
    first = ranked[0]
    alike = _PAIR if first.family in _PAIR else (first.family,)
    second = next(one for one in ranked if one.family not in alike)
    share = float(np.isin(won, alike).mean())
    margin = float(np.log(second.divergence / first.divergence))
    reason = _weakness(first, second, share, margin)
    family, tied = (None, None) if reason else _within_pair(ranked, won)
    return FamilyVerdict(family, tied, tuple(ranked), share, margin, reason)


def decide_colour(
    every: Sequence[Candidate],
    first: NDArray[np.float64],
    at_all: Callable[[], NDArray[np.float64]],
    *,
    photos: int,
) -> ColourVerdict:
    """The channel order within a family: where the first layer and all layers agree.

    Args:
        every: C candidates of one family.
        first: (C, R): divergences at the first layer.
        at_all: Gives (C, R): means over all layers of the logarithm of the divergence. Asked only
            where it can decide: it takes the whole network.
        photos: How many there are.
    """
    best = every[int(first[:, 0].argmin())]
    if best.colour == "grey":
        return ColourVerdict("grey", 1.0)
    votes = [_colour_vote(every, np.log(first))]
    if best.family in _CENTRED or photos < COLOUR_PHOTOS:
        return ColourVerdict(None, votes[0][1])
    votes.append(_colour_vote(every, at_all()))
    colours = {colour for colour, _, _ in votes}
    share = min(share for _, share, _ in votes)
    clear = all(vote[2] >= margin for vote, margin in zip(votes, COLOUR_MARGINS, strict=True))
    if not clear or share < COLOUR_SHARE or len(colours) > 1:
        return ColourVerdict(None, share)
    return ColourVerdict(colours.pop(), share)


def _best_distortion(
    fit: Callable[[NDArray[np.float32]], float], pixels: NDArray[np.uint8]
) -> DistortedFit:
    """The distortion that fits best, under the most usual constants of whatever family."""
    channels = pixels.shape[3]
    every = dict.fromkeys(usual(one.family, one.colour, channels) for one in candidates(channels))
    found = []
    for distortion in distortions(channels):
        distorted = distortion.apply(pixels)
        found += [DistortedFit(one, fit(one.tensor(distorted)), distortion) for one in every]
    return min(found, key=lambda one: one.divergence)


def _find_rival(
    first: Fit,
    distorted: DistortedFit,
    fit: Callable[[NDArray[np.float32]], float],
    pixels: NDArray[np.uint8],
) -> str:
    """What fits clearly better than the best without being a candidate; "" where nothing does.

    Another scale of the same input, or distorted images: the true preprocessing is none of the
    candidates then.
    """
    end = "the true preprocessing is probably none of the candidates"
    inputs = first.candidate.tensor(pixels)
    centre, spread = np.float32(inputs.mean()), float(inputs.std())

    def fit_at(scale: float, shift: float) -> float:
        moved = np.float32(float(centre) + shift * spread)
        return fit(np.float32(scale) * (inputs - centre) + moved)

    lowest, scale, shift = min((fit_at(a, b), a, b) for a in SCALES for b in SHIFTS)
    near = 1 / _NEAR_SCALE <= scale <= _NEAR_SCALE and abs(shift) <= _NEAR_SHIFT
    if not near and first.divergence > _OTHER_SCALE * lowest:
        return (
            f"the best, {first.family!r}, would fit {first.divergence / lowest:.1f} times as well"
            f" with its input scaled by {scale:g} and shifted by {shift:g} standard deviations:"
            f" {end}"
        )
    needed = _DISTORTED_CENTRED if first.family in _CENTRED else _DISTORTED
    if first.divergence > needed * distorted.divergence:
        return (
            f"the best, {first.family!r}, fits {first.divergence / distorted.divergence:.1f} times"
            f" worse than {distorted.distortion.words}, {distorted.family!r}: {end}"
        )
    return ""


def _mean_log(
    network: nn.Module,
    layers: list[_BatchNorm],
    inputs: NDArray[np.float32],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean over all layers of the logarithm of the divergence: (R,)."""
    logs = [
        np.log(np.maximum(kl_divergence(moments, RunningStats.of(layer), weights), 1e-12))
        for moments, layer in zip(measure(network, layers, inputs), layers, strict=True)
    ]
    return np.asarray(np.mean(logs, axis=0))


def _within_pair(ranked: Sequence[Fit], won: NDArray[np.str_]) -> tuple[Family, Family | None]:
    """Constants alone where they clearly win; else the pair: photos may favour either by chance."""
    first = ranked[0]
    if first.family not in _PAIR:
        return first.family, None
    if first.family == "per image":
        return _PAIR
    (twin,) = (one for one in ranked if one.family in _PAIR and one is not first)
    apart = float(np.log(twin.divergence / first.divergence))
    if apart >= PAIR_MARGIN and float((won == first.family).mean()) >= SHARE:
        return first.family, None
    return _PAIR


def _weakness(first: Fit, second: Fit, share: float, margin: float) -> str:
    """Why the first may be wrong; "" where nothing of the candidates argues against it."""
    if share < SHARE:
        return f"only {share:.0%} of the resamples of these photos give {first.family!r} again"
    if margin < MARGIN:
        return f"{first.family!r} and {second.family!r} fit almost equally well"
    if first.divergence > FIT:
        return (
            f"even the best, {first.family!r}, fits badly ({first.divergence:.2f} nats; the true"
            f" one stays below {FIT}): it is none of the candidates, or the photos are of another"
            " kind than the training images"
        )
    return ""


def _colour_vote(
    every: Sequence[Candidate], values: NDArray[np.float64]
) -> tuple[Colour, float, float]:
    """The order that all photos give, the share of resamples that give it, and how clearly."""
    rgb = values[[i for i, one in enumerate(every) if one.colour == "rgb"]].min(axis=0)
    bgr = values[[i for i, one in enumerate(every) if one.colour == "bgr"]].min(axis=0)
    is_rgb = rgb < bgr
    share = float((is_rgb[1:] == is_rgb[0]).mean())
    return ("rgb" if is_rgb[0] else "bgr"), share, float(abs(rgb[0] - bgr[0]))
