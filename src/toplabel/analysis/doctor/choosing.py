"""Choosing: trials of recipes on labelled pictures in, the one to take and its equals out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.doctor.candidates import Colour, usual
from toplabel.analysis.doctor.sanity_checks import answer
from toplabel.analysis.doctor.search import (
    Trials,
    Tried,
    at_one_temperature,
    clearly_worse,
    colour_of,
    geometries,
    refinements,
    within_errors,
)
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image

if TYPE_CHECKING:
    from toplabel.analysis.doctor.target import Subject
    from toplabel.analysis.doctor.verdict import Distorted
    from toplabel.preprocess import Preprocess


def choose_values(
    tried: Sequence[Tried], *, hint: Colour | None
) -> tuple[Tried, list[Tried], tuple[Colour | None, float]]:
    """The normalisation to take, all that are tied with the best, and the colour order.

    Args:
        tried: Every normalisation, at one geometry.
        hint: The colour order that the batch normalisations name, where they do.
    """
    tried = at_one_temperature(tried)
    best = min(tried, key=lambda one: one.loss)
    of_family = [one for one in tried if one.candidate.family == best.candidate.family]
    colour = colour_of(of_family, hint=hint)
    if colour[0] is not None:
        tried = [one for one in tried if one.candidate.colour == colour[0]]
    tied = list(within_errors(tried))
    plain = _usual(tied)
    return plain, [plain, *(one for one in tied if one is not plain)], colour


def _usual(tied: Sequence[Tried]) -> Tried:
    """Of those that are tied, the most usual constants; else the best that a recipe can say."""
    best, base = tied[0].candidate, tied[0].geometry
    colours = {one.candidate.colour for one in tied}
    wanted = usual(best.family, None if len(colours) > 1 else best.colour, base.num_channels)
    said = [one for one in tied if one.candidate.recipe(base) is not None]
    return next((one for one in said if one.candidate == wanted), (said or tied)[0])


def better_distorted(trials: Trials, chosen: Tried, found: Distorted) -> Tried | None:
    """What distorted pictures give, where it is clearly better than the normalisation to take."""
    (other,) = trials.run([found.candidate], chosen.geometry, distortion=found.distortion)
    plain, distorted = at_one_temperature([chosen, other])
    return other if distorted.loss < plain.loss and clearly_worse(plain, distorted) else None


def choose_geometry(
    trials: Trials, chosen: Tried, subject: Subject, every: list[Preprocess]
) -> tuple[Tried, list[Tried]]:
    """The way to the size to take, and all that are tied with it: coarse, then fine.

    Args:
        trials: Runs them.
        chosen: The normalisation.
        subject: The network.
        every: The coarse ways, its library's own first.
    """

    def run(some: list[Preprocess]) -> list[Tried]:
        found = [trials.run([chosen.candidate], one)[0] for one in some if fits(one)]
        return at_one_temperature(found) if found else []

    def fits(geometry: Preprocess) -> bool:
        try:
            look = np.zeros((1, *geometry.input_size, subject.channels), np.uint8)
            answer(subject.network, chosen.candidate.tensor(look))
        except Exception:  # the network takes no such size
            return False
        return True

    coarse = run(every)
    best = min(coarse, key=lambda one: one.loss)
    tied = list(within_errors([*coarse, *run(refinements(best.geometry))]))
    own = coarse[0] if subject.library is not None and coarse[0] in tied else tied[0]
    return own, [own, *(one for one in tied if one is not own)]


def ways(sources: Sequence[object], subject: Subject) -> list[Preprocess]:
    """Ways to the size; one alone where the pictures have it already."""
    if _sizes(sources) == {subject.geometry.input_size}:
        return [replace(subject.geometry, resize_mode="none", resize_size=None)]
    return geometries(subject.geometry, subject.library)


def _sizes(sources: Sequence[object]) -> set[tuple[int, int]]:
    """The (height, width) of those that can be read."""
    found = set()
    for source in sources:
        try:
            picture = read_image(source, options=ReadOptions())
        except Exception:  # counted where their pixels are read
            continue
        found.add((picture.height, picture.width))
    return found
