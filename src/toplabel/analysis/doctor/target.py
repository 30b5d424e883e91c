"""Target: a checkpoint, a model's name or a network in; the network, ready to be run, out."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from toplabel._internal.notices import collect_warnings
from toplabel.analysis.doctor.batchnorm_stats import batch_normalisations, pre_hooked
from toplabel.analysis.doctor.messages import Finding
from toplabel.analysis.doctor.sanity_checks import check_weights
from toplabel.bundle.outputs import Evidence, interpret
from toplabel.errors import ModelError, UsageError
from toplabel.labels.files import in_order
from toplabel.labels.given import list_given
from toplabel.labels.labels import Labels
from toplabel.models.checkpoint.reading import non_finite_names
from toplabel.models.input_size import find_input_size, input_channels
from toplabel.models.open import LOADING, load_model
from toplabel.models.options import ModelOptions
from toplabel.models.outputs import Scores, watch
from toplabel.models.ref import ModelRef
from toplabel.models.script.resolve import Resolved
from toplabel.models.sources.as_written import set_eval_mode
from toplabel.models.sources.checkpoint import open_network, zoo_preprocess
from toplabel.models.zoo_import import declare_missing_operators
from toplabel.preprocess.preprocess import Preprocess

_FULL = 0.5
"""A first normalisation of at least this share of the input's side is one for small images."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What is diagnosed.

    Args:
        name: For people.
        network: In eval mode, on the CPU, float32; its forward gives (N, K).
        channels: 1 or 3.
        geometry: How images are brought to its size while their values are looked at.
        size_assumed: Why this size, where it is a guess: neither a library nor the user gives it,
            and the network takes others, too; else empty.
        library: The preprocessing of the architecture's own library, or what a script says.
        labels: Those of the user, or of the file.
        outputs: K.
        findings: Of the file and its loading.
    """

    name: str
    network: nn.Module
    channels: int
    geometry: Preprocess
    size_assumed: str
    library: Preprocess | None
    labels: Labels | None
    outputs: int
    findings: tuple[Finding, ...]

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether the network runs on images of this (height, width)."""
        return _run(self.network, self.channels, size) is not None


def open_target(
    model: str | os.PathLike[str] | nn.Module, *, options: ModelOptions, size: int | None
) -> Target:
    """Load what is to be diagnosed.

    Args:
        model: A checkpoint's path, a library's name, or a network, which is copied.
        options: What its file does not say.
        size: Of its input, in pixels, where the user gives it.

    Raises:
        CheckpointError: It cannot be read, or fits no network.
        ModelError: It is no classifier that can be run, or takes neither 1 channel nor 3.
    """
    declare_missing_operators()
    if isinstance(model, nn.Module):
        inner = model.module if isinstance(model, nn.DataParallel) else model
        network = copy.deepcopy(inner).float().cpu()
        return _target(type(inner).__name__, network, options, size, None, None, [])
    ref = ModelRef.parse(model)
    if ref.kind in ("name", "folder"):
        found = load_model(ref)
        own = found.preprocess if isinstance(found.preprocess, Preprocess) else None
        return _target(found.name, found.module, options, size, own, found.labels, [])
    if ref.kind != "checkpoint":
        raise UsageError(
            f"got {ref.given!r}, a compiled program; doctor examines networks: name the checkpoint"
            " that it was compiled from"
        )
    with LOADING:
        return _open_checkpoint(Path(ref.given), options, size)


def _open_checkpoint(path: Path, options: ModelOptions, size: int | None) -> Target:
    with collect_warnings() as notes:
        contents, network = open_network(path, options)
    weights = check_weights(non_finite_names(contents.state))
    where = f"in {contents.where!r}" if contents.where else "as the file itself"
    architecture = Finding(
        "architecture",
        "fine" if network.share == 1 else "wrong",
        f"{path.name} contains the weights of {network.name}, {where}",
        "; ".join([f"{network.share:.1%} of the parameters are in the file", *notes]),
        f'arch="{network.zoo or network.name}"',
    )
    library = zoo_preprocess(network.zoo) if network.zoo else None
    findings = [architecture, weights]
    if network.said is not None:
        findings.append(_script_finding(network.said))
        options = network.said.options
        if isinstance(options.preprocess, Preprocess):
            library = options.preprocess
    return _target(path.name, network.module, options, size, library, contents.labels, findings)


