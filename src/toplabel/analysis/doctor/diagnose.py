"""Diagnose: a checkpoint and some images in, what is wrong and the preprocessing that fits out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from toplabel._internal.options import takes_options
from toplabel._internal.text import is_or_are, number_of
from toplabel.analysis.data.dataset import Dataset, match_classes, read_dataset
from toplabel.analysis.doctor import messages
from toplabel.analysis.doctor.batchnorm_stats import (
    LEAST_PHOTOS,
    Normalisation,
    batch_normalisations,
    find_normalisation,
)
from toplabel.analysis.doctor.candidates import Candidate, Colour, candidates, usual
from toplabel.analysis.doctor.messages import Finding
from toplabel.analysis.doctor.sanity_checks import check_labels, check_outputs
from toplabel.analysis.doctor.search import (
    SizedImages,
    Trials,
    choose_geometry,
    choose_normalisation,
    counted,
    find_label_order,
    read_images,
    try_distorted,
    usual_geometries,
)
from toplabel.analysis.doctor.target import Target, open_target
from toplabel.errors import UsageError
from toplabel.image.paths import expand
from toplabel.labels.labels import Labels
from toplabel.models.options import ModelOptions

if TYPE_CHECKING:
    from torch import nn

    from toplabel.preprocess.preprocess import Preprocess

    Images = str | os.PathLike[str] | Sequence[object]

Item = TypeVar("Item")

MOST_PHOTOS = 32
MOST_LABELLED = 200
"""More are thinned out evenly: they would cost minutes and reveal nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong with a checkpoint.

    Args:
        model: The name of what was examined.
        findings: In the order in which they should be read.
        preprocess: The preprocessing that fits, where it can be determined; its constants within
            a family, and its resizing, are usual ones.
        sure: Values and channel order have both been determined.
    """

    model: str
    findings: tuple[Finding, ...]
    preprocess: Preprocess | None
    sure: bool

    def __repr__(self) -> str:
        """One line: what was examined, and how much was found."""
        return f"<Diagnosis of {self.model}: {len(self.findings)} findings>"

    @property
    def recipe(self) -> Preprocess | None:
        """The former name of `preprocess`."""
        warnings.warn(
            "Diagnosis.recipe is deprecated; use Diagnosis.preprocess",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.preprocess

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `recipe` is the former name of `preprocess`."""
        preprocess = None if self.preprocess is None else self.preprocess.to_dict()
        return {
            "model": self.model,
            "findings": [one.to_dict() for one in self.findings],
            "preprocess": preprocess,
            "recipe": preprocess,
            "sure": self.sure,
        }


@takes_options(ModelOptions, as_load=(ModelOptions,))
def diagnose(
    model: str | os.PathLike[str] | nn.Module,
    *,
    images: str | os.PathLike[str] | Sequence[object] | None = None,
    labelled: Dataset | str | os.PathLike[str] | None = None,
    size: int | None = None,
    model_options: ModelOptions,
) -> Diagnosis:
    """What is wrong with a checkpoint, and how its images were preprocessed.

    Args:
        model: A checkpoint's path, a library's name, or a network.
        images: At least 16 ordinary photos, without labels: a folder, a pattern, or a list.
        labelled: 10 to 100 images whose classes are known, as `read_dataset` takes them.
        size: Of the network's input, in pixels, where nothing else gives it.

    Raises:
        UsageError: There are no images, or too few.
        CheckpointError: The file cannot be read, or fits no network.
        ModelError: It is no classifier; or, without labels, it has no batch normalisation.
        LabelsError: The images' classes match none of its labels.
    """
    if images is None and labelled is None:
        raise UsageError(
            'got no images; pass images="FOLDER" with at least 16 ordinary photos, or'
            ' labelled="FOLDER" with 10 to 100 images of known classes'
        )
    target = open_target(model, options=model_options, size=size)
    if any(one.topic == "weights" and one.state == "wrong" for one in target.findings):
        return Diagnosis(model=target.name, findings=target.findings, preprocess=None, sure=False)
    if labelled is not None:
        known = labelled if isinstance(labelled, Dataset) else read_dataset(labelled)
        return _by_labels(target, known, images)
    assert images is not None
    return _by_photos(target, _read_photos(target, images))


def _read_photos(target: Target, images: Images) -> SizedImages:
    """The photos that can be read.

    Raises:
        UsageError: There are fewer than 16.
    """
    sources: Sequence[object] = (
        list(expand([os.fspath(images)])) if isinstance(images, str | os.PathLike) else images
    )
    photos = read_images(_thinned(sources, MOST_PHOTOS), target.geometry)
    if len(photos.pixels) < LEAST_PHOTOS:
        raise UsageError(
            f"{len(photos.pixels)} of {number_of(len(sources), 'image')} could be read; without"
            f" labels doctor needs at least {LEAST_PHOTOS} ordinary photos"
        )
    return photos


