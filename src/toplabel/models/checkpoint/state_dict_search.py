"""A checkpoint's nesting in, the state dict in it that is meant, and what stands beside it, out."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from toplabel._internal.text import number_of
from toplabel.errors import CheckpointError
from toplabel.labels.labels import Labels
from toplabel.models.checkpoint import hints
from toplabel.models.checkpoint.info import UnknownObject
from toplabel.models.prefixes import cuts, is_adapter
from toplabel.preprocess.preprocess import Preprocess

State = Mapping[str, Any]  # name -> TensorInfo or torch.Tensor

_USUAL = re.compile(
    "_?model|module|net|network|weights|params|parameters|best_model"
    "|((best_)?(model|net|network)?|_)_?(state_dict|state|dict|weights)"
)
_TRAINING = re.compile(
    "optimi[sz]ers?|optims?|opt|schedulers?|sched|scaler|rng|random|grads?|amp|criterion|loss"
    "|losses|metrics?|momentum"
)
_EMA = frozenset({"ema", "shadow", "swa", "averaged", "averaging", "avg"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_MAX_DEPTH = 8
_MAX_ITEMS = 100  # of a list that is searched: nobody keeps more than that of networks
_COMPETES = 10  # a state dict with a tenth of the largest one's numbers may be the one meant
_COVERED = 0.9  # of the averaged tensors have a twin of the same name and shape
_SHARE = 0.3  # of the network's tensors have an average; statistics of batches often have none
_LAYER = ("weight", "kernel")
_FLAT_EMA = "ema_"  # before names without dots, as mmcv's hook writes them
_LEADING = 3  # parts of a name that may say so: module.model_ema.conv1.weight


@dataclass(frozen=True, slots=True)
class NestedState:
    """A state dict somewhere in a checkpoint; `where` is empty at the top.

    `module` is the class of a whole network that was not made.
    """

    where: str
    state: State
    module: str = ""

    @property
    def size(self) -> int:
        """Numbers in all its tensors together."""
        return sum(math.prod(tensor.shape) for tensor in self.state.values())

    @property
    def is_ema(self) -> bool:
        """Whether it is a moving average of another one, by its key or as torch marks it."""
        return is_ema(self.where) or "n_averaged" in self.state

    @property
    def is_usual(self) -> bool:
        """Whether its key is one under which people save the network."""
        return not self.where or _USUAL.fullmatch(self.where.split(".")[-1].lower()) is not None

    @property
    def has_layers(self) -> bool:
        """Whether it has a layer's weight, and not only matrices such as one of confusions."""
        return any(
            len(tensor.shape) >= 2 and (name in ("W", "w") or name.lower().endswith(_LAYER))
            for name, tensor in self.state.items()
        )

    def __str__(self) -> str:
        return f"{self.where or 'the top level'} ({described(self.state)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStateDict:
    """The state dict of a checkpoint, and what stands beside it.

    Args:
        state: Name -> tensor, or `TensorInfo`.
        where: Dotted path of the keys to it; empty for a bare one.
        others: Where further state dicts are: averages, other networks.
        parts: Those of them that are no averages, the largest first.
        averages: Where averages of the weights are that were left out.
        module: The class, where a whole network was pickled and not its state dict.
        unclear: Why it is not clear that `state` is the one meant; empty where it is.
        architecture: What the checkpoint calls its network.
        labels: The names of its classes.
        labels_where: Where they stood; or why there are none though some stood there.
        preprocess: What `transforms.translate` takes, where the checkpoint gives it in full.
        hyper_parameters: Plain values by name.
        constructor: Those of them that Lightning keeps to make the network with again.
    """

    state: State
    where: str = ""
    others: tuple[str, ...] = ()
    parts: tuple[NestedState, ...] = ()
    averages: tuple[str, ...] = ()
    module: str = ""
    unclear: str = ""
    architecture: str | None = None
    labels: Labels | None = None
    labels_where: str = ""
    preprocess: Mapping[str, Any] | Preprocess | None = None
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    constructor: Mapping[str, Any] = field(default_factory=dict)


