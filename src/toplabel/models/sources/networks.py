"""Networks: a checkpoint's contents and what was stated in; the network with these weights out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from toplabel._internal.notices import warn
from toplabel.bundle.cache import FileSignature
from toplabel.errors import CheckpointError, ModelError, ModelNotFound, UsageError
from toplabel.models.architectures.build import build
from toplabel.models.architectures.choose import choose
from toplabel.models.architectures.identify import Candidate, identify
from toplabel.models.checkpoint.state_dict_search import FoundStateDict
from toplabel.models.fit.build_module import build_module
from toplabel.models.fit.class_spec import locate_class_file
from toplabel.models.fit.load_state_dict import load_state_dict
from toplabel.models.options import ModelOptions
from toplabel.models.ref import ModelRef
from toplabel.models.sources.timm import find_config, read_preprocess
from toplabel.models.sources.torchvision import find_weights
from toplabel.models.transforms.torchvision import from_transform
from toplabel.models.zoo_import import import_timm, import_torchvision
from toplabel.preprocess.preprocess import Preprocess

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network with the checkpoint's weights.

    Args:
        module: Loaded.
        name: Of its code, for people: `torchvision/resnet18`, `nets.py:MyCNN`.
        zoo: It is one of a zoo's, under this name.
        code: The file of the user's class, as it was before it was run.
        share: Of its parameters, how much came from the checkpoint.
    """

    module: nn.Module
    name: str
    zoo: str | None = None
    code: tuple[FileSignature, ...] = ()
    share: float = 1.0


def find_network(
    content: Any, contents: FoundStateDict, options: ModelOptions, *, path: Path
) -> Network:
    """The network that was options, that the file holds whole, or that its tensors tell."""
    if isinstance(options.arch, str) and ":" not in options.arch:
        return _named_network(options.arch, contents, options, path=path)
    if options.arch is not None:
        return _own_network(options.arch, contents, options, path=path)
    if isinstance(content, nn.Module):
        return Network(module=content, name=type(content).__name__)
    return _identified_network(contents, path=path)


def _own_network(
    arch: Any, contents: FoundStateDict, options: ModelOptions, *, path: Path
) -> Network:
    """The user's own class, function or network."""
    file = locate_class_file(arch) if isinstance(arch, str) else None
    code = () if file is None else (FileSignature.of(file),)
    module = build_module(arch, options.arch_args)
    name = arch if isinstance(arch, str) else type(module).__name__
    if file is not None:
        logger.info(
            "changes of %s are noticed, changes of files that it imports are not: pass"
            " recompile=True after those",
            file.name,
        )
    share = _fit(module, contents, options, path=path)
    return Network(module=module, name=name, code=code, share=share)


def _named_network(
    arch: str, contents: FoundStateDict, options: ModelOptions, *, path: Path
) -> Network:
    """A zoo's architecture, with as many classes and channels as the tensors tell."""
    name = ModelRef(arch, "name").canonical()
    source, _, bare = name.partition("/")
    if source not in ("torchvision", "timm"):
        raise CheckpointError(
            f"got {arch!r} as the architecture of {path}; expected a name of torchvision's or"
            " timm's, package.module:Class, or nets.py:Class"
        )
    library: Literal["torchvision", "timm"] = "timm" if source == "timm" else "torchvision"
    bare = bare.partition(":" if library == "torchvision" else ".")[0]
    fitting = _one_function(f"{library}/{bare}", contents, options, path)
    said = dict(options.arch_args)
    classes = said.pop("num_classes", fitting.classes if fitting else 1000)
    channels = said.pop("in_chans", said.pop("in_channels", fitting.in_channels if fitting else 3))
    candidate = Candidate(
        library=library,
        name=bare,
        classes=classes,
        in_channels=channels,
        prefix="",
        unused=(),
        arguments=dict(fitting.arguments if fitting else {}) | said,
    )
    try:
        module = build(candidate)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{library}/{bare} cannot be made with {said}: {error}") from error
    share = _fit(module, contents, options, path=path)
    return Network(module=module, name=f"{library}/{bare}", zoo=f"{library}/{bare}", share=share)


def _one_function(
    name: str, contents: FoundStateDict, options: ModelOptions, path: Path
) -> Candidate | None:
    """How the zoo's architecture is built to fit every tensor; None where it does in no way.

    Raises:
        CheckpointError: Several of its settings fit and give different answers.
    """
    ways = [c for c in identify(_shapes(contents)) if f"{c.library}/{c.name}" == name]
    settings = {key for way in ways for key in way.arguments}
    said = {key: value for key, value in options.arch_args.items() if key in settings}
    ways = [w for w in ways if all(w.arguments.get(k, False) == v for k, v in said.items())]
    if len(ways) > 1 and len(choose(ways, contents.state)) > 1:
        choices = " or ".join(f"arch_args={{{key!r}: True}}" for key in sorted(settings))
        raise CheckpointError(
            f"{name} fits every tensor of {path} with several settings, which give different"
            f" outputs; pass the one it was trained with: {choices}, or False"
        )
    return ways[0] if ways else None


def _shapes(contents: FoundStateDict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in contents.state.items()}


def _identified_network(contents: FoundStateDict, *, path: Path) -> Network:
    """The zoos' architecture that fits every tensor; of several, only where they compute alike."""
    candidates = identify(_shapes(contents))
    named = (contents.architecture or "").partition(".")[0]
    said = [c for c in candidates if c.name == named]
    groups = choose(said or candidates, contents.state)
    if not groups:
        raise CheckpointError(
            f"no architecture of torchvision or timm fits every tensor of {path}; pass the"
            ' network: arch="nets.py:MyCNN", or arch="NAME" with arch_args={...}'
        )
    tried = [candidate for group in groups for candidate, _ in group]
    untried = [candidate for candidate in said or candidates if candidate not in tried]
    if len(groups) > 1 or untried:
        fitting = [group[0][0] for group in groups] + untried
        names = ", ".join(_title(candidate) for candidate in fitting)
        why = "give different answers" if len(groups) > 1 else "not all can be tried here"
        raise CheckpointError(
            f"{len(fitting)} architectures fit every tensor of {path}, and {why}: {names};"
            ' pass the one it was trained as: arch="NAME"'
        )
    candidate, module = groups[0][0]
    name = f"{candidate.library}/{candidate.name}"
    channels = "1 channel" if candidate.in_channels == 1 else f"{candidate.in_channels} channels"
    warn(
        f"assuming that {path.name} is {name} with {candidate.classes} classes and {channels}, by"
        ' the names and shapes of all its tensors; pass arch="..." if it is another network'
    )
    return Network(module=module, name=name, zoo=name)


def _title(candidate: Candidate) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in candidate.arguments.items())
    return f"{candidate.library}/{candidate.name}" + (f" ({settings})" if settings else "")


def _fit(
    module: nn.Module, contents: FoundStateDict, options: ModelOptions, *, path: Path
) -> float:
    found = load_state_dict(
        module, contents.state, allow_partial=options.allow_partial, name=str(path)
    )
    for note in found.notes:
        if found.share < 1:
            warn(note)
        else:
            logger.info("%s", note)
    return found.share


def zoo_preprocess(name: str) -> Preprocess | None:
    """What `torchvision/NAME` or `timm/NAME` does with its default weights; None without any."""
    library, _, architecture = name.partition("/")
    try:
        if library == "torchvision":
            models = import_torchvision().models
            return from_transform(find_weights(models, architecture, "DEFAULT").transforms())
        timm = import_timm()
        return read_preprocess(timm, find_config(timm, architecture))
    except (ModelError, ModelNotFound):
        return None