def _script_finding(said: Resolved) -> Finding:
    """What the script says, which the images are to confirm."""
    doubts = [*said.doubts, *([str(said.problem)] if said.problem else [])]
    return Finding(
        "script", "cannot tell" if doubts else "told", said.sentence, "; ".join(doubts), ""
    )


def _target(
    name: str,
    module: nn.Module,
    options: ModelOptions,
    size: int | None,
    library: Preprocess | None,
    labels: Labels | None,
    findings: list[Finding],
) -> Target:
    set_eval_mode(module)
    network: nn.Module = Scores(module, options.output).eval()
    channels = _channels(network)
    side, assumed = size or (library.input_size[0] if library is not None else 0), ""
    if not side:
        side, assumed = _find_side(network, channels, name)
    outputs = _run(network, channels, (side, side))
    if outputs is None:
        accepted = find_input_size(network, channels=channels, data_set=name)
        raise ModelError(
            f"{name} fails on images of {side}x{side} pixels; the network takes {accepted}: leave"
            " size=... out, or pass one that it takes"
        )
    if outputs.shape[1] == 1:
        network = _yes_or_no(network, torch.full((1, channels, side, side), 0.1), name)
    given = options.labels
    fits = library is not None and library.input_size == (side, side)
    return Target(
        name=name,
        network=network,
        channels=channels,
        geometry=_geometry(side, channels),
        size_assumed=assumed,
        library=library if fits else None,
        labels=labels if given is None else in_order(list_given(given), own=labels),
        outputs=max(2, outputs.shape[1]),
        findings=tuple(findings),
    )


def _yes_or_no(network: nn.Module, image: torch.Tensor, name: str) -> nn.Module:
    """A network of one output as one of two classes, no and yes.

    Raises:
        ModelError: Its output can be no score.
    """
    with torch.no_grad():
        _, bounds = watch(network, image)
    evidence = Evidence(count=1, bounds=bounds["output"])
    found = interpret(evidence, labels=Labels(("no", "yes")), multi_label=False, name=name)
    return Scores(network, "output", found.conversion).eval()


def _channels(network: nn.Module) -> int:
    """What its first layer takes.

    Raises:
        ModelError: It is neither one channel nor three.
    """
    count = input_channels(network) or 3
    if count not in (1, 3):
        raise ModelError(f"its first layer takes {count} channels; doctor supports 1 and 3")
    return count


def _find_side(network: nn.Module, channels: int, name: str) -> tuple[int, str]:
    """A size that it takes, and why this one where it takes others.

    Of a network that takes any: 32 where its first normalisation sees full resolution, else 224.
    """
    found = find_input_size(network, channels=channels, data_set=name)
    if found.low is None:
        raise ModelError(f"{name} is no classifier of images: it takes {found}")
    if found.side is not None:
        return found.side, "" if found.low == found.high else found.reason
    if found.takes(32, 32) and _sees_all(network, channels):
        return 32, f"its first layers keep every pixel; it takes {found}"
    return 224 if found.takes(224, 224) else found.low, f"it takes {found}"


def _sees_all(network: nn.Module, channels: int) -> bool:
    """Whether its first batch normalisation sees nearly as many pixels as the input has."""
    sizes: list[int] = []
    layers = batch_normalisations(network)
    with pre_hooked(layers, lambda _module, given: sizes.append(given[0].shape[-1])):
        _run(network, channels, (32, 32))
    return bool(sizes) and sizes[0] > _FULL * 32


def _run(network: nn.Module, channels: int, size: tuple[int, int]) -> torch.Tensor | None:
    """Its output for one grey image; None where it fails on this size."""
    try:
        with torch.no_grad():
            output: torch.Tensor = network(torch.full((1, channels, *size), 0.1))
    except Exception:  # networks are other people's code
        return None
    return output if output.ndim == 2 else None


def _geometry(side: int, channels: int) -> Preprocess:
    """The middle of the whole image, at this size."""
    return Preprocess(
        input_size=(side, side),
        resize_mode="shortest",
        resize_size=(side, side),
        interpolation="bilinear",
        channels="grey" if channels == 1 else "rgb",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
