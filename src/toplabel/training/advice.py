"""The result of a training in; what to do next, in words, out: what its pages and lines say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toplabel.training.result import TrainingResult

_WIDE = 0.05
"""Half an interval: above, more images are needed to know how good the model is."""

_WORTH = 0.01
"""Of accuracy: what more images must bring to be asked for."""

_WEAK = 0.9
_WEAKER = 0.03
"""A recall below the first, and by the second below the balanced accuracy, wants more images."""


def advise(result: TrainingResult) -> tuple[str, ...]:
    """What would help most, a sentence each, what is most likely to be wrong first."""
    return tuple(filter(None, (_of_copies(result), _of_suspects(result), *_of_images(result))))


def _of_copies(result: TrainingResult) -> str:
    found = [one for one in result.copies if one.contradictory]
    if not found:
        return ""
    first = found[0]
    other = next(i for i, name in enumerate(first.classes) if name != first.classes[0])
    return (
        f"keep each image under one class: {_count(len(found), 'image')} stand under several, such"
        f" as {first.sources[0]} ({first.classes[0]}) and {first.sources[other]}"
        f" ({first.classes[other]})"
    )


def _of_suspects(result: TrainingResult) -> str:
    if not result.suspects:
        return ""
    worst = result.suspects[0]
    count = len(result.suspects)
    many = f"look at the {count:,} images whose class may be wrong, beginning with"
    return (
        f"{many if count > 1 else 'look at'} {worst.source}: it is in {worst.actual!r} and looks"
        f" like {worst.predicted!r}"
    )


def _of_images(result: TrainingResult) -> list[str]:
    """More images: of which class, and what they would bring."""
    gain = 0.0 if result.twice is None else result.twice.accuracy - result.accuracy
    found = []
    weakest = min(result.classes, key=lambda one: (one.recall, one.images))
    behind = result.balanced_accuracy - weakest.recall
    if weakest.recall < _WEAK and behind > _WEAKER:
        taken = _mostly_taken_for(result, weakest.name)
        found.append(f"{weakest.images:,} more images of {weakest.name!r} would help most: {taken}")
    if gain > _WORTH:
        found.append(
            f"twice as many images would bring about {100 * gain:.0f} points of accuracy, if it"
            " goes on as it did"
        )
    elif result.high - result.low > 2 * _WIDE:
        found.append(
            f"more images would tell how good it is: {len(result.sources):,} leave the accuracy"
            f" between {result.low:.0%} and {result.high:.0%}"
        )
    elif result.twice is not None and result.accuracy < _WEAK:
        found.append(
            "more images of the same kind would hardly help: try another network (model='...'),"
            " or look at what is mistaken"
        )
    return found


def _mostly_taken_for(result: TrainingResult, name: str) -> str:
    wrong = [one for one in result.mistakes if one.actual == name]
    (other, count), *_ = Counter(one.predicted for one in wrong).most_common(1)
    images = next(one.images for one in result.classes if one.name == name)
    return f"{len(wrong):,} of {images:,} are mistaken, {count:,} of them for {other!r}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
