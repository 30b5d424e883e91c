"""Kinds of inputs, by their names alone."""

from __future__ import annotations

from typing import Literal

from toplabel.image.files import is_url

ContainerKind = Literal["tar", "zip", "parquet"]

CONTAINERS: dict[str, str] = {
    "tar": "toplabel.runs.readers.tar",
    "zip": "toplabel.runs.readers.zip",
    "parquet": "toplabel.runs.readers.parquet",
}
"""Files that hold images, and the module that lists them and reads one."""

_SUFFIXES: dict[ContainerKind, tuple[str, ...]] = {
    "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    "zip": (".zip",),
    "parquet": (".parquet",),
}
_ALL_SUFFIXES = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
_LISTS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson")


def kind_of_container(name: str) -> ContainerKind | None:
    """The kind of container by its suffix; None for anything else."""
    lower = name.partition("::")[0].lower()
    if not lower.endswith(_ALL_SUFFIXES):  # most, and quickly
        return None
    return next(kind for kind, suffixes in _SUFFIXES.items() if lower.endswith(suffixes))


def is_list(name: str) -> bool:
    """Whether a name is that of a list of sources."""
    return name.lower().endswith(_LISTS)


def is_remote(name: str) -> bool:
    """Whether fsspec is needed to open it: a URL that is neither http nor https, or a container."""
    if is_url(name):
        return kind_of_container(name.partition("?")[0]) is not None or is_list(name)
    return "://" in name
