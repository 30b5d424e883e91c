"""Weights: which files of a model folder hold its weights, and whether they may be unpickled."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint import reading

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_SHARD = re.compile(r"(?:model|pytorch_model)-\d{5}-of-\d{5}\.(?:safetensors|bin)")


def choose_weights(names: Collection[str]) -> list[str]:
    """Of a folder's file names, those of its weights: safetensors where there are any.

    One file, or an index and its shards; empty where there is neither.
    """
    for whole in (SAFETENSORS, PICKLE):
        if whole in names:
            return [whole]
        if f"{whole}.index.json" in names:
            suffix = whole.rpartition(".")[2]
            shards = (n for n in names if _SHARD.fullmatch(n) and n.endswith(suffix))
            return [f"{whole}.index.json", *sorted(shards)]
    return []


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The files of the folder's weights; empty where they are missing or incomplete."""
    files = [folder / name for name in choose_weights([path.name for path in folder.iterdir()])]
    if files and files[0].suffix == ".json" and not _shards_of(files[0]) <= set(files):
        return ()
    return tuple(files)


def demand_safe_pickles(files: Collection[Path]) -> None:
    """Stop before a pickled file is read by a torch that it could harm.

    Raises:
        MissingDependency: torch is older than 2.10.
    """
    for path in files:
        if path.suffix not in (".safetensors", ".json"):
            reading.demand_safe_pickles(path)


def _shards_of(index: Path) -> set[Path]:
    """The shards that an index lists.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return {index.parent / name for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {index}, the list of weights files: {error}") from error
