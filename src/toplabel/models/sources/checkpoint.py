"""A checkpoint's file and what the user knows of it in, a checked Model out.

Nothing is guessed silently: a network must fit every tensor, and preprocessing comes from the file,
from the user, or, with a warning, from the library whose weights it seems to hold.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from toplabel._internal.notices import warn
from toplabel._internal.text import number_of
from toplabel.bundle.cache import FileSignature
from toplabel.bundle.model import Model
from toplabel.errors import CheckpointError, ModelError, ModelNotFound, PreprocessError, UsageError
from toplabel.labels.files import order_warning
from toplabel.labels.labels import Labels
from toplabel.models import transforms
from toplabel.models.advice import network_advice, preprocess_advice
from toplabel.models.architectures.build import build
from toplabel.models.architectures.choose import choose
from toplabel.models.architectures.identify import Candidate, identify, matching_state
from toplabel.models.checkpoint.allowed_globals import check_no_program
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.models.checkpoint.info import CheckpointInfo, naming_file
from toplabel.models.checkpoint.reading import non_finite_names, read_checkpoint
from toplabel.models.checkpoint.state_dict_search import (
    FoundStateDict,
    State,
    check_no_adapter_alone,
    find_state_dict,
)
from toplabel.models.fit.build_module import build_fitting, build_module
from toplabel.models.fit.class_spec import loaded_below, locate_class_file
from toplabel.models.fit.file_arguments import likely_arguments
from toplabel.models.fit.global_state import global_state_kept
from toplabel.models.fit.load_state_dict import fits, load_state_dict
from toplabel.models.fit.parts import check_left_out, choose_part
from toplabel.models.fit.plain_modules import plain_module
from toplabel.models.fit.unsaved import differing, unsaved_numbers
from toplabel.models.image_evidence import image_evidence
from toplabel.models.input_size import find_input_size, input_channels
from toplabel.models.options import ModelOptions
from toplabel.models.preprocess_doubts import warn_of_normalisation, warn_of_size
from toplabel.models.ref import ModelRef, without_weights
from toplabel.models.script.resolve import Resolved, resolve
from toplabel.models.sources.module import from_module
from toplabel.models.sources.own_labels import find_published_weights
from toplabel.models.sources.timm import find_config, read_preprocess
from toplabel.models.sources.torchvision import find_weights
from toplabel.models.transforms.torchvision import from_transform
from toplabel.models.zoo_import import declare_missing_operators, import_timm, import_torchvision
from toplabel.preprocess.custom import AnyPreprocess
from toplabel.preprocess.preprocess import Preprocess
from toplabel.preprocess.presets import preset_name

logger = logging.getLogger(__name__)

_OTHER_SEED = 4171  # than any that a class is likely to set before it draws
_MOST_FILES = 200  # of a network's code that are looked at when it is opened again


def load(path: Path, *, options: ModelOptions) -> Model:
    """The classifier in a checkpoint file.

    Args:
        path: A file of torch's or in the safetensors format, or the index of such.
        options: What the file does not say.

    Raises:
        CheckpointError: It cannot be read, would run code, or fits no network.
        ModelError: The network cannot be used as a classifier.
        LabelsError: The labels do not fit its outputs.
        PreprocessError: There is no preprocessing, or it cannot be expressed.
    """
    declare_missing_operators()  # for code of the user's that imports torchvision
    with naming_file(path):
        stamp = FileSignature.of(path)
    info = read_checkpoint_info(path)
    stamps = [stamp, *map(FileSignature.of, info.files[1:])]
    content = read_content(info, options)
    found = find_weights_in(content, info, options)
    _check_finite(found, path)
    network = find_network(content, found, options, path=path)
    found = _with_published(found, network, path=path)
    if network.said is not None:
        said = network.said.tell()
        own = options.labels if found.labels is not None else said.labels
        options = replace(said, labels=own)  # names in the file itself come before a script's
    preprocess = _preprocess(found, network, options, path=path)
    warn_of_normalisation(preprocess, found.state, file=path.name)
    if network.zoo is not None:
        known = zoo_preprocess(network.zoo)
        made_for = known.input_size if known is not None else None
        warn_of_size(preprocess, network.zoo, made_for, file=path.name)
    model = from_module(
        network.module,
        preprocess=preprocess,
        labels=options.labels_as_given() or found.labels,
        find_labels=lambda outputs: _labels(found, network, options, outputs=outputs, path=path),
        multi_label=options.multi_label,
        output=options.output,
        name=f"checkpoint/{path.name}",
    )
    if [*map(FileSignature.of, info.files)] != stamps:  # tensors are read when used
        raise CheckpointError(f"{path} changed while it was read; try again")
    return replace(
        model,
        weights_files=(*stamps, *network.code),
        provenance=_provenance(info, found, network),
    )


def open_network(path: Path, options: ModelOptions) -> tuple[FoundStateDict, Network]:
    """What a checkpoint holds, and its network, before anything is known of its images.

    Raises:
        CheckpointError, ModelError, UsageError, MissingDependency: As `load`.
    """
    declare_missing_operators()
    info = read_checkpoint_info(path)
    content = read_content(info, options)
    found = find_weights_in(content, info, options)
    return found, find_network(content, found, options, path=path)


def read_content(info: CheckpointInfo, options: ModelOptions) -> Any:
    """What the checkpoint holds; its code is run only where it is trusted and there is no other.

    Raises:
        CheckpointError: It is a program that is not trusted, would run code, or cannot be read.
    """
    program = info.format in ("torchscript", "pt2")
    has_class = options.arch is not None or options.script is not None
    as_data = bool(info.storages) and (has_class or not (program or info.blocked))
    if program and not as_data and not options.trust:
        check_no_program(info)
    return read_checkpoint(info, trust=options.trust and not as_data)


def find_weights_in(content: Any, info: CheckpointInfo, options: ModelOptions) -> FoundStateDict:
    """The state dict that is meant.

    Raises:
        CheckpointError: There is none, or an adapter without its network.
    """
    if isinstance(content, nn.Module):
        return FoundStateDict(state=content.state_dict())
    with naming_file(info.path):
        found = find_state_dict(
            content, metadata=info.metadata, ema=options.ema, key=options.state_dict
        )
        check_no_adapter_alone(found.state)
    return found


def _with_published(found: FoundStateDict, network: Network, *, path: Path) -> FoundStateDict:
    """With the class names and preprocessing of published weights, where the file is such."""
    if network.zoo is None or found.labels is not None or found.preprocess is not None:
        return found
    published = find_published_weights(path, network.zoo)
    if published is None:
        return found
    logger.info("%s is %s, by its hash", path.name, published.title)
    return replace(
        found,
        labels=published.labels if published.labels.named else None,
        labels_where=published.title,
        preprocess=published.preprocess,
    )


def _check_finite(found: FoundStateDict, path: Path) -> None:
    names = non_finite_names(found.state)
    if names:
        raise ModelError(
            f"non_finite: {number_of(len(names), 'tensor')} of {path} with NaN or infinity,"
            f" {names[0]!r} first; the training diverged, or the file is damaged: take an earlier"
            " checkpoint"
        )


def _preprocess(
    found: FoundStateDict, network: Network, options: ModelOptions, *, path: Path
) -> AnyPreprocess:
    """The preprocessing that is given, or that of the file.

    Of a library's network with as many classes as the library's own weights theirs is assumed, with
    a warning. With another head it was trained by somebody, who alone knows.
    """
    given = options.read_preprocess()
    if given is not None:
        return given
    if isinstance(found.preprocess, Preprocess):
        return found.preprocess
    if found.preprocess is not None:
        try:
            return transforms.translate(found.preprocess)
        except PreprocessError as error:
            raise PreprocessError(
                f"{path} records its preprocessing, but {error}; pass preprocess=..."
            ) from error
    known = zoo_preprocess(network.zoo) if network.zoo else None
    if known is None or network.zoo is None:
        raise _unstated(found, network, options, path)
    evidence = image_evidence(found.state, found.hyper_parameters)
    fits = known.num_channels == input_channels(network.module)
    if not (fits and evidence.allows(known.num_channels, known.input_size)) or (
        zoo_classes(network.zoo) != _outputs(network.module)
    ):
        raise _unstated(found, network, options, path, of_library=known)
    height, width = known.input_size
    warn(
        f"assuming that {path.name} was validated with the preprocessing of {network.zoo}'s"
        f" own weights, {height}x{width} pixels; pass preprocess=... if it was another",
        about="preprocess",
    )
    return known


def _unstated(
    found: FoundStateDict,
    network: Network,
    options: ModelOptions,
    path: Path,
    *,
    of_library: Preprocess | None = None,
) -> PreprocessError:
    """What to do where nothing says how images were preprocessed, and what is known of them."""
    evidence = image_evidence(found.state, found.hyper_parameters)
    words = list(evidence.words)
    if of_library is None:
        size = find_input_size(network.module.eval(), data_set=path.name)
        words.insert(0, preprocess_advice(path, size, found, options))
    if of_library and evidence.allows(of_library.num_channels, of_library.input_size):
        name = preset_name(of_library)
        outputs = _outputs(network.module)
        words.append(
            f"it is {network.zoo} with {outputs} classes of its own; the library's weights, which"
            " such networks are mostly fine-tuned from, take"
            + (f' preprocess="{name}"' if name else f" {_by_size(of_library)}")
            + ", which is right only if it was trained so, too"
        )
    known = f" Known is: {'; '.join(words)}." if words else ""
    return PreprocessError(
        f"{path} does not say how its images were preprocessed, and a wrong guess gives wrong"
        " labels without an error; pass preprocess=... with the transform of its validation: a"
        " preset (`toplabel models --preprocess` lists them), a JSON file or your own code as"
        f" FILE.py:NAME.{known} `toplabel doctor` compares candidates on labelled images"
    )


def _by_size(preprocess: Preprocess) -> str:
    height, width = preprocess.input_size
    return f"{height}x{width} pixels, mean {list(preprocess.mean)} and std {list(preprocess.std)}"


def _outputs(module: nn.Module) -> int | None:
    """What the last layer gives."""
    layers = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not layers:
        return None
    last = layers[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def _labels(
    found: FoundStateDict, network: Network, options: ModelOptions, *, outputs: int, path: Path
) -> Labels | None:
    """The labels that are given or in the file, one for each output; else None."""
    given = options.labels_for(outputs, own=found.labels)
    if given is not None:
        return given
    labels = found.labels
    where = found.labels_where
    problem = f"names classes in {where}" if where else "has no class names"
    if labels is not None and not labels.fit(outputs):
        classes = number_of(len(labels), "class", "classes")
        problem = f"names {classes} in {where}, and the network has {number_of(outputs, 'output')}"
        labels = None
    if labels is None and outputs > 1:  # one output means yes or no
        known = outputs == 1000 and network.zoo is not None
        hint = (
            'labels="imagenet" if it was trained on ImageNet' if known else "labels=... for names"
        )
        warn(f"{path.name} {problem}: labels are indices; pass {hint}", about="labels")
    elif labels is not None and (warning := order_warning(labels)):
        warn(warning, about="labels")
    return labels


def _provenance(info: CheckpointInfo, found: FoundStateDict, network: Network) -> dict[str, str]:
    known = {
        "source": "checkpoint",
        "file": info.path.name,
        "format": info.format,
        "state_dict": found.where or None,
        "architecture": _without_folder(network.name),
        "loaded": f"{network.share:.1%} of the parameters" if network.share < 1 else None,
        "script": network.said and network.said.sentence,
        "library": f"torch {torch.__version__}",
    }
    return {name: value for name, value in known.items() if value}


def _without_folder(name: str) -> str:
    """The name of a network's code without the folder that its file lies in."""
    file, colon, rest = name.rpartition(":")
    return f"{Path(file).name}:{rest}" if colon and file.endswith(".py") else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network with the checkpoint's weights.

    Args:
        module: Loaded.
        name: Of its code, for people: `torchvision/resnet18`, `nets.py:MyCNN`.
        zoo: It is torchvision's or timm's, under this name.
        code: The file of the user's class, as it was before it was run.
        share: Of its parameters, how much came from the checkpoint.
        said: What its script says, where one was given.
    """

    module: nn.Module
    name: str
    zoo: str | None = None
    code: tuple[FileSignature, ...] = ()
    share: float = 1.0
    said: Resolved | None = None


def find_network(
    content: Any, found: FoundStateDict, options: ModelOptions, *, path: Path
) -> Network:
    """The network that is given, that the file holds whole, or that its tensors identify."""
    if options.script is not None and not isinstance(options.arch, nn.Module | Callable):
        _check_clear(found, path)
        said = resolve(options.script, found.state, options, checkpoint=path)
        code = tuple(FileSignature.of(file) for file in said.files)
        share = _fit(said.module, found, path=path)
        return Network(module=said.module, name=said.name, code=code, said=said, share=share)
    if isinstance(options.arch, str) and ":" not in options.arch:
        return _named_network(options.arch, found, options, path=path)
    if options.arch is not None:
        return _own_network(options.arch, found, options, path=path)
    if isinstance(content, nn.Module):
        return Network(module=content, name=type(content).__name__)
    if found.module and (module := plain_module(content, found.where)) is not None:
        return Network(module=module, name=found.module)
    return _identified_network(found, options, path=path)


def _own_network(arch: Any, found: FoundStateDict, options: ModelOptions, *, path: Path) -> Network:
    """The user's own class, function or network."""
    file = locate_class_file(arch) if isinstance(arch, str) else None
    code: tuple[FileSignature, ...] = () if file is None else (FileSignature.of(file),)
    module, share = _built_network(arch, found, options, path=path)
    name = arch if isinstance(arch, str) else type(module).__name__
    if file is not None:
        beside = [one for one in loaded_below(file.parent) if one != file][:_MOST_FILES]
        code += tuple(map(FileSignature.of, beside))
        logger.info(
            "changes to %s and the files beside it are noticed, changes to others that it imports"
            " are not: pass recompile=True after those",
            file.name,
        )
    return Network(module=module, name=name, code=code, share=share)


