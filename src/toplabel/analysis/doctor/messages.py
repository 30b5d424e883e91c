"""Wording: what was found out about preprocessing in, findings for people out."""

from __future__ import annotations

from collections.abc import Sequence

from toplabel.analysis.data.label_order import OrderFinding
from toplabel.analysis.doctor.candidates import Candidate, Colour
from toplabel.analysis.doctor.distortions import Distortion
from toplabel.analysis.doctor.finding import Finding
from toplabel.analysis.doctor.search import Tried
from toplabel.analysis.doctor.verdict import ColourVerdict, FamilyVerdict
from toplabel.preprocess import Preprocess

LABELLED = "give 50 labelled pictures: --labelled FOLDER"
_SHOWN = 4
_TIED = 6


def of_family(verdict: FamilyVerdict, photos: int) -> Finding:
    """What the batch normalisations say of the values."""
    ranked = ", ".join(f"{one.family} {one.divergence:.3f}" for one in verdict.ranked[:_SHOWN])
    evidence = (
        f"divergence at the first batch normalisation, of {photos} photos: {ranked};"
        f" {verdict.share:.0%} of the draws give the same"
    )
    if verdict.family is None:
        return Finding(
            topic="family",
            state="cannot tell",
            text=f"how its input was normalised cannot be told: {verdict.reason}",
            evidence=evidence,
            line=LABELLED,
        )
    also = f" (or {verdict.tied}: photos cannot tell the two apart)" if verdict.tied else ""
    within = " Its exact constants cannot be told." if verdict.family == "z-score" else ""
    return Finding(
        topic="family",
        state="told",
        text=f"its input is normalised as {verdict.family!r}{also}.{within}",
        evidence=evidence,
    )


def of_colour(verdict: ColourVerdict) -> Finding:
    """What they say of the order of the channels."""
    evidence = f"{verdict.share:.0%} of the draws give the same, at all layers looked at"
    if verdict.colour is None:
        return Finding(
            topic="colour",
            state="cannot tell",
            text="whether it takes RGB or BGR cannot be told; the wrong one costs 7 to 15 points",
            evidence=evidence,
            line=LABELLED,
        )
    if verdict.colour == "grey":
        return Finding(topic="colour", state="told", text="it takes one channel: grey")
    return Finding(
        topic="colour",
        state="told",
        text=f"it takes {verdict.colour.upper()}",
        evidence=evidence,
    )


def of_order(found: OrderFinding, images: int) -> Finding:
    """What labelled pictures say of the order of the labels."""
    evidence = f"{found.accuracy:.0%} of {images} pictures are right as the labels are"
    if found.kind == "unknown":
        return Finding(topic="order", state="cannot tell", text=found.note, evidence=evidence)
    if found.outputs is None:
        return Finding(
            topic="order", state="fine", text="the labels stand in their order", evidence=evidence
        )
    return Finding(
        topic="order",
        state="wrong",
        text=found.note,
        evidence=f"{evidence}; p = {found.p:.1g}",
        line="--labels FILE with the names in the order of the network's outputs",
    )


def of_search(
    best: Tried,
    tied: Sequence[Candidate],
    family: str | None,
    colour: tuple[Colour | None, float],
) -> list[Finding]:
    """What labelled pictures say of values and colour; `tied` includes the best."""
    families = list(dict.fromkeys(one.family for one in tied))
    others = ", ".join(map(str, tied[1:_TIED])) + (", ..." if len(tied) > _TIED else "")
    evidence = f"{best.accuracy:.0%} right with {best.candidate}; tied with it: {others or 'none'}"
    if family is None and len(families) > 1:
        found = Finding(
            topic="family",
            state="cannot tell",
            text=f"how its input was normalised cannot be told: {' and '.join(families)} fit alike",
            evidence=evidence,
            line="give more labelled pictures",
        )
    else:
        found = Finding(
            topic="family",
            state="told",
            text=f"its input is normalised as {best.candidate.family!r}",
            evidence=evidence,
        )
    return [found, _searched_colour(*colour)]


def of_distorted(distortion: Distortion, distorted: Tried, plain: Tried) -> Finding:
    """What labelled pictures say where distorted ones do clearly better than any candidate."""
    return Finding(
        topic="family",
        state="cannot tell",
        text=f"it was probably trained on {distortion.words}, {distorted.candidate.family!r}: no"
        " candidate fits, and no recipe says it",
        evidence=f"{distorted.accuracy:.0%} right so, {plain.accuracy:.0%} with the best candidate,"
        f" {plain.candidate}",
        line="toplabel.wrap(model, preprocess=your_function)",
    )


def _searched_colour(colour: Colour | None, distance: float) -> Finding:
    if colour == "grey":
        return Finding(topic="colour", state="told", text="it takes one channel: grey")
    evidence = f"RGB and BGR lie {distance:.1f} standard errors of their paired difference apart"
    if colour is None:
        return Finding(
            topic="colour",
            state="cannot tell",
            text="RGB and BGR fit alike",
            evidence=evidence,
            line="give more labelled pictures",
        )
    return Finding(
        topic="colour", state="told", text=f"it takes {colour.upper()}", evidence=evidence
    )


def of_geometry(chosen: Tried, tied: list[Tried]) -> Finding:
    """What labelled pictures say of resizing and cropping; never one way alone."""
    others = ", ".join(in_words(one.geometry) for one in tied if one is not chosen) or "none"
    return Finding(
        topic="geometry",
        state="told",
        text=f"a way to its size that fits: {in_words(chosen.geometry)}; so few pictures cannot"
        " tell the exact one",
        evidence=f"{chosen.accuracy:.0%} right; tied with it: {others}",
    )


def in_words(geometry: Preprocess) -> str:
    """How it brings a picture to its size."""
    height, width = geometry.input_size
    if geometry.resize_mode == "none" or geometry.resize_size is None:
        return f"as it is, centre {height}x{width}"
    first = geometry.resize_size
    how = {
        "shortest": f"shortest side to {min(first)}, centre {height}x{width}",
        "longest": f"longest side to {max(first)}, padded to {height}x{width}",
        "squash": f"squashed to {first[0]}x{first[1]}",
    }
    return f"{how[geometry.resize_mode]}, {geometry.interpolation}"