def find_state_dict(
    content: Any,
    *,
    metadata: Mapping[str, str] | None = None,
    ema: bool = False,
    key: str | None = None,
) -> FoundStateDict:
    """The state dict in any usual nesting, and what stands beside it.

    Args:
        content: Mappings and lists around tensors or `TensorInfo`s, a whole module as
            `UnknownObject`, or a live one.
        metadata: Of a safetensors file.
        ema: Take the moving average of the weights instead of the weights.
        key: Where the one that is meant stands, or what its names begin with.

    Raises:
        CheckpointError: There is no network in it, no average, or nothing under that key.
    """
    # Those of optimizers have no layer; class weights and best scores are vectors and scalars.
    nested = [
        one
        for one in _walk(content, (), set())
        if any(len(tensor.shape) >= 2 for tensor in one.state.values())
    ]
    nested.sort(key=lambda one: -one.size)
    holders = hints.find_holders(content, metadata or {})
    if key is not None:
        chosen = _under(nested, key)
        return _found(chosen.state, holders, where=chosen.where)
    chosen, inner, state, unclear = _choose_weights(content, nested, ema=ema)
    rest = [one for one in nested if one is not chosen]
    inside = [f"{chosen.where}.{inner}*".strip(".")] if inner and not ema else []
    averages = [*(one.where for one in rest if one.is_ema), *inside]
    where = f"{chosen.where}.{inner}".strip(".") if ema else chosen.where
    return replace(
        _found(state, holders, where=where),
        others=(*(one.where or "the top level" for one in rest), *inside),
        parts=tuple(
            one
            for one in rest
            if one.has_layers and not one.is_ema and not (ema and _are_twins(one.state, state))
        ),
        averages=() if ema or _are_swapped(content) else tuple(averages),
        module=chosen.module,
        unclear=unclear,
    )


def _are_twins(one: State, other: State) -> bool:
    """Whether two networks are of one kind, as weights and their averages are."""
    shapes, others = (
        sorted(tuple(tensor.shape) for tensor in state.values() if tensor.shape)
        for state in (one, other)
    )
    return shapes == others


def _found(state: State, holders: list[hints.Holder], *, where: str) -> FoundStateDict:
    labels, labels_where = hints.find_labels(holders, state)
    return FoundStateDict(
        state=state,
        where=where,
        architecture=hints.find_architecture(holders),
        labels=labels,
        labels_where=labels_where,
        preprocess=hints.find_preprocess(holders),
        hyper_parameters=hints.find_settings(holders),
        constructor=hints.find_settings([h for h in holders if h[0] == hints.LIGHTNING]),
    )


def _under(nested: list[NestedState], key: str) -> NestedState:
    """The state dict that stands under a key, or whose names begin with it.

    Raises:
        CheckpointError: There is none; lists what there is.
    """
    for one in nested:
        if one.where == key:
            return one
    start = key.rstrip(".") + "."
    for one in nested:
        whole = f"{one.where}." if one.where else ""
        for begin in (start, start.removeprefix(whole)):
            state = {n.removeprefix(begin): t for n, t in one.state.items() if n.startswith(begin)}
            if state:
                return NestedState(f"{whole}{begin}", state)
    raise CheckpointError(
        f"got state_dict={key!r}, and there is none under that key or prefix; it has"
        f" {_listed(nested)}"
    )


def check_no_adapter_alone(state: State) -> None:
    """Stop at an adapter (LoRA and its like) without the network that it belongs to.

    Raises:
        CheckpointError: It is one.
    """
    adapters = [name for name in state if is_adapter(name)]
    if 2 * len(adapters) > len(state):
        raise CheckpointError(
            f"it holds an adapter alone (LoRA, PEFT): {len(adapters)} of its {len(state)} tensors,"
            f" {adapters[0]!r} first; the network that it adapts is not in the file: merge it where"
            " that is, model.merge_and_unload(), and save the state dict of the whole"
        )


def described(state: State) -> str:
    """How large a state dict is: `2 tensors, 15 numbers`."""
    size = sum(math.prod(tensor.shape) for tensor in state.values())
    tensors = number_of(len(state), "tensor")
    return f"{tensors}, {size:,} numbers"


def is_ema(name: str) -> bool:
    """Whether a key or a part of a dotted name speaks of a moving average of weights."""
    return any(word.lower() in _EMA for word in _WORD.findall(name))


