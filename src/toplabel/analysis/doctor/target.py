"""Subject: a checkpoint, a name or a network in; what is looked at, ready to be run, out."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toplabel.analysis.doctor.batchnorm_stats import normalisations
from toplabel.analysis.doctor.finding import Finding
from toplabel.errors import ModelError, UsageError
from toplabel.labels.labels import Labels
from toplabel.models.checkpoint.header import read_checkpoint_info
from toplabel.models.checkpoint.reading import non_finite_names, read_checkpoint
from toplabel.models.checkpoint.state_dict_search import find_state_dict
from toplabel.models.options import Stated
from toplabel.models.sources import is_path, load_model
from toplabel.models.sources.module import logits_module
from toplabel.models.sources.networks import Teller, find_network, zoo_preprocess
from toplabel.models.zoo_import import declare_missing_operators
from toplabel.preprocess import Preprocess

_SIZES = (224, 32, 28, 64, 128, 256, 96, 299, 112, 160, 192, 384, 48, 512)
_FULL = 0.5
"""A first normalisation of at least this share of the input's side is one for small pictures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is diagnosed.

    Args:
        name: For people.
        network: In eval mode, on the CPU, float32; its forward gives (N, K).
        channels: 1 or 3.
        geometry: How pictures are brought to its size while their values are looked at.
        assumed: The size was assumed: no zoo's recipe and nobody says it.
        library: The recipe of the architecture's own library, where it is one of a zoo's.
        labels: Those that the file or the user names.
        outputs: K.
        findings: Of the file and its loading.
    """

    name: str
    network: nn.Module
    channels: int
    geometry: Preprocess
    assumed: bool
    library: Preprocess | None
    labels: Labels | None
    outputs: int
    findings: tuple[Finding, ...]


def open_subject(
    model: str | os.PathLike[str] | nn.Module, *, stated: Stated, size: int | None
) -> Subject:
    """Load what is to be diagnosed.

    Args:
        model: A checkpoint's path, a zoo's name, or a live network, which is copied.
        stated: What the user says of it.
        size: Of its input, in pixels, where the user says it.

    Raises:
        CheckpointError: It cannot be read, or fits no network.
        ModelError: It is no classifier that can be run, or of channels that are no photo's.
    """
    declare_missing_operators()
    if isinstance(model, nn.Module):
        inner = model.module if isinstance(model, nn.DataParallel) else model
        network = copy.deepcopy(inner).float().cpu()
        return _subject(type(inner).__name__, network, stated, size, None, None, [])
    path = os.fspath(model)
    if not is_path(path) or not os.path.isfile(path):
        found = load_model(path)
        return _subject(found.name, found.module, stated, size, found.preprocess, found.labels, [])
    if Path(path).suffix.lower() in (".toplabel", ".onnx"):
        raise UsageError(
            f"got {path!r}, a compiled program; doctor looks into networks: name the checkpoint"
            " that it was made of"
        )
    return _open_checkpoint(Path(path), stated, size)


def _open_checkpoint(path: Path, stated: Stated, size: int | None) -> Subject:
    info = read_checkpoint_info(path)
    content: Any = read_checkpoint(info, allow_globals=stated.allow_globals, trust=stated.trust)
    contents = find_state_dict(content, metadata=info.metadata, ema=stated.ema)
    findings = [_weights(non_finite_names(contents.state), path)]
    told: list[str] = []
    network = find_network(content, contents, stated, path=path, teller=Teller(told.append))
    where = f"in {contents.where!r}" if contents.where else "as the file itself"
    findings.insert(
        0,
        Finding(
            topic="architecture",
            state="fine" if network.share == 1 else "wrong",
            text=f"{path.name} holds the weights of {network.name}, {where}",
            evidence="; ".join([f"{network.share:.1%} of the parameters are in the file", *told]),
            line=f"--arch {network.zoo or network.name}",
        ),
    )
    library = network.zoo and zoo_preprocess(network.zoo)
    module = network.module
    return _subject(path.name, module, stated, size, library or None, contents.labels, findings)


def _weights(broken: Sequence[str], path: Path) -> Finding:
    if not broken:
        return Finding(topic="weights", state="fine", text="all weights are finite numbers")
    return Finding(
        topic="weights",
        state="wrong",
        text=f"{len(broken)} tensors hold NaN or infinity: every answer is worthless",
        evidence=", ".join(broken[:5]),
        line="take an earlier checkpoint: the training diverged, or the file is damaged",
    )


def _subject(
    name: str,
    module: nn.Module,
    stated: Stated,
    size: int | None,
    library: Preprocess | None,
    labels: Labels | None,
    findings: list[Finding],
) -> Subject:
    network = logits_module(module).eval()
    channels = _channels(network)
    side = size or (library.input_size[0] if library is not None else 0)
    assumed = not side
    if not side:
        side = _find_side(network, channels)
    outputs = _run(network, channels, side)
    if outputs is None:
        raise ModelError(
            f"{name} fails on pictures of {side}x{side} pixels; say the size it takes: --size N"
        )
    fits = library is not None and library.input_size == (side, side)
    return Subject(
        name=name,
        network=network,
        channels=channels,
        geometry=_geometry(side, channels),
        assumed=assumed,
        library=library if fits else None,
        labels=stated.read_labels() or labels,
        outputs=outputs.shape[1],
        findings=tuple(findings),
    )


def _channels(network: nn.Module) -> int:
    """What its first convolution takes.

    Raises:
        ModelError: It is neither one channel nor three.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            if part.in_channels in (1, 3):
                return part.in_channels
            raise ModelError(
                f"its first convolution takes {part.in_channels} channels; doctor knows pictures of"
                " 1 and 3"
            )
    return 3


def _find_side(network: nn.Module, channels: int) -> int:
    """A size that it takes: 32 where its first normalisation sees full resolution, else 224."""
    if _run(network, channels, 32) is not None and _sees_all(network, channels):
        return 32
    for side in _SIZES:
        if _run(network, channels, side) is not None:
            return side
    raise ModelError(
        "the network takes pictures of none of the usual sizes; say the size: --size N"
    )


def _sees_all(network: nn.Module, channels: int) -> bool:
    """Whether its first batch normalisation sees nearly as many pixels as the input has."""
    sizes: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _module, given: sizes.append(given[0].shape[-1]))
        for layer in normalisations(network)
    ]
    _run(network, channels, 32)
    for hook in hooks:
        hook.remove()
    return bool(sizes) and sizes[0] > _FULL * 32


def _run(network: nn.Module, channels: int, side: int) -> torch.Tensor | None:
    """Its output for one grey picture; None where it fails on this size."""
    try:
        with torch.no_grad():
            output: torch.Tensor = network(torch.full((1, channels, side, side), 0.1))
    except Exception:  # networks are other people's code
        return None
    return output if output.ndim == 2 else None


def _geometry(side: int, channels: int) -> Preprocess:
    """The whole picture's middle, at this size."""
    return Preprocess(
        input_size=(side, side),
        resize_mode="shortest",
        resize_size=(side, side),
        interpolation="bilinear",
        channels="grey" if channels == 1 else "rgb",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
