"""Resolve: a script and a checkpoint's tensors in; the network, and options filled in, out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toplabel._internal.notices import quiet_libraries, warn
from toplabel._internal.text import number_of
from toplabel.errors import (
    CheckpointError,
    LabelsError,
    PreprocessError,
    ToplabelError,
    UsageError,
)
from toplabel.models.fit.global_state import global_state_kept
from toplabel.models.input_size import find_input_size
from toplabel.models.options import ModelOptions
from toplabel.models.outputs import leaves_of
from toplabel.models.script.interpret import Interpreter
from toplabel.models.script.names import FoundNames, find_names
from toplabel.models.script.networks import Candidate, candidates, try_candidates
from toplabel.models.script.project import Project
from toplabel.models.script.recipe import Way
from toplabel.models.script.sources import Unit
from toplabel.models.script.traces import Found, find_preprocess, has_opened, is_same_network
from toplabel.models.script.values import Made, Place

_SHOWN = 6

logger = logging.getLogger(__name__)


class Flattened(nn.Module):
    """A network that takes rows of numbers, given images: the script flattens them outside."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> Any:
        """Scores of a batch (N, C, H, W)."""
        return self.network(batch.flatten(1))


@dataclass(frozen=True, eq=False)
class Resolved:
    """What a script says of a checkpoint.

    Args:
        module: The network with the checkpoint's weights.
        name: Of its class, with its file.
        options: As they were given, with what they lacked.
        files: Of the script that were read.
        sentence: What was found where, in one line.
        doubts: What may make a label wrong, a sentence each.
        problem: Why the script's preprocessing, or its names, cannot be used.
    """

    module: nn.Module
    name: str
    options: ModelOptions
    files: tuple[Path, ...]
    sentence: str
    doubts: tuple[str, ...]
    problem: ToplabelError | None = None

    def tell(self) -> ModelOptions:
        """The options, after what was found is said.

        Raises:
            PreprocessError, LabelsError: What the script says cannot be used.
        """
        if self.problem is not None:
            raise type(self.problem)(f"{self.sentence}; {self.problem}")
        logger.info("%s", self.sentence)
        for doubt in self.doubts:
            warn(doubt)
        return self.options


@global_state_kept()
def resolve(
    script: str | os.PathLike[str],
    state: Mapping[str, torch.Tensor],
    options: ModelOptions,
    *,
    checkpoint: Path,
) -> Resolved:
    """The network of a checkpoint by its script; what the user states wins.

    Args:
        script: A .py, .ipynb or Markdown file, or a folder of them.
        state: The checkpoint's state dict.
        options: What the user states.
        checkpoint: The file, whose name may name a data set.

    Raises:
        UsageError: There is no such script, or no such class in it.
        CheckpointError: The tensors fit none of its classes, or several.
    """
    project = Project(Path(script))
    interpreter = Interpreter(project)
    named = list(project.main)
    for unit in named:
        interpreter.follow(unit)
    outputs = _count_outputs(state)
    network = _network(interpreter, named, state, options, outputs)
    found, labels = None, None
    problem: ToplabelError | None = None
    wanted = options.preprocess_in_script()
    if options.preprocess is None or wanted:
        try:
            found = _preprocess(interpreter, named, network, project, checkpoint, wanted)
        except PreprocessError as error:
            problem = error
    module = network.module
    assert module is not None
    if found is not None and found.flat:
        module = Flattened(module)
    taken = None if options.output is not None else _output(interpreter, network, module, found)
    output = taken[0] if taken else options.output
    if options.labels is None:
        count = _outputs_of(module, found, output) or outputs or 0
        try:
            labels = _names(interpreter, named, network, found, count)
        except LabelsError as error:
            problem = problem or error
    filled = replace(
        options,
        preprocess=found.preprocess if found else options.preprocess,
        labels=list(labels.names) if labels else options.labels,
        output=output,
    )
    return Resolved(
        module=module,
        name=f"{network.place.unit.name}:{network.name}",
        options=filled,
        files=project.files,
        sentence=_sentence(network, found, labels, taken),
        doubts=(found.doubts if found else ()) + _problems(project),
        problem=problem,
    )


