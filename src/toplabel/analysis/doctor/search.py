"""Search: a network and some labelled images in, the preprocessings that fit them best out.

Each is worth the likelihood of the true classes. Two are compared image by image; those within two
standard errors of the best are tied, and none of them is called the one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.text import number_of
from toplabel.analysis.data.label_order import OrderFinding, find_order
from toplabel.analysis.doctor.candidates import Candidate, Colour, usual
from toplabel.analysis.doctor.sanity_checks import outputs_of
from toplabel.analysis.temperature import fit_temperature
from toplabel.bundle.outputs import are_shares
from toplabel.errors import UsageError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.inference.batch import image_error

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from toplabel.analysis.doctor.batchnorm_stats import DistortedFit
    from toplabel.analysis.doctor.candidates import Distortion
    from toplabel.analysis.doctor.target import Target
    from toplabel.labels.labels import Labels
    from toplabel.preprocess.preprocess import Preprocess

ERRORS = 2.0
"""Standard errors of the paired difference within which preprocessings are tied."""

HINTED_ERRORS = 1.0
"""The same of a channel order that the batch normalisations name, too: two kinds of evidence."""

_LEAST = 1e-12
_WORST = -50.0
_TEMPERATURES = (0.5, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class SizedImages:
    """Images at one size.

    Args:
        pixels: uint8 (M, h, w, C) of those that could be read.
        read: Their indices among the sources, int (M,).
        failed: How many could not, by code.
    """

    pixels: NDArray[np.uint8]
    read: NDArray[np.int64]
    failed: Counter[str]


def read_images(sources: Sequence[object], geometry: Preprocess) -> SizedImages:
    """All that can be read, resized and cropped as `geometry` does.

    Raises:
        UsageError: None can.
    """
    options, crops, read = ReadOptions(), [], []
    failed: Counter[str] = Counter()
    for index, source in enumerate(sources):
        try:
            image = read_image(source, options=options, resized_size=geometry.resized_size)
            crop = geometry.resize_and_crop(
                image.pixels,
                original_size=(image.height, image.width),
                scale=image.scale,
                max_pixels=options.max_pixels,
            )
        except Exception as error:
            failed[image_error(error).code] += 1
            continue
        crops.append(crop)
        read.append(index)
    if not crops:
        raise UsageError(
            f"none of {number_of(len(sources), 'image')} could be read:"
            f" {counted(failed) or 'there are none'}"
        )
    return SizedImages(np.stack(crops), np.array(read, np.int64), failed)


def counted(failed: Counter[str]) -> str:
    """How many images failed with each code, for a sentence."""
    return ", ".join(f"{count} {code}" for code, count in failed.items())


@dataclass(frozen=True, eq=False)
class Trial:
    """A preprocessing that was tried.

    Args:
        candidate: Its normalisation.
        geometry: Its resizing and cropping.
        logits: The network's outputs for the images, (N, K).
        truth: Its output for the true class of each, (N,).
        temperature: Of the scores.
    """

    candidate: Candidate
    geometry: Preprocess
    logits: NDArray[np.float32]
    truth: NDArray[np.int64]
    temperature: float = 1.0

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """-log of the true class's score of each, (N,)."""
        values = (self.logits / np.float32(self.temperature)).astype(np.float64)
        if are_shares(self.logits):
            likely = np.log(np.maximum(values, _LEAST))
        else:
            likely = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
        own = likely[np.arange(len(self.truth)), self.truth]
        return np.asarray(-np.nan_to_num(own, nan=_WORST, neginf=_WORST))

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float((self.logits.argmax(axis=1) == self.truth).mean())