def _built_network(
    arch: Any, found: FoundStateDict, options: ModelOptions, *, path: Path
) -> tuple[nn.Module, float]:
    """The network that the class makes, loaded, and how much of it was in the file.

    How many classes and channels it is made with is read from the tensors where the user does not
    say it, and only where all tensors fit then.
    """
    names = found.labels.names if found.labels else None
    if isinstance(options.labels, list | tuple):
        names = tuple(map(str, options.labels))
    try:
        module, share, added = build_fitting(
            arch,
            options.arch_args,
            recorded=found.constructor,
            likely=lambda parameters: likely_arguments(
                parameters, options.arch_args, _shapes(found.state), names
            ),
            fit=lambda module: _fit(module, found, path=path),
            run=options.trust,
        )
    except CheckpointError:
        if not options.allow_partial:
            raise
        module = build_module(arch, options.arch_args, run=options.trust)
        return module, _fit(module, found, allow_partial=True, path=path)
    _check_nothing_drawn(arch, {**options.arch_args, **added}, module, run=options.trust)
    if added:
        said = ", ".join(f"{name}={value!r:.40}" for name, value in added.items())
        logger.info("%s is made with %s, which fits every tensor", type(module).__name__, said)
    return module, share


def _check_nothing_drawn(
    arch: Any, arguments: Mapping[str, Any], module: nn.Module, *, run: bool
) -> None:
    """Stop where the class draws numbers that are not in the file: training had others.

    Raises:
        ModelError: Two networks that it makes have different ones.
    """
    if isinstance(arch, nn.Module) or not unsaved_numbers(module):
        return
    with global_state_kept():
        torch.manual_seed(_OTHER_SEED)
        np.random.seed(_OTHER_SEED)
        random.seed(_OTHER_SEED)
        names = differing(module, build_module(arch, arguments, run=run))
    if names:
        raise ModelError(
            f"{type(module).__name__} makes {', '.join(names[:3])} anew for every network, and no"
            " state dict has it: training had other numbers there, and answers would be wrong;"
            " register it with register_buffer and train again, or set it as it was and pass the"
            " network itself, arch=net"
        )