def _by_photos(target: Target, photos: SizedImages) -> Diagnosis:
    """Family and channel order, by batch normalisation."""
    found = find_normalisation(target.network, photos.pixels)
    findings = _first_findings(target, photos)
    findings.append(messages.of_family(found.family, len(photos.read)))
    preprocess, sure = None, False
    if found.family.family is not None and found.colour is not None:
        findings.append(messages.of_colour(found.colour))
        best = usual(found.family.family, found.colour.colour, target.channels)
        preprocess = _preprocess(best, target, target.library or target.geometry)
        sure = found.family.tied is None and found.colour.colour is not None
    return Diagnosis(model=target.name, findings=tuple(findings), preprocess=preprocess, sure=sure)


def _by_labels(target: Target, known: Dataset, images: Images | None) -> Diagnosis:
    """Order of labels, then values, channel order and resizing, by likelihood."""
    labels = target.labels
    if labels is None or len(labels) != target.outputs:
        labels = Labels.indices(target.outputs)
    matching = match_classes(known.classes, labels, model=target.name)
    sources = _thinned(known.sources, MOST_LABELLED)
    names = _thinned(known.names, MOST_LABELLED)
    truth = np.array([matching.indices[name] for name in names], np.int64)
    photos = (
        _read_photos(target, images)
        if images is not None
        else read_images(_thinned(sources, MOST_PHOTOS), target.geometry)
    )
    findings = _first_findings(target, photos)
    normal = _normalisation(target, photos)
    every, family, hint = _surviving(target, normal)
    trials = Trials(target.network, sources, truth)
    geometries = usual_geometries(sources, target)
    tried = trials.run(every, geometries[0])
    order = find_label_order(tried, labels)
    findings.append(messages.of_order(order, len(truth)))
    if order.outputs is not None:
        trials = replace(trials, truth=order.outputs[truth])
        tried = [replace(one, truth=order.outputs[one.truth]) for one in tried]
    chosen, tied, colour = choose_normalisation(tried, hint=hint)
    values = messages.of_normalisation(chosen, [one.candidate for one in tied], family, colour)
    if normal is not None and (other := try_distorted(trials, chosen, normal.distorted)):
        values = [messages.of_distorted(normal.distorted.distortion, other, chosen)]
    findings += values
    sure = all(one.state == "told" for one in findings if one.topic in ("family", "colour"))
    resized, others = choose_geometry(trials, chosen, target, geometries)
    findings.append(messages.of_geometry(resized, others))
    preprocess = _preprocess(chosen.candidate, target, resized.geometry)
    return Diagnosis(model=target.name, findings=tuple(findings), preprocess=preprocess, sure=sure)


def _first_findings(target: Target, photos: SizedImages) -> list[Finding]:
    """What needs no preprocessing: the file, the number of labels, the outputs, the images."""
    inputs = candidates(target.channels)[0].tensor(photos.pixels)
    findings = [*target.findings, check_labels(target.labels, target.outputs)]
    findings += check_outputs(target.network, inputs)
    if photos.failed:
        failed = photos.failed.total()
        text = f"{number_of(failed, 'image')} could not be read, and {is_or_are(failed)} left out"
        findings.append(Finding("geometry", "fine", f"{text}: {counted(photos.failed)}"))
    if target.size_assumed:
        side = target.geometry.input_size[0]
        text = f"its input size is assumed: {side}x{side} pixels ({target.size_assumed})"
        findings.append(
            Finding("geometry", "cannot tell", text, line=f"size=... if it is not {side}")
        )
    return findings


def _normalisation(target: Target, photos: SizedImages) -> Normalisation | None:
    """What batch normalisation reveals, where there is some, and enough images to ask it."""
    if len(photos.pixels) < LEAST_PHOTOS or not batch_normalisations(target.network):
        return None
    return find_normalisation(target.network, photos.pixels)


def _surviving(
    target: Target, found: Normalisation | None
) -> tuple[tuple[Candidate, ...], str | None, Colour | None]:
    """The normalisations that batch normalisation leaves, the family and colour that it names."""
    every = candidates(target.channels)
    if found is None or found.family.family is None:
        return every, None, None
    kept = (found.family.family, found.family.tied)
    colour = None if found.colour is None else found.colour.colour
    return tuple(one for one in every if one.family in kept), found.family.family, colour


def _preprocess(candidate: Candidate, target: Target, geometry: Preprocess) -> Preprocess | None:
    """The normalisation with a geometry; the library's own constants where they are of it."""
    preprocess = candidate.preprocess(geometry)
    own = target.library
    if preprocess is None or own is None or candidate.colour != "rgb":
        return preprocess
    known = (candidate.family, "rgb", own.mean, own.std)
    if any((c.family, c.colour, c.mean, c.std) == known for c in candidates(target.channels)):
        return replace(preprocess, mean=own.mean, std=own.std, range=own.range)
    return preprocess


def _thinned(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most so many of them, evenly."""
    if len(items) <= most:
        return items
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most)]
