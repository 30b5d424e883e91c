"""The result of a training in; one HTML page out that needs no other file and no network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toplabel._internal.text import number_of, percent
from toplabel.analysis.page.fragments import (
    Html,
    confusion_matrix,
    fill,
    join,
    page,
    recall,
    section,
    table,
    thumbnails,
)
from toplabel.runs.report.report import write_page
from toplabel.training.advice import RULE, advise
from toplabel.training.report.curve import draw_curve

if TYPE_CHECKING:
    from toplabel.training.result import Mistake, TrainingResult

_MAX_IMAGES = 24
_MAX_COPIES = 12
_MAX_CLASSES = 60
_MAX_CELLS = 30
_MAX_PAIRS = 20
_MAX_UNREADABLE = 50


def write_training_report(path: str | os.PathLike[str], result: TrainingResult) -> None:
    """Write the report; an existing file is replaced. Images are in it as small thumbnails.

    Args:
        path: Where it goes.
        result: Of the training; its images are read once more, as far as they are shown.

    Raises:
        RunError: The file cannot be written.
    """
    write_page(Path(path), [_page(result, path)])


def _page(result: TrainingResult, path: str | os.PathLike[str]) -> Html:
    images, classes = len(result.sources), len(result.classes)
    return page(
        f"Training of {result.name}",
        summary=f"{number_of(images, 'image')} of {number_of(classes, 'class', 'classes')}",
        notes=result.notices,
        sections=_sections(result, path),
    )


def _sections(result: TrainingResult, path: str | os.PathLike[str]) -> Iterator[Html]:
    yield _reached(result)
    steps = join(fill("step", text=text) for text in advise(result))
    yield section("What to do next", fill("steps", items=steps, rule=f"{RULE}."))
    if len(result.curve) > 1:
        yield section("What more photos would bring", _curve(result))
    yield section("Classes", _classes(result))
    yield from _confusion(result)
    if result.suspects:
        title = _titled("May bear the wrong label", result.suspects)
        yield section(title, _gallery(result.suspects, path))
    suspects = set(result.suspects)
    others = [one for one in result.mistakes if one not in suspects]
    if others:
        yield section(_titled("Other mistakes, worst first", others), _gallery(others, path))
    if result.copies:
        yield from _copies(result, path)
    yield section("Images of another kind", fill("paragraph", text=_unknown(result)))
    if result.unreadable:
        yield section("Left out", _unreadable(result))
    yield section("How this was measured", _method(result))


def _titled(title: str, found: Sequence[object], most: int = _MAX_IMAGES) -> str:
    return f"{title} ({most} of {len(found):,})" if len(found) > most else title


def _reached(result: TrainingResult) -> Html:
    """Its accuracy, large, and the figures beside it."""
    images = np.array([one.images for one in result.classes])
    prior = result.calibration.prior is not None
    rows: list[tuple[str, ...]] = [
        ("Balanced accuracy: the mean recall of the classes", percent(result.balanced_accuracy)),
    ]
    if prior:
        rows += [
            ("Accuracy with classes as frequent as in training", percent(result.plain_accuracy)),
            (
                "Balanced accuracy with classes as frequent as in training",
                percent(result.plain_balanced_accuracy),
            ),
        ]
    rows.append(
        ("Always the most frequent class would reach", percent(images.max() / images.sum()))
    )
    return fill(
        "reached",
        accuracy=percent(result.accuracy),
        low=f"{100 * result.low:.1f}",
        high=f"{100 * result.high:.1f}",
        rows=join(fill("figure_row", name=name, value=value) for name, value in rows),
    )


def _curve(result: TrainingResult) -> Html:
    twice = result.twice
    text = "There are too few images to tell what twice as many would bring."
    if twice is not None:
        text = (
            f"Twice as many photos, {twice.images:,}, would bring {percent(result.accuracy)} to"
            f" about {percent(twice.accuracy)} ({percent(twice.low)} to {percent(twice.high)}), if"
            " they are of the same kind and the curve goes on as it does."
        )
    drawn = fill("plain_figure", svg=draw_curve(result.curve, twice))
    return join([drawn, fill("paragraph", text=text)])


def _classes(result: TrainingResult) -> Html:
    worst = sorted(result.classes, key=lambda one: (one.recall, one.name))[:_MAX_CLASSES]
    mistaken = _mistaken(result)
    rows = [
        (
            one.name,
            f"{one.images:,}",
            recall(one.recall, one.low, one.high),
            percent(one.precision),
            mistaken.get(one.name, ""),
        )
        for one in worst
    ]
    head = ("class, worst first", "images", "recall", "precision", "mostly mistaken for")
    body = table(head, rows, kinds=("text", "number", "wide", "number", "text"))
    left = len(result.classes) - len(worst)
    if left:
        others = "other class has" if left == 1 else f"{left:,} other classes have"
        text = f"The {others} a recall of {percent(worst[-1].recall)} or more."
        body = join([body, fill("paragraph", text=text)])
    return body


def _mistaken(result: TrainingResult) -> dict[str, str]:
    """The class that each is mistaken for most often, with the number of images."""
    return {
        actual: f"{predicted}, {count:,} ×"
        for actual, predicted, count in reversed(_pairs(result))  # of each the most frequent stays
    }


def _pairs(result: TrainingResult) -> list[tuple[str, str, int]]:
    """(class, predicted as, images), the most frequent first."""
    classes, count = result.classes, len(result.classes)
    wrong = result.targets != result.predicted
    keys, counts = np.unique(
        result.targets[wrong] * count + result.predicted[wrong], return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    return [
        (classes[keys[i] // count].name, classes[keys[i] % count].name, int(counts[i]))
        for i in order
    ]


def _confusion(result: TrainingResult) -> Iterator[Html]:
    """The confusion matrix; of many classes, the most frequent mistakes."""
    if len(result.classes) <= _MAX_CELLS:
        names = [one.name for one in result.classes]
        matrix = confusion_matrix(names, result.confusion.tolist())
        yield section("What is taken for what", matrix)
    elif pairs := _pairs(result):
        cells = [(actual, best, f"{count:,}") for actual, best, count in pairs[:_MAX_PAIRS]]
        body = table(("actual", "predicted", "images"), cells, texts=2)
        yield section("Most frequent mistakes", body)


def _gallery(mistakes: Sequence[Mistake], path: str | os.PathLike[str]) -> Html:
    shown = mistakes[:_MAX_IMAGES]
    images = thumbnails([one.source for one in shown], path)
    return fill(
        "mistakes",
        items=join(
            fill(
                "trained_mistake",
                image=image,
                predicted=one.predicted,
                score=f"{100 * one.score:.0f}",
                given=one.actual,
                name=_short(one.source),
            )
            for one, image in zip(shown, images, strict=True)
        ),
    )


def _short(source: str) -> str:
    """A file's name after the folder that it is in, which mostly is its class."""
    return "/".join(source.replace("\\", "/").rstrip("/").split("/")[-2:])


