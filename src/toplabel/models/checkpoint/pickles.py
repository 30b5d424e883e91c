"""Pickles: a stretch of a file in, what it would make out, with nothing of it made."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.literals import ByteSource
from toplabel.models.checkpoint.plain import to_plain
from toplabel.models.checkpoint.storages import Storage
from toplabel.models.checkpoint.stubs import InertMaker, Thing
from toplabel.models.checkpoint.unpickler import Budget, run_pickle

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickled:
    """What a pickle says.

    Args:
        content: Plain values, `TensorInfo` and `Opaque`, nested.
        blocked: The globals that torch would refuse, in order of appearance.
        whole_module: The class, where it is a whole network and not its state dict.
        storages: Those that its tensors need.
    """

    content: Any
    blocked: tuple[str, ...]
    whole_module: str | None
    storages: tuple[Storage, ...]


def read_pickle(source: ByteSource, *, budget: Budget | None = None) -> Pickled:
    """What the pickle at `source` says; `source` stands behind it then.

    Raises:
        CheckpointError: It is damaged, too costly, or holds tensors that are not plain.
    """
    budget = budget or Budget()
    maker = InertMaker(budget)
    try:
        made = run_pickle(source, maker, budget)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{naming(maker.blocked)}") from error
    return Pickled(
        content=to_plain(made),
        blocked=tuple(maker.blocked),
        whole_module=made.kind if isinstance(made, Thing) and _is_module(made) else None,
        storages=tuple(maker.storages.whole.values()),
    )


def named_globals(source: ByteSource) -> tuple[str, ...]:
    """The globals that a pickle names before it ends or breaks, for an error to name them."""
    budget = Budget()
    maker = InertMaker(budget)
    with suppress(CheckpointError):
        run_pickle(source, maker, budget)
    return tuple(maker.blocked)


def naming(names: Collection[str]) -> str:
    """The end of an error about a pickle that names globals no checkpoint needs."""
    return f"; it names {', '.join(list(names)[:_NAMED])}" if names else ""


def _is_module(thing: Thing) -> bool:
    """Whether it has what only networks have; torch.fx gives it as an argument."""
    states = (thing.state, *thing.arguments)
    return any(isinstance(s, dict) and {"_parameters", "_modules"} <= s.keys() for s in states)