def flatten_module(module: object, prefix: str = "") -> dict[str, Any]:
    """The state dict of a whole pickled module, from the state its pickle gives it.

    Args:
        module: An `UnknownObject`, or the mapping with `_modules`, `_parameters` and `_buffers`.
        prefix: Put before every name.
    """
    flat: dict[str, Any] = {}
    pending = [(prefix, module)]
    seen: set[int] = set()
    while pending:
        at, part = pending.pop()
        inside = _module_state(part)
        if inside is None or id(part) in seen:
            continue
        seen.add(id(part))
        hidden = inside.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, set | frozenset | list | tuple) else ()
        for kind in ("_parameters", "_buffers"):
            tensors = _mapping(inside.get(kind))
            flat |= {f"{at}{k}": v for k, v in tensors.items() if _is_tensor(v) and k not in hidden}
        children = _mapping(inside.get("_modules"))
        pending += [(f"{at}{name}.", child) for name, child in reversed(list(children.items()))]
    return flat


def _walk(value: object, path: tuple[str, ...], seen: set[int]) -> Iterator[NestedState]:
    """Every mapping with tensors in it, each once, however often the content refers to it."""
    if len(path) > _MAX_DEPTH or id(value) in seen or _is_tensor(value):
        return
    seen.add(id(value))
    live = _live_state(value)
    if live is not None or _module_state(value) is not None:
        kind = value.kind if isinstance(value, UnknownObject) else ""
        yield NestedState(".".join(path), live or flatten_module(value), kind)
        return
    value = value.state if isinstance(value, UnknownObject) else value
    if isinstance(value, Mapping):
        if "param_groups" in value:
            return  # of an optimizer, whatever its key
        direct = {k: v for k, v in value.items() if isinstance(k, str) and _is_tensor(v)}
        if direct:
            yield NestedState(".".join(path), direct)
        for key, inner in value.items():
            if isinstance(key, str) and not _is_tensor(inner) and not _of_training(key):
                yield from _walk(inner, (*path, key), seen)
    elif isinstance(value, list | tuple) and len(value) <= _MAX_ITEMS:
        for index, inner in enumerate(value):
            yield from _walk(inner, (*path, str(index)), seen)


def _is_tensor(value: object) -> bool:
    """Whether it is a tensor or a `TensorInfo`."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _of_training(key: str) -> bool:
    """Whether a key leads to what only training needs: the optimizer's state, a criterion."""
    words = any(_TRAINING.fullmatch(word.lower()) for word in _WORD.findall(key))
    lower = key.lower()
    return (
        words or lower.startswith("exp_avg") or lower.endswith(("optimizer", "scheduler", "scaler"))
    )


def _live_state(value: object) -> State | None:
    """The state dict of a live module, as a trusted pickle makes one."""
    method = getattr(value, "state_dict", None)
    if callable(method) and hasattr(value, "named_parameters"):
        return {k: v for k, v in method().items() if _is_tensor(v)}
    return None


def _module_state(value: object) -> Mapping[str, Any] | None:
    """The attributes of a pickled module that was not made; None for anything else."""
    inside = _mapping(value)
    if isinstance(value, UnknownObject) and value.kind.startswith("__torch__."):  # TorchScript's
        return {"_modules": inside, "_parameters": inside}
    return inside if {"_modules", "_parameters"} <= inside.keys() else None


def _mapping(value: object) -> Mapping[str, Any]:
    value = value.state if isinstance(value, UnknownObject) else value
    return value if isinstance(value, Mapping) else {}


def _choose_weights(
    content: object, nested: list[NestedState], *, ema: bool
) -> tuple[NestedState, str, State, str]:
    """The state dict, the prefix of the average in it, the tensors meant, and why if unclear."""
    swapped = _are_swapped(content)
    if not ema or swapped or any(one.is_ema for one in nested):
        chosen, unclear = _choose(nested, ema=ema and not swapped)
        network, _, inner = _split_ema(chosen.state)
        return chosen, inner, network, unclear
    for one in nested:
        _, average, inner = _split_ema(one.state)
        if inner:
            return one, inner, average, ""
    raise _no_average(nested) if nested else _no_network()


def _are_swapped(content: object) -> bool:
    """Whether the average stands in the place of the weights: in files of two libraries.

    Lightning's WeightAveraging and mmengine's EMAHook exchange them on saving.
    """
    outer = hints.as_mapping(content) or {}
    meta = hints.as_mapping(outer.get("meta")) or {}
    return "averaging_state" in outer or ("mmengine_version" in meta and "ema_state_dict" in outer)