@dataclass(frozen=True, slots=True)
class Trials:
    """Tries preprocessings on the same labelled images.

    Args:
        network: In eval mode.
        sources: N images.
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
    ) -> list[Trial]:
        """Each normalisation at one geometry, of the images that can be read."""
        images = read_images(self.sources, geometry)
        pixels = images.pixels if distortion is None else distortion.apply(images.pixels)
        truth = self.truth[images.read]
        return [
            Trial(one, geometry, outputs_of(self.network, one.tensor(pixels)), truth)
            for one in every
        ]


def find_label_order(trials: Sequence[Trial], labels: Labels) -> OrderFinding:
    """The order of the labels, by the preprocessing under which some order fits best."""
    return max(
        (find_order(one.truth, one.logits, labels) for one in trials), key=lambda x: x.fitted
    )


def choose_normalisation(
    trials: Sequence[Trial], *, hint: Colour | None
) -> tuple[Trial, list[Trial], tuple[Colour | None, float]]:
    """The normalisation to take, all that are tied with the best, and the channel order.

    Args:
        trials: Every normalisation, at one geometry.
        hint: The channel order that the batch normalisations name, where they do.
    """
    trials = _at_one_temperature(trials)
    best = min(trials, key=lambda one: one.loss)
    of_family = [one for one in trials if one.candidate.family == best.candidate.family]
    colour = _channel_order(of_family, hint=hint)
    if colour[0] is not None:
        trials = [one for one in trials if one.candidate.colour == colour[0]]
    tied = _tied_with_best(trials)
    chosen = _most_usual(tied)
    return chosen, [chosen, *(one for one in tied if one is not chosen)], colour


def try_distorted(trials: Trials, chosen: Trial, found: DistortedFit) -> Trial | None:
    """Distorted images, where they do clearly better than the normalisation to take."""
    (other,) = trials.run([found.candidate], chosen.geometry, distortion=found.distortion)
    plain, distorted = _at_one_temperature([chosen, other])
    return other if distorted.loss < plain.loss and _clearly_worse(plain, distorted) else None


def choose_geometry(
    trials: Trials, chosen: Trial, target: Target, every: list[Preprocess]
) -> tuple[Trial, list[Trial]]:
    """The geometry to take, and all that are tied with it: coarse, then fine.

    Args:
        trials: Tries them.
        chosen: The normalisation.
        target: The network.
        every: The coarse geometries, its library's own first.
    """

    def run(some: list[Preprocess]) -> list[Trial]:
        accepted = (one for one in some if target.takes(one.input_size))
        found = [trials.run([chosen.candidate], one)[0] for one in accepted]
        return _at_one_temperature(found) if found else []

    coarse = run(every)
    best = min(coarse, key=lambda one: one.loss)
    tied = _tied_with_best([*coarse, *run(_refinements(best.geometry))])
    own = coarse[0] if target.library is not None and coarse[0] in tied else tied[0]
    return own, [own, *(one for one in tied if one is not own)]


def usual_geometries(sources: Sequence[object], target: Target) -> list[Preprocess]:
    """Usual ways to the target's size, the library's own first; one where images have it."""
    base, library = target.geometry, target.library
    if _all_have_size(sources, base.input_size):
        return [replace(base, resize_mode="none", resize_size=None)]
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


def _all_have_size(sources: Sequence[object], size: tuple[int, int]) -> bool:
    """Whether the images that can be read, of which there are some, are of this (height, width)."""
    any_read = False
    for source in sources:
        try:
            image = read_image(source, options=ReadOptions())
        except Exception:  # counted where their pixels are read
            continue
        if (image.height, image.width) != size:
            return False
        any_read = True
    return any_read


def _refinements(best: Preprocess) -> list[Preprocess]:
    """The same with another filter, or of another size."""
    if best.resize_mode == "none":
        return []
    filters = [name for name in ("bilinear", "bicubic") if name != best.interpolation]
    every = [replace(best, interpolation=name) for name in filters]  # type: ignore[arg-type]
    if best.input_size[0] >= 128:  # small networks take one size, and small images have no other
        every += [_resized(best, factor) for factor in (6 / 7, 8 / 7)]
    return every


def _resized(best: Preprocess, factor: float) -> Preprocess:
    sizes = {
        name: None if size is None else (round(size[0] * factor), round(size[1] * factor))
        for name, size in (("input_size", best.input_size), ("resize_size", best.resize_size))
    }
    return replace(best, **sizes)  # type: ignore[arg-type]


def _at_one_temperature(trials: Sequence[Trial]) -> list[Trial]:
    """The same, all scored at the temperature that suits the best of them.

    A network is too sure of its mistakes: a few of them would drown the others' evidence. On a
    ResNet-20 this raises a channel order's paired difference from 2.0 to 2.7 standard errors.
    """
    best = min(trials, key=lambda one: one.loss)
    if are_shares(best.logits):
        return list(trials)
    temperature = float(np.clip(fit_temperature(best.logits, best.truth), *_TEMPERATURES))
    return [replace(one, temperature=temperature) for one in trials]


def _channel_order(trials: Sequence[Trial], *, hint: Colour | None) -> tuple[Colour | None, float]:
    """The channel order that fits better over all constants, None where they are tied.

    Args:
        trials: Constants of one family, of either order.
        hint: The order that the batch normalisations name; where the labels lean to the same,
            one standard error is enough.

    Returns:
        It, and by how many standard errors of the paired difference.
    """
    sides = {}
    for colour in ("rgb", "bgr"):
        losses = [one.losses for one in trials if one.candidate.colour == colour]
        if not losses:
            return trials[0].candidate.colour, np.inf
        sides[colour] = np.mean(losses, axis=0)
    differences = sides["bgr"] - sides["rgb"]
    error = max(float(differences.std(ddof=1)) / len(differences) ** 0.5, _LEAST)
    distance = float(differences.mean()) / error
    leaning: Colour = "rgb" if distance > 0 else "bgr"
    needed = HINTED_ERRORS if leaning == hint else ERRORS
    return (leaning if abs(distance) > needed else None), abs(distance)


def _tied_with_best(trials: Sequence[Trial]) -> list[Trial]:
    """The best, and all that are tied with it, the best first."""
    best, *others = sorted(trials, key=lambda one: one.loss)
    return [best, *(one for one in others if not _clearly_worse(one, best))]


def _clearly_worse(one: Trial, best: Trial) -> bool:
    """By more than two standard errors of the paired difference."""
    differences = one.losses - best.losses
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5 if len(differences) > 1 else 0
    return float(differences.mean()) > ERRORS * error


def _most_usual(tied: Sequence[Trial]) -> Trial:
    """Of those that are tied, the most usual constants; else the best that can be expressed."""
    best, base = tied[0].candidate, tied[0].geometry
    colours = {one.candidate.colour for one in tied}
    wanted = usual(best.family, None if len(colours) > 1 else best.colour, base.num_channels)
    known = [one for one in tied if one.candidate.preprocess(base) is not None]
    return next((one for one in known if one.candidate == wanted), (known or tied)[0])
