"""Labelled images and their features in; what is trained on, with what is kept from before, out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.notices import warn
from toplabel._internal.text import is_or_are, number_of
from toplabel.labels.labels import Labels
from toplabel.training.data import check_counts, warn_of_like_names
from toplabel.training.result import Unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.data.dataset import Dataset
    from toplabel.training.features import ImageFeatures
    from toplabel.training.previous import Previous

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """The images that could be read, L of them, and what is kept of those trained on before."""

    sources: tuple[str, ...]  # L
    targets: NDArray[np.int64]  # (N,)
    features: NDArray[np.float32]  # (N, D)
    weights: NDArray[np.float64] | None  # (N,)
    labels: Labels  # K
    unreadable: tuple[Unreadable, ...]
    digest: str

    @property
    def all_sources(self) -> tuple[str, ...]:
        """N names; of what is kept "<kept image 0>" and so on."""
        more = len(self.targets) - len(self.sources)
        return (*self.sources, *(f"<kept image {number}>" for number in range(more)))

    @classmethod
    def of(cls, dataset: Dataset, images: ImageFeatures, previous: Previous | None) -> Photos:
        """What of a data set could be read, after what is kept of an earlier one.

        Raises:
            UsageError: Too little of a class.
        """
        names = dataset.classes
        if previous is not None:
            names = (*previous.names, *(name for name in names if name not in previous.names))
            warn_of_like_names(names)
        index = {name: place for place, name in enumerate(names)}
        targets = np.array([index[name] for name in dataset.names], np.int64)[images.readable]
        features, weights = images.features, None
        if previous is not None:
            previous = previous.without(features)
            weights = np.concatenate([np.ones(len(targets)), previous.weights])
            targets = np.concatenate([targets, previous.targets])
            features = np.concatenate([features, previous.features])
        counts = np.bincount(targets, minlength=len(names))
        unreadable = tuple(
            Unreadable(dataset.sources[place], failure.code, failure.message)
            for place, failure in sorted(images.failures.items())
        )
        for one in unreadable:
            logger.info("left out %s: %s", one.source, one.message)
        check_counts(dict(zip(names, counts.tolist(), strict=True)))
        sources = tuple(np.array(dataset.sources, object)[images.readable])
        labels = Labels(names)
        return cls(sources, targets, features, weights, labels, unreadable, dataset.digest)


def tell_of_images(dataset: Dataset, images: ImageFeatures, photos: Photos) -> None:
    """Warn of what was noticed in reading the images."""
    total = len(dataset)
    if images.known:
        logger.info("%s of %s images are known from before", f"{images.known:,}", f"{total:,}")
    if photos.unreadable:
        first = photos.unreadable[0]
        warn(
            f"{len(photos.unreadable):,} of {number_of(total, 'image')} could not be read, and"
            f" {is_or_are(len(photos.unreadable))} left out;"
            f" the first is {first.source}: {first.message}"
        )
    for text, places in images.doubtful.items():
        first_source = dataset.sources[places[0]]
        warn(f"{len(places):,} of {number_of(total, 'image')}: {text}; the first is {first_source}")
