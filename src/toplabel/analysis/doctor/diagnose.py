"""Diagnosing: a checkpoint and some pictures in, what is the matter and its recipe out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from toplabel.analysis.data.dataset import Dataset, match_classes, read_dataset
from toplabel.analysis.doctor import messages
from toplabel.analysis.doctor.batchnorm_stats import normalisations
from toplabel.analysis.doctor.candidates import Candidate, Colour, candidates, usual
from toplabel.analysis.doctor.choosing import better_distorted, choose_geometry, choose_values, ways
from toplabel.analysis.doctor.finding import Finding
from toplabel.analysis.doctor.images import Pictures, read_pictures
from toplabel.analysis.doctor.sanity_checks import look_at
from toplabel.analysis.doctor.search import Trials, order_of
from toplabel.analysis.doctor.target import Subject, open_subject
from toplabel.analysis.doctor.unlabelled import LEAST_PHOTOS, Normalisation, find_normalisation
from toplabel.errors import UsageError
from toplabel.image.paths import expand
from toplabel.labels.labels import Labels
from toplabel.models.options import Stated

if TYPE_CHECKING:
    from torch import nn

    from toplabel.preprocess import Preprocess

Thing = TypeVar("Thing")

MOST_PHOTOS = 32
MOST_LABELLED = 200
"""More are thinned out evenly: they would cost minutes and tell nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is the matter with a checkpoint.

    Args:
        model: What was looked at.
        findings: In the order in which they should be read.
        recipe: The preprocessing that fits, where it can be told; its constants within a family,
            and its way to the size, are usual ones.
        sure: Values and colour order have both been told.
    """

    model: str
    findings: tuple[Finding, ...]
    recipe: Preprocess | None
    sure: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model,
            "findings": [one.to_dict() for one in self.findings],
            "recipe": None if self.recipe is None else self.recipe.to_dict(),
            "sure": self.sure,
        }


def diagnose(
    model: str | os.PathLike[str] | nn.Module,
    *,
    images: str | os.PathLike[str] | Sequence[object] | None = None,
    labelled: Dataset | str | os.PathLike[str] | None = None,
    size: int | None = None,
    **said: Any,
) -> Diagnosis:
    """What is the matter with a checkpoint, and how its pictures were preprocessed.

    Args:
        model: A checkpoint's path, a zoo's name, or a live network.
        images: At least 16 ordinary photos, without labels: a folder, a pattern, or a list.
        labelled: 10 to 100 pictures whose classes are known, as `read_dataset` takes them.
        size: Of the network's input, in pixels, where nothing else tells it.
        said: As `load` takes it: `arch`, `labels`, `allow_partial`, ...

    Raises:
        UsageError: There are no pictures, or too few.
        CheckpointError: The file cannot be read, or fits no network.
        ModelError: It is no classifier; or, without labels, it has no batch normalisation.
        LabelsError: The pictures' classes match none of its labels.
    """
    if images is None and labelled is None:
        raise UsageError(
            "got no pictures; expected --images FOLDER with at least 16 ordinary photos, or"
            " --labelled FOLDER with 10 to 100 of known classes"
        )
    subject = open_subject(model, stated=Stated(**said), size=size)
    if any(one.topic == "weights" and one.state == "wrong" for one in subject.findings):
        return Diagnosis(model=subject.name, findings=subject.findings, recipe=None, sure=False)
    if labelled is not None:
        known = labelled if isinstance(labelled, Dataset) else read_dataset(labelled)
        return _of_labelled(subject, _thinned_labelled(known), images)
    assert images is not None
    return _of_photos(subject, _photos(subject, images))


def _photos(subject: Subject, images: str | os.PathLike[str] | Sequence[object]) -> Pictures:
    """The photos that can be read.

    Raises:
        UsageError: There are fewer than 16.
    """
    sources: Sequence[object] = (
        list(expand([os.fspath(images)])) if isinstance(images, str | os.PathLike) else images
    )
    pictures = read_pictures(_thinned(sources, MOST_PHOTOS), subject.geometry)
    if len(pictures.pixels) < LEAST_PHOTOS:
        raise UsageError(
            f"{len(pictures.pixels)} of {len(sources)} pictures could be read; without labels"
            f" doctor needs at least {LEAST_PHOTOS} ordinary photos"
        )
    return pictures


def _of_photos(subject: Subject, pictures: Pictures) -> Diagnosis:
    found = find_normalisation(subject.network, pictures.pixels)
    findings = [*_first_findings(subject, pictures), *_of_normalisation(found, len(pictures.read))]
    recipe, sure = None, False
    if found.family.family is not None and found.colour is not None:
        taken = usual(found.family.family, found.colour.colour, subject.channels)
        recipe = _recipe(taken, subject, subject.library or subject.geometry)
        sure = found.family.tied is None and found.colour.colour is not None
    return Diagnosis(model=subject.name, findings=tuple(findings), recipe=recipe, sure=sure)


def _of_normalisation(found: Normalisation, photos: int) -> list[Finding]:
    findings = [messages.of_family(found.family, photos)]
    if found.colour is not None:
        findings.append(messages.of_colour(found.colour))
    return findings


def _first_findings(subject: Subject, pictures: Pictures) -> list[Finding]:
    """What needs no recipe: the file, the labels' number, the outputs."""
    findings = [*subject.findings, _labels(subject)]
    inputs = candidates(subject.channels)[0].tensor(pictures.pixels)
    findings += look_at(subject.network, inputs)
    if pictures.failed:
        codes = ", ".join(f"{count} {code}" for code, count in pictures.failed.items())
        findings.append(
            Finding(
                topic="geometry",
                state="fine",
                text=f"{sum(pictures.failed.values())} pictures could not be read and count for"
                f" nothing: {codes}",
            )
        )
    if subject.assumed:
        side = subject.geometry.input_size[0]
        findings.append(
            Finding(
                topic="geometry",
                state="cannot tell",
                text=f"its size is assumed: {side}x{side} pixels",
                line=f"say --size N where it is not {side}",
            )
        )
    return findings


