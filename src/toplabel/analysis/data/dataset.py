"""A folder or table of images in; their paths and class names out, and each class's index."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toplabel._internal.text import number_of
from toplabel._internal.text_table import (
    DELIMITERS,
    SOURCE_COLUMNS,
    as_text,
    choose_delimiter,
    find_columns,
)
from toplabel.errors import LabelsError, UsageError
from toplabel.image.paths import expand
from toplabel.labels.labels import Labels

_SYNSET = re.compile(r"(n\d{8})(?!\d)")
_DELIMITERS = {".csv": DELIMITERS, ".tsv": ("\t",)}
_HEAD_BYTES = 4096
_LABEL_COLUMNS = ("label", "class", "target", "category", "labelname", "classname", "y")
_ACCEPTED = (
    "a folder with one sub-folder per class, a folder of files whose names start with a WordNet"
    " synset (n01440764_tench.jpg), or a .csv or .tsv file with the columns path and label"
)

How = Literal["name", "id", "spelling", "index", "order"]
_HOW: dict[How, str] = {
    "name": "by name",
    "id": "by id",
    "spelling": "by name, ignoring case and punctuation",
    "index": "by index",
    "order": "by position in the sorted class names, as ImageFolder numbers them",
}
_MAX_LISTED = 4


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images whose classes are known.

    Args:
        sources: N paths or URLs.
        names: The class name of each image.
        origin: Where they come from, for messages.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...]
    origin: str

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that occur, sorted as text."""
        return tuple(sorted(set(self.names)))

    @property
    def digest(self) -> str:
        """Identifies these images and classes: sha256 of file names, sizes and class names."""
        digest = hashlib.sha256()
        for source, name in sorted(zip(self.sources, self.names, strict=True)):
            size = os.path.getsize(source) if os.path.exists(source) else -1
            line = f"{os.path.basename(source)}\0{size}\0{name}\0"
            digest.update(line.encode("utf-8", "replace"))
        return digest.hexdigest()


def read_dataset(data: str | os.PathLike[str]) -> Dataset:
    """The images of a folder or table with their classes, in its order.

    Args:
        data: A folder with one sub-folder per class (images may lie deeper); a folder of files
            whose names start with a WordNet synset; or a .csv or .tsv file of paths, relative to
            it, and class names, with a header or as its first two columns.

    Raises:
        UsageError: It is none of these; the message lists what is accepted.
    """
    path = os.fspath(data)
    if os.path.isdir(path):
        return _read_folder(path)
    if Path(path).suffix.lower() in _DELIMITERS:
        return _read_table(Path(path))
    problem = "not a folder or a table" if os.path.exists(path) else "no such file or folder"
    raise UsageError(f"cannot read labelled images from {path!r}: {problem}; expected {_ACCEPTED}")


def _read_folder(folder: str) -> Dataset:
    sources = tuple(expand([folder]))  # raises where there is no image
    below = [os.path.relpath(source, folder) for source in sources]
    in_classes = [len(Path(one).parts) > 1 for one in below]
    if all(in_classes):
        names = tuple(Path(one).parts[0] for one in below)
        return Dataset(sources, names, f"the class folders of {folder}")
    if any(in_classes):
        alone = below[in_classes.index(False)]
        raise UsageError(
            f"{folder!r} has class folders, but also images outside of them, such as {alone!r};"
            f" expected {_ACCEPTED}"
        )
    synsets = [_SYNSET.match(one) for one in below]
    if not all(synsets):
        wrong = below[synsets.index(None)]
        raise UsageError(f"the class of {wrong!r} in {folder!r} is unknown; expected {_ACCEPTED}")
    names = tuple(found[1] for found in synsets if found is not None)
    return Dataset(sources, names, f"the synsets in the file names of {folder}")


