"""Verdict: divergences of every candidate in, the family and the colour order that fit out.

The family is that of the lowest divergence at the first batch normalisation that runs. It is named
only where photos drawn again give it, too, where the next family is clearly worse, where it fits
in itself, and where nothing else would fit clearly better: no other scale of the same input, and no
distorted pictures. The last two tell that the true recipe is none of the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.doctor.candidates import Candidate, Colour, Family, families

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.doctor.distortions import Distortion

SHARE = 0.95
"""Of the draws of photos, so many must give the same family."""

MARGIN = 0.3
"""Of the logarithms of two families' divergences."""

FIT = 0.12
"""Nats a channel: a true recipe on ordinary photos lies below it."""

PAIR_MARGIN = 0.7
"""Between constants and each picture's own mean and std, which do nearly the same to photos."""

_PAIR: tuple[Family, Family] = ("z-score", "per image")

_CENTRED: tuple[Family, ...] = ("z-score", "per image", "caffe")
"""Where each channel loses its own mean, either order of the channels looks much the same."""

COLOUR_PHOTOS = 32
"""Fewer are called one way by chance: of draws of 16 held-out pictures one in ten was, surely."""

COLOUR_SHARE = 0.95
COLOUR_MARGINS = (0.5, 0.25)
"""Of the logarithms of both orders' divergences, at the first layer and over all: a network whose
training pictures had no colours of their own (digits in any ink) stays below."""

_OTHER_SCALE = 1.5
"""How many times as well as the best candidate another scale of its input may fit."""

_DISTORTED = 1.0
_DISTORTED_CENTRED = 2.0
"""The same of distorted pictures; more where pictures lose their mean, as an inverted one then
looks much like an upright one."""

SCALES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0)
SHIFTS = (-0.6, -0.3, 0.0, 0.3, 0.6)
"""Of the input, about its own mean; shifts in its own standard deviations."""
_NEAR_SCALE, _NEAR_SHIFT = 1.25, 0.3


@dataclass(frozen=True, slots=True)
class Ranked:
    """One family, its best candidate, and how well it fits."""

    family: Family
    candidate: Candidate
    divergence: float


@dataclass(frozen=True, slots=True)
class FamilyVerdict:
    """Which family fits.

    Args:
        family: It; None where it cannot be told.
        tied: Another that does nearly the same to photos and fits as well; "z-score" and "per
            image" are such a pair.
        ranked: All families, the best first.
        share: Of the draws of photos that give the best one.
        margin: Of the logarithms of the first two divergences.
        reason: Why it cannot be told; "" where it can.
    """

    family: Family | None
    tied: Family | None
    ranked: tuple[Ranked, ...]
    share: float
    margin: float
    reason: str


def decide_family(
    every: Sequence[Candidate],
    divergences: NDArray[np.float64],
    other: OtherScale | None,
    distorted: Distorted | None,
) -> FamilyVerdict:
    """The family that fits, or that none can be told.

    Args:
        every: C candidates.
        divergences: (C, R): of all photos, then of each draw of them.
        other: How the best candidate fits at other scales; None: that is not known yet.
        distorted: How the best of all fits distorted photos; None: the same.
    """
    names = families(every)
    lowest = np.stack(
        [
            divergences[[i for i, one in enumerate(every) if one.family == name]].min(axis=0)
            for name in names
        ]
    )  # (F, R)
    order = np.argsort(lowest[:, 0])
    ranked = tuple(_ranked(names[i], every, divergences[:, 0]) for i in order)
    first = ranked[0]
    alike = _PAIR if first.family in _PAIR else (first.family,)
    second = next(one for one in ranked if one.family not in alike)
    won = np.array(names)[lowest[:, 1:].argmin(axis=0)]
    share = float(np.isin(won, alike).mean())
    margin = float(np.log(second.divergence / first.divergence))
    reason = _doubt(first, second, share, margin) or _rival(first, other, distorted)
    if reason:
        return FamilyVerdict(None, None, ranked, share, margin, reason)
    family, tied = _within_pair(ranked, won)
    return FamilyVerdict(family, tied, ranked, share, margin, "")


def _within_pair(ranked: Sequence[Ranked], won: NDArray[np.str_]) -> tuple[Family, Family | None]:
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


