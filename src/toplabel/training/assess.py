"""Out-of-fold scores and classes in; how good each class is, what is wrong, and what is a copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.statistics import wilson_interval
from toplabel.training.result import Copies, Mistake, TrainedClass

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUSPICIOUS = -0.75
"""A margin: below, the model is surer of another class than it could be of this one."""


def class_results(
    names: Sequence[str], targets: NDArray[np.int64], predicted: NDArray[np.int64]
) -> tuple[TrainedClass, ...]:
    """Recall and precision of each of K classes that has images.

    Args:
        names: K.
        targets: int (N,), the class of each image.
        predicted: int (N,), what each is predicted as.
    """
    count = len(names)
    images = np.bincount(targets, minlength=count)
    right = np.bincount(targets[targets == predicted], minlength=count)
    answers = np.bincount(predicted, minlength=count)
    return tuple(
        TrainedClass(
            name=name,
            images=int(images[index]),
            recall=float(right[index] / max(1, images[index])),
            precision=float(right[index] / max(1, answers[index])),
            low=(interval := wilson_interval(int(right[index]), max(1, int(images[index]))))[0],
            high=interval[1],
        )
        for index, name in enumerate(names)
    )


def balanced_accuracy(targets: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The mean recall of the classes that occur."""
    images = np.bincount(targets)
    right = np.bincount(targets[targets == predicted], minlength=len(images))
    return float((right[images > 0] / images[images > 0]).mean())


def find_mistakes(
    sources: Sequence[str],
    names: Sequence[str],
    targets: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> tuple[Mistake, ...]:
    """The images that are predicted wrong, those first whose own class has the least chance.

    Args:
        sources: N.
        names: K.
        targets: int (N,), the class of each image.
        scores: float32 (N, K), out of fold.
    """
    predicted = scores.argmax(axis=1)
    rows = np.arange(len(targets))
    margins = scores[rows, targets] - scores[rows, predicted]
    wrong = np.flatnonzero(predicted != targets)
    return tuple(
        Mistake(
            source=sources[index],
            actual=names[targets[index]],
            predicted=names[predicted[index]],
            score=float(scores[index, predicted[index]]),
            margin=float(margins[index]),
        )
        for index in wrong[np.argsort(margins[wrong], kind="stable")]
    )


def find_suspects(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """The mistakes whose given class is probably wrong: the model is sure of another one."""
    return tuple(one for one in mistakes if one.margin < _SUSPICIOUS)


def find_copies(
    sources: Sequence[str],
    names: Sequence[str],
    targets: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> tuple[Copies, ...]:
    """Groups of two images or more, those of several classes first.

    Args:
        sources: N.
        names: K.
        targets: int (N,), the class of each image.
        groups: int (N,).
    """
    several = {group for group, count in Counter(groups.tolist()).items() if count > 1}
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups.tolist()):
        if group in several:
            members.setdefault(group, []).append(index)
    found = [
        Copies(
            tuple(sources[index] for index in one), tuple(names[targets[index]] for index in one)
        )
        for one in members.values()
    ]
    return tuple(sorted(found, key=lambda one: not one.contradictory))
