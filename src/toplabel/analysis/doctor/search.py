"""Search: a network and some labelled pictures in, the recipes they fit best out.

Each recipe is worth the likelihood of the true classes. Two are compared picture by picture; those
within two standard errors of the best are tied, and none of them is called the one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from toplabel.analysis.calibrate import fit_temperature
from toplabel.analysis.data.label_order import OrderFinding, find_order
from toplabel.analysis.doctor.candidates import Candidate, Colour
from toplabel.analysis.doctor.images import read_pictures
from toplabel.analysis.doctor.sanity_checks import answer
from toplabel.bundle.reference import are_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from toplabel.analysis.doctor.distortions import Distortion
    from toplabel.labels.labels import Labels
    from toplabel.preprocess import Preprocess

ERRORS = 2.0
"""Standard errors of the paired difference within which recipes are tied."""

HINTED_ERRORS = 1.0
"""The same of a colour order that the batch normalisations name, too: two kinds of evidence."""

_LEAST = 1e-12
_WORST = -50.0
_TEMPERATURES = (0.5, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A recipe that was tried.

    Args:
        candidate: Its normalisation.
        geometry: Its resizing and cropping.
        logits: What the network says of the pictures, (N, K).
        truth: Its output for the true class of each, (N,).
        losses: -log of the true class's score of each, (N,).
        accuracy: Share that is right.
    """

    candidate: Candidate
    geometry: Preprocess
    logits: NDArray[np.float32]
    truth: NDArray[np.int64]
    losses: NDArray[np.float64]
    accuracy: float

    @classmethod
    def of(
        cls,
        candidate: Candidate,
        geometry: Preprocess,
        logits: NDArray[np.float32],
        truth: NDArray[np.int64],
    ) -> Self:
        """What these outputs are worth."""
        accuracy = float((logits.argmax(axis=1) == truth).mean())
        return cls(candidate, geometry, logits, truth, _losses(logits, truth), accuracy)

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return float(self.losses.mean())

    def reordered(self, outputs: NDArray[np.int64]) -> Tried:
        """The same answers, where label i is the network's output `outputs[i]`."""
        return Tried.of(self.candidate, self.geometry, self.logits, outputs[self.truth])


def at_one_temperature(tried: Sequence[Tried]) -> list[Tried]:
    """The same, all scored at the temperature that suits the best of them.

    A network is too sure of its mistakes: a few of them would drown what the others say. On a
    ResNet-20 this raises a colour order's paired difference from 2.0 to 2.7 standard errors.
    """
    best = min(tried, key=lambda one: one.loss)
    if are_probabilities(best.logits):
        return list(tried)
    temperature = float(np.clip(fit_temperature(best.logits, best.truth), *_TEMPERATURES))
    return [
        replace(one, losses=_losses(one.logits / np.float32(temperature), one.truth))
        for one in tried
    ]


def colour_of(tried: Sequence[Tried], *, hint: Colour | None) -> tuple[Colour | None, float]:
    """The colour order that fits better over all constants, None where they are tied.

    Args:
        tried: Constants of one family, of either order.
        hint: What the batch normalisations say by themselves; where the labels lean to the same,
            one standard error is enough.

    Returns:
        It, and by how many standard errors of the paired difference.
    """
    sides = {}
    for colour in ("rgb", "bgr"):
        losses = [one.losses for one in tried if one.candidate.colour == colour]
        if not losses:
            return tried[0].candidate.colour, np.inf
        sides[colour] = np.mean(losses, axis=0)
    differences = sides["bgr"] - sides["rgb"]
    error = max(float(differences.std(ddof=1)) / len(differences) ** 0.5, _LEAST)
    distance = float(differences.mean()) / error
    leaning: Colour = "rgb" if distance > 0 else "bgr"
    needed = HINTED_ERRORS if leaning == hint else ERRORS
    return (leaning if abs(distance) > needed else None), abs(distance)


def within_errors(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """The best, and all that are tied with it, the best first."""
    order = sorted(tried, key=lambda one: one.loss)
    best = order[0]
    return (best, *(one for one in order[1:] if not clearly_worse(one, best)))


def clearly_worse(one: Tried, best: Tried) -> bool:
    """By more than two standard errors of the paired difference."""
    differences = one.losses - best.losses
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5 if len(differences) > 1 else 0
    return float(differences.mean()) > ERRORS * error


@dataclass(frozen=True, slots=True)
class Trials:
    """Runs recipes on the same labelled pictures.

    Args:
        network: In eval mode.
        sources: N pictures.
        truth: The network's output for the class of each, (N,).
    """

    network: nn.Module
    sources: Sequence[object]
    truth: NDArray[np.int64]

    def run(
        self,
        every: Sequence[Candidate],
        geometry: Preprocess,
        *,
        distortion: Distortion | None = None,
    ) -> list[Tried]:
        """Each normalisation at one geometry, of the pictures that can be read."""
        pictures = read_pictures(self.sources, geometry)
        pixels = pictures.pixels if distortion is None else distortion.change(pictures.pixels)
        truth = self.truth[pictures.read]
        return [
            Tried.of(one, geometry, answer(self.network, one.tensor(pixels)), truth)
            for one in every
        ]

    def reordered(self, outputs: NDArray[np.int64]) -> Trials:
        """The same, where label i is the network's output `outputs[i]`."""
        return replace(self, truth=outputs[self.truth])


def _losses(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    if are_probabilities(logits):
        likely = np.log(np.maximum(values, _LEAST))
    else:
        likely = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    own = likely[np.arange(len(truth)), truth]
    return np.asarray(-np.nan_to_num(own, nan=_WORST, neginf=_WORST))


def order_of(tried: Sequence[Tried], labels: Labels) -> OrderFinding:
    """The order of the labels by the recipe under which some order fits best."""
    found = [find_order(one.truth, one.logits, labels) for one in tried]
    return max(found, key=lambda one: one.fitted)


def geometries(base: Preprocess, library: Preprocess | None) -> list[Preprocess]:
    """Usual ways to bring a picture to the size of `base`; the library's own first."""
    side = base.input_size[0]
    larger = round(side / 0.875)
    every = [
        replace(base, resize_mode="shortest", resize_size=(larger, larger)),
        base,
        replace(base, resize_mode="squash", resize_size=(side, side)),
        replace(base, resize_mode="longest", resize_size=(side, side)),
    ]
    if library is not None:
        own = replace(
            base,
            resize_mode=library.resize_mode,
            resize_size=library.resize_size,
            interpolation=library.interpolation,
            convention=library.convention,
        )
        every = [own, *(one for one in every if one != own)]
    return every


def refinements(best: Preprocess) -> list[Preprocess]:
    """The same with another filter, or of another size."""
    if best.resize_mode == "none":
        return []
    filters = [name for name in ("bilinear", "bicubic") if name != best.interpolation]
    every = [replace(best, interpolation=name) for name in filters]  # type: ignore[arg-type]
    side = best.input_size[0]
    if side >= 128:  # small networks take one size, and small pictures have no other
        every += [_resized(best, factor) for factor in (6 / 7, 8 / 7)]
    return every


def _resized(best: Preprocess, factor: float) -> Preprocess:
    sizes = {
        name: None if size is None else (round(size[0] * factor), round(size[1] * factor))
        for name, size in (("input_size", best.input_size), ("resize_size", best.resize_size))
    }
    return replace(best, **sizes)  # type: ignore[arg-type]
