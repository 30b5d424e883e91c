"""A network and a state dict in; the network with these weights, or a report of what differs, out.

Wrappers put prefixes before names: DataParallel `module.`, torch.compile `_orig_mod.`, a
LightningModule whatever its attribute is called. Which, is found by what makes most tensors agree.
"""

from __future__ import annotations

import inspect
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from toplabel._internal.text import number_of
from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.state_dict_search import is_ema
from toplabel.models.fit.file_arguments import CHANNELS, CLASSES
from toplabel.models.prefixes import (
    NORMALISATION,
    PROFILED,
    TABLES,
    cuts,
    is_adapter,
    is_training_state,
    without_wrappers,
)

Shape = tuple[int, ...]

_FIRST = 10  # names of each kind that are shown
_LINES = 24  # of the whole report, so that it stays on a screen


@dataclass(frozen=True, slots=True)
class LoadResult:
    """How a state dict was loaded.

    Args:
        share: Of the network's parameters, by their numbers, that were loaded: 1.0 for all.
        prefix: What the file's names have before the network's.
        notes: What a person should know of it, a sentence each.
        left_out: The file's tensors that stand beside the network under other prefixes.
    """

    share: float
    prefix: str
    notes: tuple[str, ...]
    left_out: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NameMatch:
    """Which tensor of a file is which of a network, by name alone.

    Args:
        names: The network's name -> the file's name.
        prefix: What the file puts before the network's names; empty for nothing.
        agreeing: How many of them have the same shape too.
    """

    names: Mapping[str, str]
    prefix: str
    agreeing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Where the names and shapes of a file and of a network differ.

    Args:
        total: How many tensors the network needs.
        missing: Those that the file lacks, with their shapes.
        unexpected: Those that only the file has, by the file's names.
        shape_mismatches: By the network's names: the file's shape, the network's.
        dtype_mismatches: Those of another kind of numbers: the file's dtype, the network's.
    """

    total: int
    missing: Mapping[str, Shape] = field(default_factory=dict)
    unexpected: Mapping[str, Shape] = field(default_factory=dict)
    shape_mismatches: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    dtype_mismatches: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatches)

    @property
    def mismatches(self) -> Mapping[str, tuple[object, object]]:
        """The tensors of another shape or kind of numbers together."""
        return {**self.shape_mismatches, **self.dtype_mismatches}

    @property
    def matching(self) -> int:
        """How many of the network's tensors the file has, in their shape."""
        return self.total - len(self.missing) - len(self.mismatches)

    def describe(self, module: nn.Module, name: str) -> str:
        """A line that sums it up, the first names of each kind, and what to do: at most 25 lines.

        Args:
            module: The network.
            name: What to call the file.
        """
        network = type(module).__name__
        summary = (
            f"{name} does not fit {network}: {self.matching} of {self.total} tensors match,"
            f" {len(self.missing)} are missing from the file, {len(self.unexpected)} are unexpected"
            f" in it, {len(self.mismatches)} have a different shape or dtype"
        )
        sections = {
            f"missing from the file, in {network}": [f"{n} {s}" for n, s in self.missing.items()],
            "unexpected in the file": [f"{n} {s}" for n, s in self.unexpected.items()],
            "in both, but different": [
                f"{n}: the file has {theirs}, the class creates {ours}"
                for n, (theirs, ours) in self.mismatches.items()
            ],
        }
        sections = {title: names for title, names in sections.items() if names}
        advice = self._advice(module)
        left = _LINES - 1 - len(sections) - len(advice)
        share = min(_FIRST, left // max(1, len(sections)))
        lines = [summary]
        for title, names in sections.items():
            first = f", the first {share} of {len(names)}" if len(names) > share else ""
            lines += [f"  {title}{first}:", *(f"    {line}" for line in names[:share])]
        return "\n".join([*lines, *(f"  {line}" for line in advice)])

    def _advice(self, module: nn.Module) -> list[str]:
        if self.matching + len(self.mismatches) == 0:
            return ["no name matches: this is another architecture, or another class of that name"]
        advice = []
        if classes := _common_change(self.shape_mismatches, axis=0, from_axis=0):
            argument = _argument(module, CLASSES, classes)
            advice.append(f"the file has {number_of(classes, 'output')}: try {argument}")
        if channels := _common_change(self.shape_mismatches, axis=1, from_axis=2):
            argument = _argument(module, CHANNELS, channels)
            advice.append(f"the file has {number_of(channels, 'input channel')}: try {argument}")
        adapter = next((name for name in self.unexpected if is_adapter(name)), None)
        if adapter:
            advice.append(
                f"{adapter} is of an adapter (LoRA) beside the network: merge it where it was"
                " trained, model.merge_and_unload(), and save the state dict again"
            )
        elif not (self.missing or self.mismatches):
            advice.append(
                "the file has layers that the class lacks, and its answers would be wrong without"
                " them: pass the class that it was trained with"
            )
        elif not (self.unexpected or self.mismatches):
            advice.append(
                "the class has layers that the file lacks, such as a classifier: pass the class"
                " that it was trained with"
            )
        return advice or ["pass the class that it was trained with, and the same arguments"]


def load_state_dict(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    allow_partial: bool = False,
    name: str = "the checkpoint",
) -> LoadResult:
    """Load a state dict into a network, in place, once its names are matched.

    Args:
        module: On the CPU.
        state: Names may have any prefix before the network's.
        allow_partial: Load what agrees in name and shape, and leave the rest as it was made.
        name: What to call the state dict in messages.

    Raises:
        CheckpointError: Names or shapes differ, and how; the file holds the network twice;
            or nothing at all could be loaded.
    """
    wanted = module.state_dict(keep_vars=True)
    match, *others = match_names(
        {ours: _shape_of(tensor) for ours, tensor in wanted.items() if torch.is_tensor(tensor)},
        {theirs: tuple(tensor.shape) for theirs, tensor in state.items()},
    )
    report, notes = _compare(wanted, state, match)
    left_out: Mapping[str, Shape] = {}
    if not (report.missing or report.mismatches):
        _check_single(module, state, match, others, name)
        report, left_out = _without_siblings(report, match)
    # A strict load casts numbers of another kind silently.
    if report and not report.dtype_mismatches and _loads_by_itself(module, state, match, report):
        notes = [*notes, "the class itself renames the tensors of the file"]
        return LoadResult(1.0, match.prefix, tuple(notes))
    if report and not allow_partial:
        raise CheckpointError(report.describe(module, name))
    usable = {
        ours: state[theirs] for ours, theirs in match.names.items() if ours not in report.mismatches
    }
    _check_ties(wanted, usable, name)
    share = _share(module, wanted, usable)
    if share == 0:
        raise CheckpointError(f"nothing of {name} could be loaded: {report.describe(module, name)}")
    loaded = OrderedDict(usable)
    loaded._metadata = wanted._metadata  # type: ignore[attr-defined]  # its version; some ask for it
    module.load_state_dict(loaded, strict=False)
    if report:
        notes = [*notes, _partial_note(module, wanted, usable, share)]
    return LoadResult(share, match.prefix, tuple(notes), left_out)


def fits(module: nn.Module, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict has all of a network's tensors, and beside them none within it."""
    wanted = module.state_dict(keep_vars=True)
    match, *_ = match_names(
        {ours: _shape_of(tensor) for ours, tensor in wanted.items() if torch.is_tensor(tensor)},
        {theirs: tuple(tensor.shape) for theirs, tensor in state.items()},
    )
    report, _ = _compare(wanted, state, match)
    return not (report.missing or report.mismatches or _without_siblings(report, match)[0])


def _without_siblings(
    report: LoadReport, match: NameMatch
) -> tuple[LoadReport, Mapping[str, Shape]]:
    """The report without what stands beside the network under other prefixes, and that."""
    beside = match.prefix and not any(name.startswith(match.prefix) for name in report.unexpected)
    return (replace(report, unexpected={}), report.unexpected) if beside else (report, {})


def match_names(
    wanted: Mapping[str, Shape | None], given: Mapping[str, Shape]
) -> tuple[NameMatch, ...]:
    """The ways to name the file's tensors so that most agree with the network's.

    Args:
        wanted: The network's names and shapes; None for a shape that any file's is right for.
        given: The file's.

    Returns:
        One way, mostly. Several where a file holds the network more than once under different
        prefixes; a moving average beside the network does not count. One that names nothing, where
        no name agrees.
    """
    wanted_names, given_names = without_wrappers(wanted), without_wrappers(given)
    agreeing: Counter[tuple[str, str]] = Counter()
    named: Counter[tuple[str, str]] = Counter()
    for lacks in _shared_starts(wanted_names):
        rests = {plain[len(lacks) :]: wanted[name] for plain, name in wanted_names.items()}
        for plain, name in given_names.items():
            for prefix, rest in cuts(plain):
                if rest in rests:
                    named[prefix, lacks] += 1
                    agreeing[prefix, lacks] += rests[rest] in (None, given[name])
    if not named:
        return (NameMatch({}, "", 0),)
    best = max((agreeing[way], named[way]) for way in named)
    ways = [way for way in named if (agreeing[way], named[way]) == best]
    ways = [way for way in ways if not is_ema(way[0])] or ways
    matches: dict[tuple[str, ...], NameMatch] = {}
    for way in sorted(ways, key=lambda way: (len(way[0]) + len(way[1]), way)):
        match = _match(way, wanted_names, given_names, agreeing[way])
        matches.setdefault(tuple(match.names.values()), match)
    return tuple(matches.values())


def _match(
    way: tuple[str, str], wanted: Mapping[str, str], given: Mapping[str, str], agreeing: int
) -> NameMatch:
    """The names that agree once `prefix` is taken from the file's and `lacks` put before them."""
    prefix, lacks = way
    names = {}
    for plain, name in wanted.items():
        found = given.get(prefix + plain[len(lacks) :])
        if found is not None:
            names[name] = found
    starts = {
        theirs[: -len(rest)] if theirs.endswith(rest := ours[len(lacks) :]) else ""
        for ours, theirs in names.items()
    }
    return NameMatch(names, starts.pop() if len(starts) == 1 else prefix, agreeing)


def _shared_starts(names: Collection[str]) -> list[str]:
    """Every start, up to a dot, that all of the names have; the empty one too."""
    split = [name.split(".")[:-1] for name in names]
    starts = [""]
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        starts.append(f"{starts[-1]}{parts[0]}.")
    return starts


def _compare(
    wanted: Mapping[str, Any], state: Mapping[str, torch.Tensor], match: NameMatch
) -> tuple[LoadReport, list[str]]:
    """What keeps the file from being the network's, and notes on what differs and does not matter.

    Args:
        wanted: The network's state dict; its values are its own parameters and buffers.
        state: The file's.
        match: Which is which by name.
    """
    missing, notes = _missing(wanted, match)
    unexpected, harmless = _unexpected(state, match)
    pairs = {ours: (state[theirs], wanted[ours]) for ours, theirs in match.names.items()}
    shapes, dtypes = {}, {}
    for ours, (theirs, own) in pairs.items():
        if not is_lazy(own) and own.shape != theirs.shape:
            shapes[ours] = tuple(theirs.shape), tuple(own.shape)
        elif not _same_kind(theirs, own, ours):
            dtypes[ours] = _named(theirs.dtype), _named(own.dtype)
    report = LoadReport(
        total=len(match.names) + len(missing),
        missing=missing,
        unexpected=unexpected,
        shape_mismatches=shapes,
        dtype_mismatches=dtypes,
    )
    return report, [*notes, *harmless, *_precision_notes(pairs)]


def _missing(wanted: Mapping[str, Any], match: NameMatch) -> tuple[dict[str, Shape], list[str]]:
    """The network's tensors that the file lacks, but for counters and twins of what it has."""
    loaded = {id(wanted[ours]) for ours in match.names}
    missing: dict[str, Shape] = {}
    counters = []
    for ours, tensor in wanted.items():
        if ours in match.names or id(tensor) in loaded:
            continue
        if not ours.endswith("num_batches_tracked"):
            missing[ours] = _shape_of(tensor) or ()
        elif ours.replace("num_batches_tracked", "running_mean") in match.names:
            counters.append(ours)
    note = "the file has no num_batches_tracked, like old files; answers do not depend on it"
    return missing, [note] if counters else []


def _unexpected(
    state: Mapping[str, torch.Tensor], match: NameMatch
) -> tuple[dict[str, Shape], list[str]]:
    """The file's tensors that have no place, but for those that are no part of any network."""
    used = set(match.names.values())
    unexpected, beside = {}, []
    for theirs, tensor in state.items():
        if theirs in used:
            continue
        outside = not match.prefix or not theirs.startswith(match.prefix)
        last = theirs.rpartition(".")[2]
        counter = last in {*PROFILED, "num_batches_tracked"} and tensor.numel() == 1
        training = is_training_state(theirs) or (match.prefix and not tensor.ndim)  # a step
        counter = counter or theirs.startswith(NORMALISATION)
        if counter or last in TABLES or (outside and training):
            beside.append(theirs)
        else:
            unexpected[theirs] = tuple(tensor.shape)
    more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
    note = f"ignored, as not part of the network: {', '.join(beside[:3])}{more}"
    return unexpected, [note] if beside else []


def _same_kind(theirs: torch.Tensor, own: Any, name: str) -> bool:
    """Whether a number of the file means the same in the network: no integer as a weight."""
    if name.endswith("num_batches_tracked"):
        return True  # averages of weights keep it as a float
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (theirs, own)]
    return kinds[0] == kinds[1]


def _precision_notes(pairs: Mapping[str, tuple[torch.Tensor, Any]]) -> list[str]:
    changed = {
        (_named(theirs.dtype), _named(own.dtype))
        for theirs, own in pairs.values()
        if theirs.is_floating_point() and own.is_floating_point() and theirs.dtype != own.dtype
    }
    return [
        f"weights are {theirs} in the file and {own} in the network"
        for theirs, own in sorted(changed)
    ]


def _shape_of(tensor: Any) -> Shape | None:
    """The shape of a tensor; None for a lazy layer's, that the file's shape will become."""
    return None if is_lazy(tensor) else tuple(getattr(tensor, "shape", ()))


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_single(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    match: NameMatch,
    others: Sequence[NameMatch],
    name: str,
) -> None:
    """Stop where the file has the whole network once more, with other weights."""
    different = [
        other
        for other in others
        if any(
            not torch.equal(state[match.names[ours]], state[theirs])
            for ours, theirs in other.names.items()
        )
    ]
    if different:
        prefixes = " and ".join(repr(one.prefix) for one in (match, *different))
        raise CheckpointError(
            f"{name} contains {type(module).__name__} {len(different) + 1} times with different"
            f" weights, under {prefixes}; pass the one that is meant:"
            f" state_dict={match.prefix.rstrip('.')!r}"
        )


def _check_ties(wanted: Mapping[str, Any], usable: Mapping[str, torch.Tensor], name: str) -> None:
    """Stop where the network has one tensor under two names, and the file two different ones."""
    first: dict[int, str] = {}
    for ours, tensor in usable.items():
        twin = first.setdefault(id(wanted[ours]), ours)
        if twin != ours and not torch.equal(usable[twin].float(), tensor.float()):
            raise CheckpointError(
                f"{name} has different weights for {twin} and {ours}, which the network shares; it"
                " was trained with another version of the class"
            )


def _loads_by_itself(
    module: nn.Module, state: Mapping[str, torch.Tensor], match: NameMatch, report: LoadReport
) -> bool:
    """Whether hooks of the class rename the file's tensors so that every one has its place.

    A weight normalisation loads its older names so. Where they do not, nothing has changed.
    """
    before = module.state_dict()
    beyond = [name for name in report.unexpected if not name.startswith(match.prefix)]
    if beyond or not _has_hooks(module) or any(map(is_lazy, before.values())):
        return False
    before = {key: value.clone() for key, value in before.items() if torch.is_tensor(value)}
    stripped = {
        key.removeprefix(match.prefix): value
        for key, value in state.items()
        if key.startswith(match.prefix)
    }
    try:
        nn.Module.load_state_dict(module, stripped, strict=True)
    except RuntimeError:
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if key in before:
                    value.copy_(before[key])
        return False
    return True


def _has_hooks(module: nn.Module) -> bool:
    if any(part._load_state_dict_pre_hooks for part in module.modules()):
        return True
    kinds = {type(part) for part in module.modules()}
    theirs = [kind for kind in kinds if not kind.__module__.startswith("torch.nn.")]
    return any(kind._load_from_state_dict is not nn.Module._load_from_state_dict for kind in theirs)


def _share(
    module: nn.Module, wanted: Mapping[str, Any], usable: Mapping[str, torch.Tensor]
) -> float:
    """Of the numbers in all parameters, those that are loaded; of the buffers, if it has none."""
    loaded = {id(wanted[ours]): tensor.numel() for ours, tensor in usable.items()}
    parameters = {id(p): 0 if is_lazy(p) else p.numel() for p in module.parameters()}
    if not parameters:
        parameters = {id(b): b.numel() for b in module.buffers()}
    total = sum(size or loaded.get(key, 0) for key, size in parameters.items())
    return sum(loaded.get(key, 0) for key in parameters) / total if total else 0.0


def _partial_note(
    module: nn.Module, wanted: Mapping[str, Any], usable: Mapping[str, torch.Tensor], share: float
) -> str:
    loaded = {id(wanted[ours]) for ours in usable}
    absent = [ours for ours, tensor in wanted.items() if id(tensor) not in loaded]
    if not absent:
        return "the whole network was loaded, but not the whole file; answers may be wrong"
    more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
    return (
        f"only {share:.1%} of the parameters of {type(module).__name__} were loaded;"
        f" {', '.join(absent[:10])}{more} keep their initial values, so answers may be wrong"
    )


def _common_change(
    mismatches: Mapping[str, tuple[Shape, Shape]], *, axis: int, from_axis: int
) -> int:
    """The file's size along an axis, where few tensors differ, in that and all in one way; or 0."""
    changes = set()
    for theirs, ours in mismatches.values():
        if len(theirs) == len(ours) > from_axis:
            differing = [
                at for at, pair in enumerate(zip(theirs, ours, strict=True)) if len(set(pair)) > 1
            ]
            if differing == [axis]:
                changes.add((theirs[axis], ours[axis]))
    return changes.pop()[0] if len(changes) == 1 else 0


def _argument(module: nn.Module, usual: Sequence[str], value: int) -> str:
    """How to give the class an argument, which it calls by one of the usual names."""
    name = usual[0]
    with suppress(TypeError, ValueError):
        taken = inspect.signature(type(module)).parameters
        name = next((one for one in usual if one in taken), name)
    return f'arch_args={{"{name}": {value}}}'
