"""Contents: a checkpoint's nesting in, its state dict and what it says of itself out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toplabel.errors import CheckpointError
from toplabel.labels.labels import Labels
from toplabel.models.checkpoint.averages import split_average
from toplabel.models.checkpoint.hints import (
    as_mapping,
    find_architecture,
    find_holders,
    find_labels,
    find_settings,
)
from toplabel.models.checkpoint.state_dicts import Found, choose_state, find_states
from toplabel.models.checkpoint.stated_preprocess import find_preprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a checkpoint holds.

    Args:
        state: The state dict that is meant: name -> tensor, or `TensorInfo`.
        where: Dotted path of the keys to it; empty for a bare one.
        others: Where further state dicts are: averages, other networks.
        architecture: What the checkpoint calls its network.
        labels: The names of its classes.
        labels_where: Where they stood; or why there are none though some stood there.
        preprocess: What `recipes.translate` takes, where it is stated in full.
        hyper_parameters: Plain values by name.
    """

    state: Mapping[str, Any]
    where: str
    others: tuple[str, ...]
    architecture: str | None
    labels: Labels | None
    labels_where: str
    preprocess: Mapping[str, Any] | None
    hyper_parameters: Mapping[str, Any]

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Contents:
        """A state dict of which nothing else is known."""
        return cls(
            state=state,
            where="",
            others=(),
            architecture=None,
            labels=None,
            labels_where="",
            preprocess=None,
            hyper_parameters={},
        )


def find_contents(
    content: Any, *, metadata: Mapping[str, str] | None = None, ema: bool = False
) -> Contents:
    """The state dict in any usual nesting, and what stands beside it.

    Args:
        content: Mappings and lists around tensors or `TensorInfo`s, a whole module as `Opaque`,
            or a live one.
        metadata: Of a safetensors file.
        ema: Take the moving average of the weights instead of the weights.

    Raises:
        CheckpointError: There is no network in it, or none that is clearly meant, or no average.
    """
    found = find_states(content)
    chosen, inner, state = _choose(content, found, ema=ema)
    holders = find_holders(content, metadata or {})
    labels, labels_where = find_labels(holders, state)
    others = [one.where or "the top level" for one in found if one is not chosen]
    return Contents(
        state=state,
        where=f"{chosen.where}.{inner}".strip(".") if ema else chosen.where,
        others=(*others, *([f"{chosen.where}.{inner}*".strip(".")] if inner and not ema else [])),
        architecture=find_architecture(holders),
        labels=labels,
        labels_where=labels_where,
        preprocess=find_preprocess(holders),
        hyper_parameters=find_settings(holders),
    )


def _choose(
    content: object, found: list[Found], *, ema: bool
) -> tuple[Found, str, Mapping[str, Any]]:
    """The state dict, the prefix of the average inside it, and the tensors that are meant."""
    # Lightning's WeightAveraging puts the average in the place of the weights.
    swapped = "averaging_state" in (as_mapping(content) or {})
    if not ema or swapped or any(one.averaged for one in found):
        chosen = choose_state(found, ema=ema and not swapped)
        network, _, inner = split_average(chosen.state)
        return chosen, inner, network
    for one in found:
        _, average, inner = split_average(one.state)
        if inner:
            return one, inner, average
    choose_state(found, ema=True)
    raise CheckpointError("it holds no moving average (EMA) of the weights")