@dataclass(frozen=True, slots=True)
class OtherScale:
    """At which scale and shift of its input a candidate would fit best, and how well."""

    scale: float
    shift: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Distorted:
    """Which distortion of the photos fits best, under which candidate, and how well."""

    distortion: Distortion
    candidate: Candidate
    divergence: float


def _ranked(name: Family, every: Sequence[Candidate], values: NDArray[np.float64]) -> Ranked:
    place = min((i for i, one in enumerate(every) if one.family == name), key=lambda i: values[i])
    return Ranked(name, every[place], float(values[place]))


def _doubt(first: Ranked, second: Ranked, share: float, margin: float) -> str:
    """Why the first may be wrong; "" where nothing of the candidates speaks against it."""
    if share < SHARE:
        return f"only {share:.0%} of the draws of these photos give {first.family!r} again"
    if margin < MARGIN:
        return f"{first.family!r} and {second.family!r} fit nearly as well as one another"
    if first.divergence > FIT:
        return (
            f"even the best, {first.family!r}, fits badly ({first.divergence:.2f} nats, a true one"
            f" below {FIT}): none of the candidates, or photos of another kind than it was trained"
            " on"
        )
    return ""


def _rival(first: Ranked, other: OtherScale | None, distorted: Distorted | None) -> str:
    """What that is no candidate fits better than the first; "" where nothing does."""
    if other is not None and _contradicts(first, other):
        return (
            f"the best, {first.family!r}, would fit {first.divergence / other.divergence:.1f} times"
            f" as well with its input scaled by {other.scale:g} and moved by {other.shift:g}"
            " standard deviations: the true recipe is probably none of the candidates"
        )
    needed = _DISTORTED_CENTRED if first.family in _CENTRED else _DISTORTED
    if distorted is not None and first.divergence > needed * distorted.divergence:
        return (
            f"the best, {first.family!r}, fits {first.divergence / distorted.divergence:.1f} times"
            f" worse than {distorted.distortion.words}, {distorted.candidate.family!r}: the true"
            " recipe is probably none of the candidates"
        )
    return ""


def _contradicts(first: Ranked, other: OtherScale) -> bool:
    near = 1 / _NEAR_SCALE <= other.scale <= _NEAR_SCALE and abs(other.shift) <= _NEAR_SHIFT
    return not near and first.divergence > _OTHER_SCALE * other.divergence


@dataclass(frozen=True, slots=True)
class ColourVerdict:
    """Which order of channels fits.

    Args:
        colour: It; None where it cannot be told.
        share: Of the draws of photos that give the same, the lower of the statistics looked at.
    """

    colour: Colour | None
    share: float


def decide_colour(
    every: Sequence[Candidate],
    first: NDArray[np.float64],
    deep: Callable[[], NDArray[np.float64]],
    *,
    photos: int,
) -> ColourVerdict:
    """The colour order within a family: where the first layer and all layers agree.

    Args:
        every: C candidates of one family.
        first: (C, R): divergences at the first layer.
        deep: Gives (C, R): means over all layers of the logarithm of the divergence. Asked only
            where it can decide: it takes the whole network.
        photos: How many there are.
    """
    best = every[int(first[:, 0].argmin())]
    if best.colour == "grey":
        return ColourVerdict("grey", 1.0)
    votes = [_votes(every, np.log(first))]
    if best.family in _CENTRED or photos < COLOUR_PHOTOS:
        return ColourVerdict(None, votes[0][1])
    votes.append(_votes(every, deep()))
    colours = {colour for colour, _, _ in votes}
    share = min(share for _, share, _ in votes)
    clear = all(vote[2] >= margin for vote, margin in zip(votes, COLOUR_MARGINS, strict=True))
    if not clear or share < COLOUR_SHARE or len(colours) > 1:
        return ColourVerdict(None, share)
    return ColourVerdict(colours.pop(), share)


def _votes(every: Sequence[Candidate], values: NDArray[np.float64]) -> tuple[Colour, float, float]:
    """The colour that all photos give, the share of the draws that give it, and how clearly."""
    rgb = values[[i for i, one in enumerate(every) if one.colour == "rgb"]].min(axis=0)
    bgr = values[[i for i, one in enumerate(every) if one.colour == "bgr"]].min(axis=0)
    is_rgb = rgb < bgr
    share = float((is_rgb[1:] == is_rgb[0]).mean())
    return ("rgb" if is_rgb[0] else "bgr"), share, float(abs(rgb[0] - bgr[0]))