def _network(
    interpreter: Interpreter,
    named: list[Unit],
    state: Mapping[str, torch.Tensor],
    options: ModelOptions,
    outputs: int | None,
) -> Candidate:
    """The one that every tensor fits.

    Raises:
        UsageError: The class that is named is not there.
        CheckpointError: None fits, or several that differ.
    """
    found = candidates(interpreter, named)
    if not found and not interpreter.project.is_folder:  # a pickle names its class by itself
        for unit in interpreter.project.beside():
            interpreter.enter(unit)
        found = candidates(interpreter, named)
    if isinstance(options.arch, str):
        wanted = options.arch.rpartition(":")[2]
        close = [one for one in found if wanted in (one.name, str(one.place))]
        if not close:
            has = ", ".join(dict.fromkeys(f"{one.name} ({one.place})" for one in found)) or "none"
            raise UsageError(f"the script has no network {wanted!r}; it has {has}")
        found = close
    if not found:
        raise CheckpointError(
            "found no network in the script: no class that derives from nn.Module, no"
            " nn.Sequential, and no network of torchvision's or timm's"
            + "".join(f"; {problem}" for problem in interpreter.project.problems[:2])
        )
    arguments = options.arch_args
    fitting = try_candidates(found, interpreter, state, outputs=outputs, arguments=arguments)
    if not fitting and _follow_importers(interpreter, named):  # they may make it otherwise
        more = [one for one in candidates(interpreter, named) if not _is_among(one, found)]
        fitting = try_candidates(more, interpreter, state, outputs=outputs, arguments=arguments)
    if not fitting:
        tried = [f"{one.name} ({one.place}): {one.problem}" for one in found[:_SHOWN]]
        raise CheckpointError(
            "the checkpoint's tensors fit no network in the script, which may belong to another"
            f" checkpoint: {'; '.join(dict.fromkeys(tried))}"
        )
    largest = max(map(_count_tensors, fitting))  # a part of a network fits a part of the tensors
    fitting = [one for one in fitting if _count_tensors(one) == largest]
    own = [one for one in fitting if one.own] or fitting
    made = [one for one in own if one.made_at is not None] or own
    different = [made[0], *(one for one in made[1:] if not _compute_the_same(made[0], one))]
    if len(different) > 1:
        listed = ", ".join(f"{one.name} ({one.place})" for one in different)
        raise CheckpointError(
            f"the checkpoint's tensors fit {len(different)} networks in the script, which may"
            f' answer differently: {listed}; pass the one that it was trained as: arch="NAME"'
        )
    return made[0]


def _count_tensors(one: Candidate) -> int:
    return 0 if one.module is None else len(one.module.state_dict())


def _is_among(one: Candidate, others: list[Candidate]) -> bool:
    return any(one.value is other.value for other in others)


def _compute_the_same(one: Candidate, other: Candidate) -> bool:
    """Whether two networks with the same weights are written alike, or answer alike."""
    if one.text and one.text == other.text and str(one.module) == str(other.module):
        return True
    first, second = one.module, other.module
    assert first is not None
    assert second is not None
    size = find_input_size(first)
    if size.low is None:
        return False
    shape = (2, size.channels, size.side or size.low, size.side or size.low)
    batch = torch.rand(shape, generator=torch.Generator().manual_seed(11))
    if size.flat:
        batch = batch.flatten(1)
    with torch.no_grad(), quiet_libraries():
        try:
            left, right = first(batch), second(batch)
        except Exception:  # their code
            return False
    both = isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)
    return both and left.shape == right.shape and torch.allclose(left, right, atol=1e-5)


