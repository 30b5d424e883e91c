"""The result of a training in; what would help most next, in words, out: in lines and on pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.text import number_of, percent

if TYPE_CHECKING:
    from toplabel.training.result import TrainingResult

RULE = (
    "The class is the one in which more photos would spare the most errors if its errors fall with"
    " the number of its photos as the learning curve does"
)

_STEP = 10  # photos are asked for in tens
_MOST = 500
_PRIOR_IMAGES = 4
"""Of the mean recall that each class's own counts as, so that few photos do not shout."""

_ALSO = 0.8  # of the best class's gain: a second one that is named beside it
_LITTLE = 0.005  # accuracy that twice the photos add: below, they hardly help
_WIDE = 0.1  # of an interval: above, the accuracy itself is hardly known
_USUAL_EXPONENT = 0.3
_STANDS_OUT = 1.25  # times the mean gain of a class
_MISTAKEN = 3  # images, and half of a class's errors, before a pair is named


def advise(result: TrainingResult) -> tuple[str, ...]:
    """What to do next, the most worthwhile first, in sentences."""
    return tuple(_steps(result))


def _steps(result: TrainingResult) -> Iterator[str]:
    contradictory = [one for one in result.copies if one.contradictory]
    if contradictory:
        first = contradictory[0]
        other = next(i for i, name in enumerate(first.classes) if name != first.classes[0])
        count = len(contradictory)
        yield (
            f"Keep each image under one class: {number_of(count, 'image')}"
            f" {'stands' if count == 1 else 'stand'} under several, as copies, such as"
            f" {first.sources[0]} ({first.classes[0]}) and {first.sources[other]}"
            f" ({first.classes[other]})."
        )
    if result.suspects:
        worst = result.suspects[0]
        yield (
            f"Look at what may bear the wrong label: {number_of(len(result.suspects), 'image')},"
            f" beginning with {worst.source}, which is in {worst.actual!r} and looks like"
            f" {worst.predicted!r}. A wrong label costs more than a photo brings."
        )
    if result.unreadable:
        left_out = number_of(len(result.unreadable), "image")
        yield f"Replace or remove what could not be read and was left out: {left_out}."
    yield from _about_photos(result)
    if result.high - result.low > _WIDE:
        yield (
            f"Trust the accuracy only so far: with {len(result.sources):,} photos it may be"
            f" anything from {percent(result.low, 0)} to {percent(result.high, 0)}. Four times as"
            " many would halve this range."
        )


def _about_photos(result: TrainingResult) -> Iterator[str]:
    if result.accuracy == 1:
        yield (
            "Try it on photos of another day, place or camera: of these it gets none wrong, so"
            " they have no more to teach it."
        )
        return
    wish = most_helpful(result)
    twice = result.twice
    if twice is not None and twice.accuracy - result.accuracy < _LITTLE:
        yield (
            "More photos of the same kind would hardly help: twice as many would bring"
            f" {percent(result.accuracy)} to {percent(twice.accuracy)}. A larger network as its"
            " base, or one that is trained whole, may do more."
        )
    elif wish is None:
        more = ""
        if twice is not None:
            more = (
                f": twice as many would bring {percent(result.accuracy)} to about"
                f" {percent(twice.accuracy)} ({percent(twice.low)} to {percent(twice.high)})"
            )
        yield f"Add photos of every class, as none stands out{more}."
    else:
        yield str(wish)


@dataclass(frozen=True, slots=True)
class Wish:
    """More photos of a class.

    Args:
        names: The class; a second one that would help nearly as much.
        photos: How many more.
        gain: Accuracy that they would add, for the first.
        mistaken: What images of the first are mostly mistaken for; "" where nothing stands out.
    """

    names: tuple[str, ...]
    photos: int
    gain: float
    mistaken: str

    def __str__(self) -> str:
        names = " or ".join(map(repr, self.names))
        gain = f"about {100 * self.gain:.1f}" if self.gain >= 0.001 else "less than 0.1"
        text = f"{self.photos:,} more photos of {names} would help most: {gain} points of accuracy."
        if self.mistaken:
            text += (
                f" {self.names[0]!r} is mostly mistaken for {self.mistaken!r}: choose photos that"
                " show the difference."
            )
        return text


def most_helpful(result: TrainingResult) -> Wish | None:
    """The class of which more photos would spare the most errors; None where none stands out.

    Each class in turn gets as many photos more: half as many as classes have in the mean. Its
    errors then fall as a power of the number of its photos, with the exponent of the learning
    curve (0.3 where there is none), and count as often as the class is expected to occur. A recall
    of few photos is drawn towards the mean. A class stands out if it would gain 1.25 times as much
    as a class does in the mean.
    """
    images = np.array([one.images for one in result.classes], np.float64)
    recall = np.array([one.recall for one in result.classes])
    mean = float(recall.mean())
    errors = 1 - (recall * images + mean * _PRIOR_IMAGES) / (images + _PRIOR_IMAGES)
    photos = min(_MOST, _STEP * ceil(float(images.mean()) / 2 / _STEP))
    spared = 1 - (images / (images + photos)) ** _exponent(result)
    prior = result.calibration.prior
    shares = images / images.sum() if prior is None else np.array(prior)
    gains = shares * errors * spared
    order = np.argsort(-gains, kind="stable")
    best = float(gains[order[0]])
    if best <= 0 or best < _STANDS_OUT * float(gains.mean()):
        return None
    named = [order[0]]
    if len(order) > 2 and gains[order[1]] >= _ALSO * best:
        named.append(order[1])
    names = tuple(result.classes[place].name for place in named)
    return Wish(names, photos, best, _mostly_mistaken(result, int(order[0])))


def _exponent(result: TrainingResult) -> float:
    """Of the power of the number of images that the error falls as, by the learning curve."""
    if result.twice is None or result.accuracy >= 1:
        return _USUAL_EXPONENT
    left = (1 - result.twice.accuracy) / (1 - result.accuracy)
    return -log2(max(left, 0.5))


def _mostly_mistaken(result: TrainingResult, target: int) -> str:
    """The class that most of its mistakes are predicted as; "" where they are few or scattered."""
    predicted = result.predicted[result.targets == target]
    wrong = Counter(predicted[predicted != target].tolist()).most_common(1)
    if not wrong:
        return ""
    index, count = wrong[0]
    enough = count >= max(_MISTAKEN, int((predicted != target).sum()) / 2)
    return result.classes[index].name if enough else ""
