"""Checkpoint: a file that somebody saved, and what was stated of it, in; a checked Model out.

Nothing is guessed: a network must fit every tensor, and a recipe comes from the file, from the
user, or visibly from the zoo that the network is one of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from toplabel import recipes
from toplabel._compat import declare_missing_operators
from toplabel.architectures import Candidate, identify
from toplabel.architectures.choosing import build, choose
from toplabel.checkpoint import Contents, Outline, find_contents, read_outline
from toplabel.checkpoint.reading import non_finite_names, read_checkpoint
from toplabel.errors import CheckpointError, ModelError, PreprocessError
from toplabel.fitting import build_module, fit, locate_class_file
from toplabel.label_files import order_warning
from toplabel.labels import Labels
from toplabel.model import Model
from toplabel.preprocess import Preprocess
from toplabel.sources import resolve
from toplabel.sources.module import from_module
from toplabel.sources.zoo import zoo_recipe
from toplabel.stated import Stated
from toplabel.suspicion import count_hint

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """A network with the checkpoint's weights.

    Args:
        module: Loaded.
        name: Of its code, for people: `torchvision/resnet18`, `nets.py:MyCNN`.
        zoo: It is one of a zoo's, under this name.
        code: The file of the user's class.
        share: Of its parameters, how much came from the checkpoint.
    """

    module: nn.Module
    name: str
    zoo: str | None = None
    code: Path | None = None
    share: float = 1.0


def load(path: Path, *, stated: Stated, notify: Notify) -> Model:
    """The classifier in a checkpoint file.

    Args:
        path: A file of torch's or in the safetensors format, or the index of such.
        stated: What the user says of it.
        notify: Called with one line for each thing that is assumed or left out.

    Raises:
        CheckpointError: It cannot be read, would run code, or fits no network.
        ModelError: The network cannot be used as a classifier.
        LabelsError: The labels do not fit its outputs.
        PreprocessError: There is no recipe, or it cannot be expressed.
        MissingDependency: torch is too old to read such a file safely.
    """
    declare_missing_operators()  # for code of the user's that imports torchvision
    outline = read_outline(path)
    content = read_checkpoint(outline, allow_globals=stated.allow_globals, trust=stated.trust)
    contents = _contents(content, outline, stated)
    _check_finite(contents, path)
    network = _network(content, contents, stated, path=path, notify=notify)
    recipe = _recipe(contents, network, stated, path=path, notify=notify)
    model = from_module(
        network.module,
        preprocess=recipe,
        labels=None,
        multi_label=stated.multi_label,
        name=f"checkpoint/{path.name}",
    )
    labels = _labels(contents, stated, outputs=len(model.labels), path=path, notify=notify)
    return replace(
        model,
        labels=labels,
        weights_files=(*outline.files, *([network.code] if network.code else [])),
        provenance=_provenance(outline, contents, network),
    )


def _contents(content: Any, outline: Outline, stated: Stated) -> Contents:
    if isinstance(content, nn.Module):
        return Contents.of_state(content.state_dict())
    return find_contents(content, metadata=outline.metadata, ema=stated.ema)


def _check_finite(contents: Contents, path: Path) -> None:
    names = non_finite_names(contents.state)
    if names:
        raise ModelError(
            f"non_finite: {len(names)} tensors of {path} hold NaN or infinity, {names[0]!r} first;"
            " the training diverged, or the file is damaged: take an earlier checkpoint"
        )


def _network(
    content: Any, contents: Contents, stated: Stated, *, path: Path, notify: Notify
) -> _Network:
    """The network that was stated, that the file holds whole, or that its tensors tell."""
    if isinstance(stated.arch, str) and ":" not in stated.arch:
        return _named_network(stated.arch, contents, stated, path=path, notify=notify)
    if stated.arch is not None:
        return _own_network(stated.arch, contents, stated, path=path, notify=notify)
    if isinstance(content, nn.Module):
        return _Network(module=content, name=type(content).__name__)
    return _identified_network(contents, path=path, notify=notify)


def _own_network(
    arch: Any, contents: Contents, stated: Stated, *, path: Path, notify: Notify
) -> _Network:
    """The user's own class, function or network."""
    module = build_module(arch, stated.arch_args)
    name = arch if isinstance(arch, str) else type(module).__name__
    code = locate_class_file(arch) if isinstance(arch, str) else None
    if code is not None:
        notify(
            f"changes of {code.name} are noticed, changes of files that it imports are not: say"
            " --recompile after such"
        )
    share = _fit(module, contents, stated, path=path, notify=notify)
    return _Network(module=module, name=name, code=code, share=share)


