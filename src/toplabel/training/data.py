"""A folder or table of images in; the images to train on, checked, out."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from toplabel._internal.notices import warn
from toplabel._internal.text import number_of
from toplabel.analysis.data.dataset import Dataset, read_dataset
from toplabel.errors import LabelsError, UsageError
from toplabel.training.options import MIN_IMAGES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_SPLITS = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing", "holdout")
)
"""What folders of a data set that was divided already are called, in lower case."""

_SHOWN = 4


def read_training_data(data: Dataset | str | os.PathLike[str]) -> Dataset:
    """The images to train on and their classes, as `read_dataset` gives them, checked.

    Class folders without images, classes whose names differ only in case or blanks, and files that
    stand there twice are warned of.

    Raises:
        UsageError: There are no labelled images, or the folder's sub-folders are splits.
        LabelsError: A class name is not valid text.
    """
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    if not isinstance(data, Dataset) and os.path.isdir(data):
        _check_splits(os.fspath(data), dataset.classes)
        _warn_of_empty_folders(os.fspath(data), dataset.classes)
    for name in dataset.classes:
        if not name.strip() or name != name.encode("utf-8", "replace").decode():
            raise LabelsError(
                f"got a class called {name!r}, which is not valid text; rename its folder, or the"
                " label in the table, in UTF-8"
            )
    warn_of_like_names(dataset.classes)
    return _without_repeats(dataset)


def check_counts(counts: Mapping[str, int], *, what: str = "images that can be read") -> None:
    """Stop where there is a single class, or one with too few images.

    Args:
        counts: Class name -> how many images it has.
        what: Of what.

    Raises:
        UsageError: It lists the classes.
    """
    short = {name: count for name, count in counts.items() if count < MIN_IMAGES}
    if short:
        shown = [f"{name!r} has {count}" for name, count in short.items()][:_SHOWN]
        more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
        raise UsageError(
            f"too few {what}: {', '.join(shown)}{more}; expected at least {MIN_IMAGES} in each"
            " class: add images, or leave the class out"
        )
    if len(counts) < 2:
        (name,) = counts
        raise UsageError(
            f"got images of one class, {name!r}; expected two classes or more: add a folder of"
            " images that are not of it"
        )


def _check_splits(folder: str, classes: Collection[str]) -> None:
    """Refuse a folder of train/ and val/: its sub-folders are no classes."""
    if not classes or not {name.lower() for name in classes} <= _SPLITS:
        return
    below = {name: set(_subfolders(os.path.join(folder, name))) for name in classes}
    common = set.intersection(*below.values())
    if not common:
        return
    first = next((one for one in sorted(classes) if one.lower().startswith("train")), min(classes))
    raise UsageError(
        f"the sub-folders of {folder!r} are the parts of a divided data set ({_listed(classes)}),"
        f" each with classes ({_listed(common)}); pass one of them:"
        f" {os.path.join(folder, first)!r}. No division is needed to train"
    )


def _warn_of_empty_folders(folder: str, classes: Collection[str]) -> None:
    empty = sorted(set(_subfolders(folder)) - set(classes))
    if empty and len(empty) < len(_subfolders(folder)):
        warn(f"left out {_listed(empty)}: no images in {'it' if len(empty) == 1 else 'them'}")


def _subfolders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def warn_of_like_names(classes: Iterable[str]) -> None:
    """Warn of classes that are probably one."""
    like: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        like["".join(name.casefold().split())].append(name)
    for names in like.values():
        if len(names) > 1:
            warn(
                f"the classes {_listed(names)} differ only in case or blanks, and are trained as"
                f" {len(names)} classes; if they are one, give them one name"
            )


def _without_repeats(dataset: Dataset) -> Dataset:
    """Each path once with each of its classes: a table may list one twice."""
    pairs = list(zip(dataset.sources, dataset.names, strict=True))
    once = list(dict.fromkeys(pairs))
    if len(once) < len(pairs):
        repeated, count = Counter(pairs).most_common(1)[0]
        more = len(pairs) - len(once)
        warn(
            f"{number_of(more, 'row')} repeat{'s' if more == 1 else ''} an image with its class,"
            f" such as {repeated[0]!r} ({count} times); each counts once"
        )
    return Dataset(tuple(s for s, _ in once), tuple(n for _, n in once), dataset.origin)


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return ", ".join(map(repr, found[:_SHOWN])) + more