def _choose(nested: list[NestedState], *, ema: bool) -> tuple[NestedState, str]:
    """The one that is meant, the usual key before others, the larger before the smaller.

    Args:
        nested: Largest first.
        ema: Take the moving average, and nothing else.

    Returns:
        It, and why it is not clearly meant; empty where it is.

    Raises:
        CheckpointError: There is none.
    """
    if not nested:
        raise _no_network()
    eligible = [one for one in nested if one.is_ema == ema]
    if not eligible and ema:
        raise _no_average(nested)
    eligible = eligible or nested  # an average alone is what there is
    competing = [one for one in eligible if one.size * _COMPETES >= eligible[0].size]
    usual = [one for one in competing if one.is_usual and one.where]
    best = usual or [one for one in competing if one.is_usual] or competing
    if len(best) > 1 and not _are_one(best):
        return best[0], (
            f"it contains several networks, and it is unclear which one is meant: {_listed(best)};"
            f" pass state_dict={best[0].where!r}, or the class of one of them"
        )
    return best[0], ""


def _no_network() -> CheckpointError:
    return CheckpointError(
        "it contains no network: there is no mapping of names to tensors in it; expected a state"
        " dict, as written by torch.save(model.state_dict(), path)"
    )


def _no_average(nested: list[NestedState]) -> CheckpointError:
    return CheckpointError(
        f"it contains no moving average (EMA) of the weights; it has {_listed(nested)}"
    )


def _are_one(nested: list[NestedState]) -> bool:
    """Whether all are one state dict, its very tensors, under several keys."""
    first, *others = (
        {name: (_identity(tensor), tuple(tensor.shape)) for name, tensor in one.state.items()}
        for one in nested
    )
    return all(other == first for other in others)


def _identity(tensor: Any) -> int:
    """The same number for views of the same memory, or for one `TensorInfo`."""
    pointer = getattr(tensor, "data_ptr", None)
    return int(pointer()) if callable(pointer) else id(tensor)


def _listed(nested: list[NestedState]) -> str:
    names = [str(one) for one in nested[:6]]
    return ", ".join(names) + (f" and {len(nested) - 6} more" if len(nested) > 6 else "")


def _split_ema(state: State) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The network, its averaged twin under the network's names, and the average's prefix.

    A part of a name with "ema" in it is not enough, an attention layer may be called that: its
    tensors must mirror others by name and shape. What has no average (statistics of batches) is
    the network's own in both. Without an average: all of it, nothing, and an empty prefix.
    """
    for head in sorted({head for name in state if (head := _ema_prefix(name))}):
        averaged = {name[len(head) :]: state[name] for name in state if name.startswith(head)}
        others = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
        twins = _twins(averaged, others)
        if twins:
            return others, others | {twins[tail]: averaged[tail] for tail in twins}, head
    return dict(state), {}, ""


def _ema_prefix(name: str) -> str:
    """The start of a name up to the first part that speaks of an average, with its dot."""
    if name.startswith(_FLAT_EMA) and "." not in name:
        return _FLAT_EMA
    parts = name.split(".")
    for count, part in enumerate(parts[:_LEADING], start=1):
        if is_ema(part) and count < len(parts):
            return ".".join(parts[:count]) + "."
    return ""


def _twins(averaged: State, others: State) -> dict[str, str]:
    """The name among `others` of each averaged tensor's twin; empty where they are no mirror."""
    # Some averages drop the dots of the names, or write others, so that none are compared.
    known: defaultdict[tuple[str, tuple[int, ...]], dict[str, str]] = defaultdict(dict)
    for name, tensor in others.items():
        for prefix, rest in islice(cuts(name), _LEADING) if not _ema_prefix(name) else ():
            known[_plain(rest), tuple(tensor.shape)][prefix] = name
    votes: Counter[tuple[str, str]] = Counter()
    for tail, tensor in averaged.items():
        for start, rest in islice(cuts(tail), _LEADING):
            key = _plain(rest), tuple(tensor.shape)
            votes.update((start, prefix) for prefix in known.get(key, ()))
    if not votes:
        return {}
    start, prefix = max(votes, key=lambda pair: (votes[pair], is_ema(pair[0])))
    tails = [tail for tail in averaged if tail.startswith(start) and averaged[tail].shape]
    twins = {}
    for tail in tails:
        key = _plain(tail[len(start) :]), tuple(averaged[tail].shape)
        if prefix in known.get(key, ()):
            twins[tail] = known[key][prefix]
    mirrors = len(twins) >= max(_COVERED * len(tails), _SHARE * len(others))
    return twins if mirrors else {}


def _plain(name: str) -> str:
    """A name without what separates its parts."""
    return name.replace(".", "").replace("_", "")