def _named_network(
    arch: str, contents: Contents, stated: Stated, *, path: Path, notify: Notify
) -> _Network:
    """A zoo's architecture, with as many classes and channels as the tensors tell."""
    name = resolve(arch)
    source, _, bare = name.partition("/")
    if source not in ("torchvision", "timm"):
        raise CheckpointError(
            f"got {arch!r} as the architecture of {path}; expected a name of torchvision's or"
            " timm's, package.module:Class, or nets.py:Class"
        )
    library: Literal["torchvision", "timm"] = "timm" if source == "timm" else "torchvision"
    bare = bare.partition(":" if library == "torchvision" else ".")[0]
    shapes = {key: tuple(value.shape) for key, value in contents.state.items()}
    fitting = [c for c in identify(shapes) if (c.library, c.name) == (library, bare)]
    arguments = dict(fitting[0].arguments if fitting else {}) | dict(stated.arch_args)
    candidate = Candidate(
        library=library,
        name=bare,
        classes=fitting[0].classes if fitting else 1000,
        in_channels=fitting[0].in_channels if fitting else 3,
        prefix="",
        unused=(),
        arguments=arguments,
    )
    module = build(candidate)
    share = _fit(module, contents, stated, path=path, notify=notify)
    return _Network(module=module, name=f"{library}/{bare}", zoo=f"{library}/{bare}", share=share)


def _identified_network(contents: Contents, *, path: Path, notify: Notify) -> _Network:
    """The zoos' architecture that fits every tensor; of several, only where they compute alike."""
    shapes = {key: tuple(value.shape) for key, value in contents.state.items()}
    candidates = identify(shapes)
    named = (contents.architecture or "").partition(".")[0]
    said = [c for c in candidates if c.name == named]
    groups = choose(said or candidates, contents.state)
    if not groups:
        raise CheckpointError(
            f"no architecture of torchvision or timm fits every tensor of {path}; say which"
            " network it is: --arch nets.py:MyCNN, or --arch NAME with --arch-arg"
        )
    if len(groups) > 1:
        names = ", ".join(f"{group[0][0].library}/{group[0][0].name}" for group in groups)
        raise CheckpointError(
            f"{len(groups)} architectures fit every tensor of {path} and give different answers:"
            f" {names}; say which one it was trained as: --arch NAME"
        )
    candidate, module = groups[0][0]
    name = f"{candidate.library}/{candidate.name}"
    channels = "1 channel" if candidate.in_channels == 1 else f"{candidate.in_channels} channels"
    notify(
        f"{path.name} is {name} with {candidate.classes} classes and {channels}, by the names and"
        " shapes of all its tensors"
    )
    return _Network(module=module, name=name, zoo=name)


def _fit(
    module: nn.Module, contents: Contents, stated: Stated, *, path: Path, notify: Notify
) -> float:
    found = fit(module, contents.state, allow_partial=stated.allow_partial, name=str(path))
    for note in found.notes:
        notify(note)
    return found.share


def _recipe(
    contents: Contents, network: _Network, stated: Stated, *, path: Path, notify: Notify
) -> Preprocess:
    """The recipe that was stated, that stands in the file, or visibly that of the zoo's entry."""
    given = stated.read_preprocess()
    if given is not None:
        return given
    if contents.preprocess is not None:
        return recipes.translate(contents.preprocess)
    assumed = network.zoo and zoo_recipe(network.zoo)
    if assumed and assumed.num_channels == _input_channels(network.module):
        height, width = assumed.input_size
        notify(
            f"assuming that {path.name} was validated with the preprocessing of {network.zoo}'s"
            f" own weights, {height}x{width} pixels; say --preprocess if it was another"
        )
        return assumed
    raise PreprocessError(
        f"{path} does not say how its pictures were preprocessed, and a wrong guess gives wrong"
        " labels without an error; state it: --preprocess imagenet-crop-256-224 (toplabel models"
        " --preprocess lists the presets) or a JSON file; `toplabel doctor` compares candidates on"
        " labelled pictures"
    )


def _input_channels(module: nn.Module) -> int | None:
    """What the first convolution takes."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
    return None


def _labels(
    contents: Contents, stated: Stated, *, outputs: int, path: Path, notify: Notify
) -> Labels:
    """The labels that were stated or stand in the file, one for each output; else indices."""
    labels = stated.read_labels()
    if labels is None:
        labels = contents.labels
    if labels is None:
        notify(f"{path.name} has no class names: labels are indices; say --labels for names")
        return Labels.indices(outputs)
    labels.check_count(outputs, hint=count_hint(outputs, len(labels)))
    if warning := order_warning(labels):
        notify(warning)
    return labels


def _provenance(outline: Outline, contents: Contents, network: _Network) -> dict[str, str]:
    known: Mapping[str, str | None] = {
        "source": "checkpoint",
        "file": outline.path.name,
        "format": outline.format,
        "state_dict": contents.where or None,
        "architecture": network.name,
        "loaded": f"{network.share:.1%} of the parameters" if network.share < 1 else None,
        "library": f"torch {torch.__version__}",
    }
    return {name: value for name, value in known.items() if value}