def _canonical_name(arch: str) -> str:
    """A library's architecture with the library in front.

    Raises:
        UsageError: It is a file, without the class in it.
        ModelNotFound: There is none of that name; says how a class is named.
    """
    if Path(arch).suffix in (".py", ".ipynb", ".md"):
        raise UsageError(
            f"got arch {arch!r}, a file without a class; name the class in it,"
            f' arch="{arch}:MyCNN", or pass script="{arch}" to have it found'
        )
    try:
        return ModelRef(arch, "name").canonical()
    except ModelNotFound as error:
        if not arch.isidentifier():
            raise
        raise ModelNotFound(f'{error}; a class of your own is arch="nets.py:{arch}"') from None


def _named_network(
    arch: str, found: FoundStateDict, options: ModelOptions, *, path: Path
) -> Network:
    """A library's architecture, with as many classes and channels as the tensors have."""
    source, _, bare = _canonical_name(arch).partition("/")
    if source not in ("torchvision", "timm"):
        raise CheckpointError(
            f"got the architecture {arch!r} for {path}; expected a name of torchvision's or timm's,"
            " package.module:Class or nets.py:Class"
        )
    library: Literal["torchvision", "timm"] = "timm" if source == "timm" else "torchvision"
    bare = without_weights(library, bare)
    name = f"{library}/{bare}"
    found = _part_of_library(found, name)
    _check_clear(found, path)
    fitting = _fitting_settings(name, found, options, path)
    given = dict(options.arch_args)
    classes, channels = (fitting.classes, fitting.in_channels) if fitting else (1000, 3)
    classes = given.pop("num_classes", classes)
    channels = given.pop("in_chans", given.pop("in_channels", channels))
    candidate = Candidate(
        library=library,
        name=bare,
        classes=classes,
        in_channels=channels,
        prefix="",
        unused=(),
        arguments=dict(fitting.arguments if fitting else {}) | given,
        head=fitting.head if fitting else None,
    )
    try:
        module = build(candidate)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be built with {given}: {error}") from error
    if fitting:
        found = replace(found, state=matching_state(fitting, found.state))
        _tell_of_head(fitting, path)
    share = _fit(module, found, allow_partial=options.allow_partial, path=path)
    return Network(module=module, name=name, zoo=name, share=share)