def _read_table(file: Path) -> Dataset:
    try:
        with file.open("rb") as opened, as_text(opened, opened.peek(_HEAD_BYTES)) as lines:
            first = lines.readline()
            delimiter = choose_delimiter(first, SOURCE_COLUMNS, _DELIMITERS[file.suffix.lower()])
            table = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
            rows = [row for row in table if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {str(file)!r}: {error}") from error
    path, label, body = _columns(rows, file)
    for number, row in enumerate(body, start=len(rows) - len(body) + 1):
        if len(row) <= max(path, label) or not row[path] or not row[label]:
            raise UsageError(f"line {number} of {str(file)!r} has no path or no label: {row!r}")
    # joining leaves absolute paths as they are
    sources = tuple(
        r[path] if "://" in r[path] else os.path.join(file.parent, r[path]) for r in body
    )
    return Dataset(sources, tuple(row[label] for row in body), f"the table {file}")


def _columns(rows: list[list[str]], file: Path) -> tuple[int, int, list[list[str]]]:
    """Which columns hold the path and the label, and the rows below the header."""
    if not rows:
        raise UsageError(f"{str(file)!r} is empty; expected the columns path and label")
    paths, labels = (find_columns(rows[0], names) for names in (SOURCE_COLUMNS, _LABEL_COLUMNS))
    if paths and labels and len(rows) > 1:
        return paths[0], labels[0], rows[1:]
    if len(rows[0]) < 2 or paths or labels:
        raise UsageError(
            f"{str(file)!r} starts with {rows[0]!r}; expected the columns path and label with at"
            " least one image below them, or two columns without a header"
        )
    return 0, 1, rows


@dataclass(frozen=True, slots=True)
class Matching:
    """Which of a model's classes each class name of a dataset is.

    Args:
        indices: Name -> class index.
        how: Name -> how the class was found.
    """

    indices: Mapping[str, int]
    how: Mapping[str, How]

    @property
    def assumed(self) -> bool:
        """Whether classes were matched by nothing but the sorted order of the names."""
        return "order" in self.how.values()

    def named(self, labels: Labels) -> Labels:
        """The model's labels; of a model without class names, the dataset's names for its classes.

        A class that the dataset does not have keeps its index as its name.
        """
        if labels.named:
            return labels
        names = {index: name for name, index in self.indices.items()}
        return Labels(tuple(names.get(i, name) for i, name in enumerate(labels)), labels.ids)

    def __str__(self) -> str:
        counts = Counter(self.how.values())
        total = len(self.how)
        classes = {1: "the class matches", 2: "both classes match"}
        every = classes.get(total, f"all {total:,} classes match")
        if len(counts) == 1:
            return f"{every} {_HOW[next(iter(counts))]}"
        parts = ", ".join(f"{counts[how]} {text}" for how, text in _HOW.items() if how in counts)
        return f"{every}: {parts}"


def match_classes(names: Iterable[str], labels: Labels, *, model: str = "the model") -> Matching:
    """Find each class name among a model's labels: by name, id, spelling or index, in this order.

    Case and punctuation are ignored where that is unambiguous. "n01440764" and "n01440764_tench"
    are ids. Digits are indices where the labels are no digits. A model without class names takes
    the sorted order of the names where there are as many as it has classes.

    Args:
        names: Class names of a dataset.
        labels: The model's.
        model: What to call it in errors.

    Raises:
        LabelsError: A name matches no label, or several; or two names match the same label.
    """
    wanted = sorted(set(names))
    tables = _tables(labels)
    found = {name: _find(name, tables, len(labels)) for name in wanted}
    missing = [name for name, match in found.items() if match is None]
    if missing and not labels.named and len(missing) == len(wanted) == len(labels):
        found = {name: (index, "order") for index, name in enumerate(wanted)}
    elif missing:
        raise LabelsError(_no_match(missing, len(wanted), labels, model))
    matches = {name: match for name, match in found.items() if match is not None}
    indices = {name: index for name, (index, _) in matches.items()}
    _refuse_duplicates(indices, labels)
    return Matching(indices, {name: how for name, (_, how) in matches.items()})


def _tables(labels: Labels) -> dict[How, Mapping[str, list[int]]]:
    """The indices of the classes of each name, of each id, and of each plain name."""
    names = labels.names if labels.named else ()
    return {
        "name": _grouped(names),
        "id": _grouped(labels.ids or ()),
        "spelling": _grouped(map(_plain, names)),
    }


def _grouped(keys: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        found[key].append(index)
    return dict(found)


def _find(
    name: str, tables: Mapping[How, Mapping[str, list[int]]], count: int
) -> tuple[int, How] | None:
    """The class of this name and how it was found; None where there is none."""
    synset = _SYNSET.match(name)
    tries: tuple[tuple[How, str], ...] = (
        ("name", name),
        ("id", name),
        ("id", synset[1] if synset else ""),
        ("spelling", _plain(name)),
    )
    for how, key in tries:
        classes = tables[how].get(key, []) if key else []
        if len(classes) > 1:
            raise LabelsError(
                f"the class {name!r} is ambiguous: {len(classes)} classes of the model have that"
                f" name ({', '.join(map(str, classes))}); use an index or an id"
            )
        if classes:
            return classes[0], how
    if name.isdecimal() and int(name) < count:
        return int(name), "index"
    return None


def _plain(name: str) -> str:
    """The name in lower case, with one space between words."""
    return re.sub(r"[\s_\-.,'/]+", " ", name).strip().casefold()


def _refuse_duplicates(indices: Mapping[str, int], labels: Labels) -> None:
    first: dict[int, str] = {}
    for name, index in indices.items():
        if index in first:
            raise LabelsError(
                f"the classes {first[index]!r} and {name!r} both match the label"
                f" {labels[index]!r} (class {index}); rename one of them"
            )
        first[index] = name


def _no_match(missing: list[str], wanted: int, labels: Labels, model: str) -> str:
    from difflib import get_close_matches  # only where something is wrong

    shown = ", ".join(map(repr, missing[:_MAX_LISTED])) + ", ..." * (len(missing) > _MAX_LISTED)
    known = [*labels] if labels.named else []
    close = get_close_matches(missing[0], known, n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    examples = ", ".join(map(repr, known[:3]))
    has = (
        f"{number_of(len(labels), 'label')} ({examples}{', ...' if len(known) > 3 else ''})"
        if known
        else number_of(len(labels), "unnamed class", "unnamed classes")
    )
    match = "matches" if len(missing) == 1 else "match"
    return (
        f"{len(missing)} of {number_of(wanted, 'class', 'classes')} {match} no label of {model},"
        f" which has {has}:"
        f" {shown}{hint}; name the classes by label, id or index, or pass labels=..."
    )