def _preprocess(
    interpreter: Interpreter,
    named: list[Unit],
    network: Candidate,
    project: Project,
    checkpoint: Path,
    wanted: str,
) -> Found:
    words = " ".join([checkpoint.name, *_data_set_names(interpreter)])
    if not project.is_folder and not has_opened(interpreter):
        named = [*named, *_follow_importers(interpreter, named)]
    return find_preprocess(interpreter, named, network, words=words, wanted=wanted)


def _names(
    interpreter: Interpreter,
    named: list[Unit],
    network: Candidate,
    found: Found | None,
    outputs: int,
) -> FoundNames | None:
    """The class names of a network with so many outputs.

    Raises:
        LabelsError: Two lists contradict each other.
    """
    units = [*named, network.place.unit]
    dataset = found.use.way.last.origin.dataset if found else None
    return find_names(
        interpreter, units, outputs, dataset, lambda called: is_same_network(called, network)
    )


def _follow_importers(interpreter: Interpreter, named: list[Unit]) -> list[Unit]:
    """Follow the files beside that import what the user named."""
    found = [other for unit in named[:1] for other in interpreter.project.importers(unit)]
    for other in found:
        interpreter.follow(other)
    return found


def _data_set_names(interpreter: Interpreter) -> list[str]:
    names = [one.last for one in interpreter.noted.datasets if isinstance(one, Made)]
    return list(dict.fromkeys(names)) if len(set(names)) == 1 else []


def _count_outputs(state: Mapping[str, torch.Tensor]) -> int | None:
    """The rows of the last matrix."""
    matrices = [tensor for tensor in state.values() if tensor.ndim == 2]
    kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
    last = matrices[-1] if matrices else kernels[-1] if kernels else None
    return None if last is None else int(last.shape[0])


def _output(
    interpreter: Interpreter, network: Candidate, module: nn.Module, found: Found | None
) -> tuple[str, Place] | None:
    """The output of which the script takes the highest score, of a network that gives several."""
    places = {
        part: place
        for part, place, networks in interpreter.noted.parts
        if any(is_same_network(one, network) for one in networks)
    }
    if len(places) != 1:
        return None
    ((part, place),) = places.items()
    outputs = dict(leaves_of(_try_out(module, found)))
    return (str(part), place) if len(outputs) > 1 and str(part) in outputs else None


def _outputs_of(module: nn.Module, found: Found | None, output: str | int | None) -> int | None:
    given = _try_out(module, found)
    if isinstance(output, str):
        given = dict(leaves_of(given)).get(output, given)
    while isinstance(given, tuple | list) and given:
        given = given[0]
    is_rows = isinstance(given, torch.Tensor) and given.ndim >= 2
    return int(given.shape[1]) if is_rows else None


def _try_out(module: nn.Module, found: Found | None) -> Any:
    """What a network gives for two black images; None where it fails."""
    if found is None:
        return None
    from toplabel.models.script.operations import drawn

    made = found.preprocess
    channels = made(drawn((40, 40))).shape[0] if isinstance(made, Way) else made.num_channels
    with torch.no_grad():
        try:
            return module(torch.zeros((2, channels, *found.size)))
        except Exception:  # their code
            return None


def _sentence(
    network: Candidate,
    found: Found | None,
    labels: FoundNames | None,
    taken: tuple[str, Place] | None,
) -> str:
    kind = "class" if not isinstance(network.value, Made) else "network"
    parts = [f"{kind} {network.name} ({network.place})"]
    if found is not None:
        height, width = found.size
        parts.append(f"preprocessing {found.use.steps}")
        parts.append(f"{height} x {width} ({found.size_reason})")
    if labels is not None:
        parts.append(f"{number_of(len(labels.names), 'name')} ({labels.place})")
    if taken is not None:
        parts.append(f"output {taken[0]} ({taken[1]})")
    if network.holes:
        parts.append(f"{', '.join(dict.fromkeys(network.holes))} by the tensors")
    return f"using {', '.join(parts)}"


def _problems(project: Project) -> tuple[str, ...]:
    return tuple(f"the script was read in part: {problem}" for problem in project.problems[:1])