def _part_of_library(found: FoundStateDict, name: str) -> FoundStateDict:
    """The one of several state dicts that has exactly the tensors of this architecture."""
    if not found.unclear:
        return found
    return choose_part(
        found, lambda s: any(f"{c.library}/{c.name}" == name for c in identify(_shapes(s)))
    )


def _check_clear(found: FoundStateDict, path: Path) -> None:
    if found.unclear:
        raise CheckpointError(f"cannot read {str(path)!r}: {found.unclear}")


def _fitting_settings(
    name: str, found: FoundStateDict, options: ModelOptions, path: Path
) -> Candidate | None:
    """How the architecture is built to fit every tensor; None where it cannot be.

    Raises:
        CheckpointError: Several of its settings fit and give different outputs.
    """
    ways = [c for c in identify(_shapes(found.state)) if f"{c.library}/{c.name}" == name]
    every = {key for way in ways for key in way.arguments}
    settings = {key for key in every if len({way.arguments.get(key, False) for way in ways}) > 1}
    given = {key: value for key, value in options.arch_args.items() if key in settings}
    ways = [w for w in ways if all(w.arguments.get(k, False) == v for k, v in given.items())]
    if len(ways) > 1 and len(choose(ways, found.state)) > 1:
        choices = " or ".join(f"arch_args={{{key!r}: True}}" for key in sorted(settings))
        auxiliary = " but those of its auxiliary classifiers" if ways[0].unused else ""
        raise CheckpointError(
            f"{name} fits every tensor of {path}{auxiliary} with several settings, which give"
            f" different outputs; pass the one it was trained with: {choices}, or False"
        )
    return ways[0] if ways else None


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _identified_network(found: FoundStateDict, options: ModelOptions, *, path: Path) -> Network:
    """The architecture that fits every tensor; of several, only where they compute the same."""
    _check_clear(found, path)
    candidates = identify(_shapes(found.state))
    named = (found.architecture or "").partition(".")[0]
    candidates = tuple(c for c in candidates if c.name == named) or candidates
    groups = choose(candidates, found.state)
    if not groups:
        raise CheckpointError(_no_architecture(found, options, path))
    tried = [candidate for group in groups for candidate, _ in group]
    untried = [candidate for candidate in candidates if candidate not in tried]
    if len(groups) > 1 or untried:
        fitting = [group[0][0] for group in groups] + untried
        names = ", ".join(_title(candidate) for candidate in fitting)
        why = "give different outputs" if len(groups) > 1 else "not all can be tried here"
        raise CheckpointError(
            f"{len(fitting)} architectures fit every tensor of {path}, and {why}: {names};"
            ' pass the one it was trained as: arch="NAME"'
        )
    candidate, module = groups[0][0]
    name = f"{candidate.library}/{candidate.name}"
    check_left_out(found, file=path.name, network=name)
    channels = number_of(candidate.in_channels, "channel")
    classes = number_of(candidate.classes, "class", "classes")
    warn(
        f"assuming that {path.name} is {name} with {classes} and {channels}, by"
        " the names and shapes of all its tensors, in which strides and activations do not show;"
        ' pass arch="..." if it is another network'
    )
    _tell_of_head(candidate, path)
    return Network(module=module, name=name, zoo=name)


