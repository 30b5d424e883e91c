"""Messages: what was found out about a checkpoint in, findings for people out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from toplabel.analysis.data.label_order import OrderFinding
    from toplabel.analysis.doctor.batchnorm_stats import ColourVerdict, FamilyVerdict
    from toplabel.analysis.doctor.candidates import Candidate, Colour, Distortion
    from toplabel.analysis.doctor.search import Trial
    from toplabel.preprocess.preprocess import Preprocess

Topic = Literal[
    "architecture", "script", "weights", "outputs", "repeats", "labels", "order", "family",
    "colour", "geometry",
]  # fmt: skip
State = Literal["fine", "wrong", "told", "cannot tell"]
"""fine: nothing is the matter; wrong: something is; told: it has been determined; cannot tell."""

LABELLED = 'give 50 labelled images: labelled="FOLDER"'
MORE = "give more labelled images"
_SHOWN = 4
_TIED = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one topic.

    Args:
        topic: What was looked at.
        state: What came of it.
        text: One sentence for people.
        evidence: The figures behind it.
        line: What to paste, or to do; "" where there is nothing.
    """

    topic: Topic
    state: State
    text: str
    evidence: str = ""
    line: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def of_family(verdict: FamilyVerdict, photos: int) -> Finding:
    """What the batch normalisations reveal of the values."""
    ranked = ", ".join(f"{one.family} {one.divergence:.3f}" for one in verdict.ranked[:_SHOWN])
    evidence = (
        f"KL divergence at the first batch normalisation, over {photos} photos: {ranked};"
        f" {verdict.share:.0%} of the resamples agree"
    )
    if verdict.family is None:
        text = f"the normalisation of its input is unclear: {verdict.reason}"
        return Finding("family", "cannot tell", text, evidence, LABELLED)
    also = f" (or {verdict.tied}: photos cannot tell the two apart)" if verdict.tied else ""
    within = " Its exact constants are unknown." if verdict.family == "z-score" else ""
    text = f"its input is normalised as {verdict.family!r}{also}.{within}"
    return Finding("family", "told", text, evidence)


def of_colour(verdict: ColourVerdict) -> Finding:
    """What they reveal of the channel order."""
    evidence = f"{verdict.share:.0%} of the resamples agree, at all layers looked at"
    if verdict.colour is None:
        text = "RGB or BGR is unclear; the wrong one costs 7 to 15 percentage points"
        return Finding("colour", "cannot tell", text, evidence, LABELLED)
    return _of_known_colour(verdict.colour, evidence)


def of_order(found: OrderFinding, images: int) -> Finding:
    """What labelled images reveal of the order of the labels."""
    evidence = f"{found.accuracy:.0%} of {images} images are right with the labels as they are"
    if found.kind == "unknown":
        return Finding("order", "cannot tell", found.note, evidence)
    if found.outputs is None:
        return Finding("order", "fine", "the labels are in the right order", evidence)
    line = 'labels="FILE" with the names in the order of the network\'s outputs'
    return Finding("order", "wrong", found.note, f"{evidence}; p = {found.p:.1g}", line)


def of_normalisation(
    best: Trial, tied: Sequence[Candidate], family: str | None, colour: tuple[Colour | None, float]
) -> list[Finding]:
    """What labelled images reveal of values and channel order; `tied` includes the best."""
    families = list(dict.fromkeys(one.family for one in tied))
    others = ", ".join(map(str, tied[1:_TIED])) + (", ..." if len(tied) > _TIED else "")
    evidence = f"{best.accuracy:.0%} right with {best.candidate}; tied with it: {others or 'none'}"
    if family is None and len(families) > 1:
        text = f"the normalisation of its input is unclear: {' and '.join(families)} fit alike"
        found = Finding("family", "cannot tell", text, evidence, MORE)
    else:
        text = f"its input is normalised as {best.candidate.family!r}"
        found = Finding("family", "told", text, evidence)
    order, distance = colour
    evidence = f"RGB and BGR lie {distance:.1f} standard errors of their paired difference apart"
    if order is None:
        return [found, Finding("colour", "cannot tell", "RGB and BGR fit alike", evidence, MORE)]
    return [found, _of_known_colour(order, evidence)]


def of_distorted(distortion: Distortion, distorted: Trial, plain: Trial) -> Finding:
    """Labelled images for which distorted ones do clearly better than any candidate."""
    return Finding(
        "family",
        "cannot tell",
        f"it was probably trained on {distortion.words}, {distorted.candidate.family!r}: no"
        " candidate fits, and Preprocess cannot express it",
        f"{distorted.accuracy:.0%} right with them, {plain.accuracy:.0%} with the best candidate,"
        f" {plain.candidate}",
        "do the same to the input in the forward of a module around the network, and wrap that",
    )


def of_geometry(chosen: Trial, tied: list[Trial]) -> Finding:
    """What labelled images reveal of resizing and cropping; never one way alone."""
    others = ", ".join(in_words(one.geometry) for one in tied if one is not chosen) or "none"
    text = f"resizing that fits: {in_words(chosen.geometry)}; so few images cannot tell the exact"
    evidence = f"{chosen.accuracy:.0%} right; tied with it: {others}"
    return Finding("geometry", "told", f"{text} way", evidence)


def in_words(geometry: Preprocess) -> str:
    """How it brings an image to its size."""
    height, width = geometry.input_size
    if geometry.resize_mode == "none" or geometry.resize_size is None:
        return f"none, centre crop {height}x{width}"
    first = geometry.resize_size
    how = {
        "shortest": f"shortest side to {min(first)}, centre crop {height}x{width}",
        "longest": f"longest side to {max(first)}, padded to {height}x{width}",
        "squash": f"squashed to {first[0]}x{first[1]}",
    }
    return f"{how[geometry.resize_mode]}, {geometry.interpolation}"


def _of_known_colour(colour: Colour, evidence: str) -> Finding:
    if colour == "grey":
        return Finding("colour", "told", "it takes one channel: grey")
    return Finding("colour", "told", f"it takes {colour.upper()}", evidence)
