"""The labels that a user gives for a network in, compared with the network's own; Labels out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from toplabel._internal.notices import warn
from toplabel.labels.files import in_order, list_names, order_warning
from toplabel.labels.labels import Labels
from toplabel.labels.listed import SYNSET, ListedNames

LabelsLike = Labels | Sequence[str] | Mapping[str, int] | Mapping[int, str] | str | os.PathLike[str]


def list_given(given: LabelsLike) -> Labels | ListedNames:
    """The labels as they were given, read from their file where they stand in one.

    Raises:
        LabelsError: The file, or what was given, holds no labels.
    """
    if isinstance(given, str | os.PathLike):
        return list_names(given)
    return given if isinstance(given, Labels) else ListedNames.of(given)


def labels_digest(given: LabelsLike) -> list[object]:
    """What stands in their file or object, as plain data that differs where it does."""
    listed = list_given(given)
    return [listed.names, listed.ids, getattr(listed, "keys", None)]


def labels_for(given: LabelsLike, outputs: int, *, own: Labels | None = None) -> Labels:
    """The labels that are given, one for each output; for one output also those of no and yes.

    What `own` says of their order is used: class folders that the keys of `given` name, and
    synsets. A difference is warned of.

    Args:
        given: As `Labels.of` takes them; or a file, a folder, or the name of a known list.
        outputs: How many the network has.
        own: What the network, or its file, calls its classes; None: nothing is known.

    Raises:
        LabelsError: There are none, not one for each output, or in no order that is clear.
    """
    called = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    labels = in_order(list_given(given), own=own, called=called)
    if not labels.fit(outputs):
        labels.check_count(outputs)
    if own is not None and own.named and (ordered := _by_synset(labels, own)) is not None:
        return ordered
    if labels.ids is not None and _are_unsorted_synsets(labels.ids):
        warn(
            f"the synsets of the labels are in another order than that of text ({labels.ids[0]}"
            f" first): class folders called by them are sorted by ImageFolder, and ImageNet's by"
            " torchvision and timm. Check one image whose class you know",
            about="labels",
        )
    if own is not None and own.named and _are_reordered(labels.names, own.names):
        warn(
            "the labels are those that the model itself names, in another order"
            f" ({labels[0]!r} first, where the model has {own[0]!r}): taking them as they were"
            " given; leave labels out for the model's own order",
            about="labels",
        )
    if text := order_warning(labels):
        warn(text, about="labels")
    return labels


def _by_synset(labels: Labels, own: Labels) -> Labels | None:
    """The labels in the order of the network's synsets; None where they are not these."""
    known = own.ids if own.ids is not None else own.names
    if labels.ids is None or not all(map(SYNSET.fullmatch, known)):
        return None
    if len(set(known)) < len(known) or sorted(labels.ids) != sorted(known):
        return None
    if labels.ids == known:
        return labels
    warn(
        "the labels have the synsets of the model in another order than the model: each name is"
        " taken for the output that has its synset",
        about="labels",
    )
    names = dict(zip(labels.ids, labels.names, strict=True))
    return replace(labels, names=tuple(names[synset] for synset in known), ids=tuple(known))


def _are_unsorted_synsets(ids: Sequence[str]) -> bool:
    return all(map(SYNSET.fullmatch, ids)) and list(ids) != sorted(ids)


def _are_reordered(names: Sequence[str], others: Sequence[str]) -> bool:
    return names != others and sorted(names) == sorted(others)
