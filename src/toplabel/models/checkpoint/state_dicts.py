"""The nesting that a checkpoint holds in, the state dict in it that is meant out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.tensors import Opaque

State = Mapping[str, Any]  # name -> TensorInfo or torch.Tensor

_USUAL = re.compile(
    "_?model|module|net|network|weights|params|parameters|best_model"
    "|((best_)?(model|net|network)?|_)_?(state_dict|state|dict|weights)"
)
_TRAINING = re.compile(
    "optimi[sz]ers?|optims?|opt|schedulers?|sched|scaler|rng|random|grads?|amp|criterion|loss"
    "|losses|metrics?|momentum"
)
_AVERAGE = frozenset({"ema", "shadow", "swa", "averaged", "averaging", "avg"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_MAX_DEPTH = 8
_MAX_ITEMS = 100  # of a list that is searched: nobody keeps more than that of networks
_COMPETES = 10  # a state dict with a tenth of the largest one's numbers may be the one meant


@dataclass(frozen=True, slots=True)
class Found:
    """A state dict somewhere in a checkpoint.

    Args:
        where: Dotted path of the keys that lead to it; empty at the top.
        state: Its tensors, by name.
    """

    where: str
    state: State

    @property
    def size(self) -> int:
        """Numbers in all its tensors together."""
        return sum(math.prod(tensor.shape) for tensor in self.state.values())

    @property
    def averaged(self) -> bool:
        """Whether it is a moving average of another one, by its key or as torch marks it."""
        return is_average(self.where) or "n_averaged" in self.state

    @property
    def usual(self) -> bool:
        """Whether its key is one under which people save the network."""
        return not self.where or _USUAL.fullmatch(self.where.split(".")[-1].lower()) is not None

    def __str__(self) -> str:
        return f"{self.where or 'the top level'} ({len(self.state)} tensors)"


def is_tensor(value: object) -> bool:
    """Whether it is a tensor, or what a file says of one."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_average(name: str) -> bool:
    """Whether a key or a part of a dotted name speaks of a moving average of weights."""
    return any(word.lower() in _AVERAGE for word in _WORD.findall(name))


def find_states(content: object) -> list[Found]:
    """Every state dict in the content, but for those of optimizers and the like; largest first."""
    found = [state for state in _walk(content, (), set()) if _may_be_network(state.state)]
    return sorted(found, key=lambda one: -one.size)


def choose_state(found: list[Found], *, ema: bool) -> Found:
    """The one that is meant: the usual key before others, the larger before the smaller.

    Args:
        found: What `find_states` gave.
        ema: Take the moving average, and nothing else.

    Raises:
        CheckpointError: There is none, or several of which none is clearly meant.
    """
    if not found:
        raise CheckpointError(
            "it holds no network: no mapping of names to tensors is in it; expected a state dict,"
            " as torch.save(model.state_dict(), path) writes it"
        )
    eligible = [one for one in found if one.averaged == ema]
    if not eligible and ema:
        raise CheckpointError(
            f"it holds no moving average (EMA) of the weights; it has {_listed(found)}"
        )
    eligible = eligible or found  # an average alone is what there is
    competing = [one for one in eligible if one.size * _COMPETES >= eligible[0].size]
    usual = [one for one in competing if one.usual and one.where]
    best = usual or [one for one in competing if one.usual] or competing
    if len(best) > 1 and not _are_one(best):
        raise CheckpointError(
            f"it holds several networks, none of them clearly the one meant: {_listed(best)}; save"
            " the state dict of one of them in a file of its own"
        )
    return best[0]


def flatten_module(module: object, prefix: str = "") -> dict[str, Any]:
    """The state dict of a whole pickled module, from the state its pickle gives it.

    Args:
        module: An `Opaque`, or the mapping with `_modules`, `_parameters` and `_buffers`.
        prefix: Put before every name.
    """
    flat: dict[str, Any] = {}
    pending = [(prefix, module)]
    seen: set[int] = set()
    while pending:
        at, part = pending.pop()
        inside = _module_state(part)
        if inside is None or id(inside) in seen:
            continue
        seen.add(id(inside))
        hidden = inside.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, set | frozenset | list | tuple) else ()
        for kind in ("_parameters", "_buffers"):
            tensors = _mapping(inside.get(kind))
            flat |= {f"{at}{k}": v for k, v in tensors.items() if is_tensor(v) and k not in hidden}
        children = _mapping(inside.get("_modules"))
        pending += [(f"{at}{name}.", child) for name, child in reversed(list(children.items()))]
    return flat


def _walk(value: object, path: tuple[str, ...], seen: set[int]) -> Iterator[Found]:
    """Every mapping with tensors in it, each once, however often the content refers to it."""
    if len(path) > _MAX_DEPTH or id(value) in seen or is_tensor(value):
        return
    seen.add(id(value))
    live = _live_state(value)
    if live is not None or _module_state(value) is not None:
        yield Found(".".join(path), live or flatten_module(value))
        return
    value = value.state if isinstance(value, Opaque) else value
    if isinstance(value, Mapping):
        if "param_groups" in value:
            return  # of an optimizer, whatever its key
        direct = {k: v for k, v in value.items() if isinstance(k, str) and is_tensor(v)}
        if direct:
            yield Found(".".join(path), direct)
        for key, inner in value.items():
            if isinstance(key, str) and not is_tensor(inner) and not _of_training(key):
                yield from _walk(inner, (*path, key), seen)
    elif isinstance(value, list | tuple) and len(value) <= _MAX_ITEMS:
        for index, inner in enumerate(value):
            yield from _walk(inner, (*path, str(index)), seen)


def _may_be_network(state: State) -> bool:
    """Whether some layer is in it; class weights and best scores are vectors and scalars."""
    return any(len(tensor.shape) >= 2 for tensor in state.values())


def _of_training(key: str) -> bool:
    """Whether a key leads to what only training needs: the optimizer's state, a criterion."""
    words = any(_TRAINING.fullmatch(word.lower()) for word in _WORD.findall(key))
    lower = key.lower()
    return (
        words or lower.startswith("exp_avg") or lower.endswith(("optimizer", "scheduler", "scaler"))
    )


def _are_one(found: list[Found]) -> bool:
    """Whether all are one state dict, its very tensors, under several keys."""
    first, *others = (
        {name: (_identity(tensor), tuple(tensor.shape)) for name, tensor in one.state.items()}
        for one in found
    )
    return all(other == first for other in others)


def _identity(tensor: Any) -> int:
    """The same number for views of the same memory, or for what a file says of one tensor."""
    pointer = getattr(tensor, "data_ptr", None)
    return int(pointer()) if callable(pointer) else id(tensor)


def _live_state(value: object) -> State | None:
    """The state dict of a live module, as a trusted pickle makes one."""
    method = getattr(value, "state_dict", None)
    if callable(method) and hasattr(value, "named_parameters"):
        state: State = {k: v for k, v in method().items() if is_tensor(v)}
        return state
    return None


def _module_state(value: object) -> Mapping[str, Any] | None:
    """The attributes of a pickled module that was not made; None for anything else."""
    inside = value.state if isinstance(value, Opaque) else value
    if isinstance(inside, Mapping) and {"_modules", "_parameters"} <= inside.keys():
        return inside
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    value = value.state if isinstance(value, Opaque) else value
    return value if isinstance(value, Mapping) else {}


def _listed(found: list[Found]) -> str:
    names = [str(one) for one in found[:6]]
    return ", ".join(names) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
