"""A candidate in; the network that it names out, with random weights, or with none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from toplabel._internal.notices import quiet_libraries
from toplabel.errors import ModelNotFound
from toplabel.models.architectures.heads import Head, Layer
from toplabel.models.architectures.identify import COLOURS, Candidate
from toplabel.models.architectures.index import load_index
from toplabel.models.zoo_import import import_timm, import_torchvision

_DRAWN_SLOWLY = ("googlenet", "inception_v3")  # by scipy, for minutes


def build(candidate: Candidate) -> nn.Module:
    """The network with random weights, in training mode; nothing is downloaded.

    Raises:
        ModelNotFound: The installed library has no such architecture.
        MissingDependency: The library is not installed.
    """
    maker = _build_torchvision if candidate.library == "torchvision" else _build_timm
    with quiet_libraries():
        module = maker(candidate)
    if candidate.head is not None:
        parent, _, own = candidate.head.place.rpartition(".")
        setattr(module.get_submodule(parent), own, build_head(candidate.head))
    return module


def build_head(head: Head) -> nn.Module:
    """The head with random weights, and a ReLU between its linear layers where there is room.

    Layers that are numbered leave room for those without tensors: the first between two linear
    layers is the activation, the others do nothing in eval mode, as dropout.
    """
    if not head.layers[0].name:
        return _layer(head.layers[0])
    parts: dict[str, nn.Module] = {}
    numbered = all(layer.name.isdecimal() for layer in head.layers)
    activated = True  # before the first linear layer, and behind the last, there is none
    at = 0
    for layer in head.layers:
        room = range(at, int(layer.name)) if numbered else ["activation"] * (not activated)
        if not numbered and layer.kind == "batch norm":
            room = []
        for place in room:
            name = str(place) if numbered else f"{layer.name}_{place}"
            parts[name] = nn.Identity() if activated else nn.ReLU()
            activated = True
        parts[layer.name] = _layer(layer)
        activated = activated and layer.kind != "linear"
        at = int(layer.name) + 1 if numbered else 0
    return nn.Sequential(OrderedDict(parts))


def _layer(layer: Layer) -> nn.Module:
    out, into = layer.size
    return nn.Linear(into, out, layer.bias) if layer.kind == "linear" else nn.BatchNorm1d(out)


def build_unset(candidate: Candidate) -> nn.Module:
    """The same with parameters on the device "meta", where the network lets them be there.

    Drawing them would take seconds, and their memory; those of a file will be assigned. Buffers,
    which may be computed, are real.
    """
    try:
        with _without_values():
            return build(candidate)
    except RuntimeError:  # it computes with its parameters while it is built
        return build(candidate)


def _build_torchvision(candidate: Candidate) -> nn.Module:
    models = import_torchvision().models
    if candidate.name not in models.list_models(module=models):
        raise _unknown(candidate)
    arguments = dict(candidate.arguments)
    if candidate.name in _DRAWN_SLOWLY:
        arguments["init_weights"] = False
    module: nn.Module = models.get_model(
        candidate.name, weights=None, num_classes=candidate.classes, **arguments
    )
    if candidate.in_channels != COLOURS:
        _replace_first_convolution(module, candidate.in_channels)
    return module


def _build_timm(candidate: Candidate) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(candidate.name):
        raise _unknown(candidate)
    arguments = dict(candidate.arguments)
    if candidate.in_channels != COLOURS:
        arguments["in_chans"] = candidate.in_channels
    module: nn.Module = timm.create_model(
        candidate.name, pretrained=False, num_classes=candidate.classes, **arguments
    )
    return module


@contextmanager
def _without_values() -> Iterator[None]:
    """Put parameters of modules that this thread makes inside on the device "meta"."""
    thread = get_ident()

    def forget(_: nn.Module, __: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if get_ident() != thread or parameter is None or parameter.is_meta:
            return None  # as it is
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    # Its annotation leaves out that a hook may return what is to be registered.
    handle = register_module_parameter_registration_hook(forget)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def _replace_first_convolution(module: nn.Module, in_channels: int) -> None:
    """What people do to a torchvision model that is to take grey images."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == COLOURS:
            parent, _, own = name.rpartition(".")
            replacement = nn.Conv2d(
                in_channels,
                part.out_channels,
                part.kernel_size,  # type: ignore[arg-type]
                stride=part.stride,  # type: ignore[arg-type]
                padding=part.padding,  # type: ignore[arg-type]
                dilation=part.dilation,  # type: ignore[arg-type]
                bias=part.bias is not None,
            )
            setattr(module.get_submodule(parent), own, replacement)
            return


def _unknown(candidate: Candidate) -> ModelNotFound:
    made_with = load_index().versions.get(candidate.library, "another version")
    return ModelNotFound(
        f"the installed {candidate.library} has no {candidate.name!r}, which {made_with} has;"
        f" pip install -U {candidate.library}"
    )