def _tell_of_head(candidate: Candidate, path: Path) -> None:
    """Say that a head was rebuilt; warn where its activations are a guess."""
    head = candidate.head
    if head is None:
        return
    built = f"the part {head.place!r} of {path.name} is rebuilt as {head}"
    if head.guesses:
        warn(
            f"{built}: activations have no tensors, and ReLU is assumed between linear layers; pass"
            " your class if it has others"
        )
    else:
        logger.info("%s", built)


def _no_architecture(found: FoundStateDict, options: ModelOptions, path: Path) -> str:
    if found.module:
        name = found.module.rpartition(".")[2]
        where = found.where and f", under {found.where!r},"
        return (
            f"{path} contains{where} a whole pickled network of class {found.module} instead of its"
            f' weights; pass the file that has its class, arch="FILE.py:{name}", into which the'
            " weights are loaded without running anything else; or, if you trust its author,"
            " trust=True, which imports the class and can run any code"
        )
    return (
        f"no architecture of torchvision or timm fits every tensor of"
        f" {path}{network_advice(path, found, options)}"
    )


def _title(candidate: Candidate) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in candidate.arguments.items())
    return f"{candidate.library}/{candidate.name}" + (f" ({settings})" if settings else "")


def _fit(
    module: nn.Module, found: FoundStateDict, *, allow_partial: bool = False, path: Path
) -> float:
    """Load what of the checkpoint fits into the network; the share of it that was in the file."""
    found = choose_part(found, lambda state: fits(module, state))
    _check_clear(found, path)
    report = load_state_dict(module, found.state, allow_partial=allow_partial, name=str(path))
    check_left_out(
        found,
        report.left_out,
        prefix=report.prefix,
        file=path.name,
        network=type(module).__name__,
    )
    for note in report.notes:
        if report.share < 1:
            warn(note)
        else:
            logger.info("%s", note)
    return report.share


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


def zoo_classes(name: str) -> int | None:
    """How many classes the default weights of `torchvision/NAME` or `timm/NAME` have."""
    library, _, architecture = name.partition("/")
    try:
        if library == "torchvision":
            weights = find_weights(import_torchvision().models, architecture, "DEFAULT")
            return len(weights.meta["categories"])
        return int(find_config(import_timm(), architecture)["num_classes"])
    except (ModelError, ModelNotFound, KeyError):
        return None