def _labels(subject: Subject) -> Finding:
    if subject.labels is None:
        return Finding(
            topic="labels",
            state="cannot tell",
            text=f"it has {subject.outputs} outputs, and nothing names its classes",
            line="--labels classes.txt, in the order of its outputs",
        )
    if len(subject.labels) != subject.outputs:
        return Finding(
            topic="labels",
            state="wrong",
            text=f"there are {len(subject.labels)} labels for {subject.outputs} outputs",
            line="--labels with one name for each output",
        )
    return Finding(
        topic="labels", state="fine", text=f"{subject.outputs} labels, one for each output"
    )


def _of_labelled(
    subject: Subject,
    known: Dataset,
    images: str | os.PathLike[str] | Sequence[object] | None,
) -> Diagnosis:
    """Order of labels, then values, colour, and the way to the size, by likelihood."""
    labels = subject.labels
    if labels is None or len(labels) != subject.outputs:
        labels = Labels.indices(subject.outputs)
    matching = match_classes(known.classes, labels, model=subject.name)
    truth = np.array([matching.indices[name] for name in known.names], np.int64)
    pictures = (
        _photos(subject, images)
        if images is not None
        else read_pictures(_thinned(known.sources, MOST_PHOTOS), subject.geometry)
    )
    findings = _first_findings(subject, pictures)
    normal = _normalisation(subject, pictures)
    every, family, hint = _surviving(subject, normal)
    trials = Trials(subject.network, known.sources, truth)
    geometries = ways(known.sources, subject)
    tried = trials.run(every, geometries[0])
    order = order_of(tried, labels)
    findings.append(messages.of_order(order, len(truth)))
    if order.outputs is not None:
        trials = trials.reordered(order.outputs)
        tried = [one.reordered(order.outputs) for one in tried]
    chosen, tied, colour = choose_values(tried, hint=hint)
    values = messages.of_search(chosen, [one.candidate for one in tied], family, colour)
    if normal is not None and (other := better_distorted(trials, chosen, normal.distorted)):
        values = [messages.of_distorted(normal.distorted.distortion, other, chosen)]
    findings += values
    sure = all(one.state == "told" for one in findings if one.topic in ("family", "colour"))
    way, others = choose_geometry(trials, chosen, subject, geometries)
    findings.append(messages.of_geometry(way, others))
    recipe = _recipe(chosen.candidate, subject, way.geometry)
    return Diagnosis(model=subject.name, findings=tuple(findings), recipe=recipe, sure=sure)


def _normalisation(subject: Subject, pictures: Pictures) -> Normalisation | None:
    """What batch normalisation says, where there is some, and enough pictures to ask it."""
    if len(pictures.pixels) < LEAST_PHOTOS or not normalisations(subject.network):
        return None
    return find_normalisation(subject.network, pictures.pixels)


def _surviving(
    subject: Subject, found: Normalisation | None
) -> tuple[tuple[Candidate, ...], str | None, Colour | None]:
    """The normalisations that batch normalisation leaves, the family and colour that it names."""
    every = candidates(subject.channels)
    if found is None or found.family.family is None:
        return every, None, None
    kept = (found.family.family, found.family.tied)
    colour = None if found.colour is None else found.colour.colour
    return tuple(one for one in every if one.family in kept), found.family.family, colour


def _recipe(candidate: Candidate, subject: Subject, geometry: Preprocess) -> Preprocess | None:
    """The normalisation with a way to the size; the library's own constants where they are it."""
    recipe = candidate.recipe(geometry)
    own = subject.library
    if recipe is None or own is None or candidate.colour != "rgb":
        return recipe
    same = [
        (one.mean, one.std)
        for one in candidates(subject.channels)
        if (one.family, one.colour) == (candidate.family, "rgb")
    ]
    if (own.mean, own.std) in same:
        return replace(recipe, mean=own.mean, std=own.std, range=own.range)
    return recipe


def _thinned(things: Sequence[Thing], most: int) -> Sequence[Thing]:
    """At most so many of them, evenly."""
    if len(things) <= most:
        return things
    return [things[int(place)] for place in np.linspace(0, len(things) - 1, most)]


def _thinned_labelled(known: Dataset) -> Dataset:
    return replace(
        known,
        sources=tuple(_thinned(known.sources, MOST_LABELLED)),
        names=tuple(_thinned(known.names, MOST_LABELLED)),
    )