def _copies(result: TrainingResult, path: str | os.PathLike[str]) -> Iterator[Html]:
    contradictory = [one for one in result.copies if one.contradictory]
    if contradictory:
        shown = contradictory[:_MAX_COPIES]
        images = thumbnails([one.sources[0] for one in shown], path)
        items = join(
            fill(
                "copies_item",
                image=image,
                classes=" and ".join(dict.fromkeys(one.classes)),
                names=", ".join(map(_short, one.sources[:4])),
            )
            for one, image in zip(shown, images, strict=True)
        )
        title = _titled("The same image under several classes", contradictory, _MAX_COPIES)
        yield section(title, fill("mistakes", items=items))
    alike = [one for one in result.copies if not one.contradictory]
    if alike:
        images_in = sum(len(one.sources) for one in alike)
        text = (
            f"{images_in:,} images are copies or near-copies of one another, in"
            f" {number_of(len(alike), 'group')}. Each group was kept in one fold, so that they"
            " flatter no figure; one of each teaches the model as much as all of them."
        )
        rows = [
            (one.classes[0], f"{len(one.sources):,}", ", ".join(map(_short, one.sources[:4])))
            for one in alike[:_MAX_PAIRS]
        ]
        names = table(("class", "images", "files"), rows, kinds=("text", "number", "text"))
        title = _titled("Copies", alike, _MAX_PAIRS)
        yield section(title, join([fill("paragraph", text=text), names]))


def _unknown(result: TrainingResult) -> str:
    detector = result.bundle.unknown
    if detector is None:
        return (
            "The model gives every image one of its classes, whatever the image shows: it was"
            " trained without a detector of unknown images."
        )
    share, most = detector.expected
    text = (
        "Images that are unlike everything it was trained on are marked unknown and keep their"
        f" label. About {percent(share, 0)} of photos like yours are marked, too (up to"
        f" {percent(most, 0)} with this number of images)."
    )
    if detector.siblings is not None:
        text += (
            " What it does not notice: where one of your classes was left out of the training,"
            f" {percent(1 - detector.siblings, 0)} of its photos passed as another of your classes."
        )
    return text


def _unreadable(result: TrainingResult) -> Html:
    shown = result.unreadable[:_MAX_UNREADABLE]
    rows = [(_short(one.source), one.code, one.message) for one in shown]
    body = table(("file", "error", "why"), rows, texts=3)
    left = len(result.unreadable) - len(shown)
    more = fill("paragraph", text=f"And {left:,} more.")
    return join([body, more]) if left else body


def _method(result: TrainingResult) -> Html:
    facts = result.bundle.training or {}
    tuning = result.fine_tuning
    if tuning is not None and tuning.kept:
        text = str(tuning)
        measured = f"{text[:1].upper()}{text[1:]}."
    else:
        measured = (
            "Each image was predicted by a head that was fitted without it: the images were divided"
            f" into {result.folds} folds, copies together, and the head was fitted {result.folds}"
            " times without one of them. The model itself was then fitted on all images."
        )
    text = (
        f"{measured} The interval of 95 % (Wilson) holds for other photos of the same kind, taken"
        " in the same way; it says nothing of another camera, place or season."
    )
    rows = [
        ("Network whose features it uses", facts.get("base", "")),
        ("Strength of the head (C)", f"{result.strength:g}"),
        ("Temperature of its scores", f"{result.calibration.temperature:.3g}"),
        ("Augmentation", result.augmentation or ""),
        ("Training all of the network", tuning or ""),
        ("Date", facts.get("date", "")),
        ("toplabel", facts.get("toplabel", "")),
    ]
    shown = [row for row in rows if row[1]]
    return join([fill("paragraph", text=text), table(("", ""), shown, texts=2)])
