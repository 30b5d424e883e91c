"""The names and shapes of a state dict in; heads put onto a zoo's network out. No torch.

People replace the last layer, or the classifier, by an `nn.Sequential` of linear layers, batch
norms, activations and dropout. Its tensors say all of it but the activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from toplabel.models.architectures.index import Shapes

Kind = Literal["linear", "batch norm"]
Size = int | Literal["features", "classes"]

_NORM = frozenset({"weight", "bias", "running_mean", "running_var"})
_COUNTER = "num_batches_tracked"

Usual = dict[str, tuple[Size, Size]]  # the linear layers (out, in) that a zoo's network has


def _last(name: str) -> Usual:
    return {name: ("classes", "features")}


def _three(first: str, second: str) -> Usual:
    return {
        first: (4096, "features"),
        second: (4096, 4096),
        "classifier.6": ("classes", 4096),
    }


def _two(hidden: int) -> Usual:
    return {"classifier.0": (hidden, "features"), "classifier.3": ("classes", hidden)}


#: What people replace, and what stands there.
_PLACES: tuple[tuple[str, Usual], ...] = (
    *((name, _last(name)) for name in ("fc", "classifier", "head", "last_linear")),
    *((name, _last(name)) for name in ("head.fc", "heads.head")),
    *((name, _last(name)) for name in ("classifier.1", "classifier.2", "classifier.3")),
    ("classifier.6", _last("classifier.6")),
    ("classifier", _last("classifier.1")),
    ("heads", _last("heads.head")),
    ("classifier", _three("classifier.0", "classifier.3")),  # VGG
    ("classifier", _three("classifier.1", "classifier.4")),  # AlexNet
    ("classifier", _two(1024)),  # MobileNetV3, small
    ("classifier", _two(1280)),  # and large
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a head with tensors.

    Args:
        name: In the `nn.Sequential`; empty for a head that is this layer alone.
        kind: What it is.
        size: (out, in) of a linear layer; (features, features) of a batch norm.
        bias: Whether it has one.
    """

    name: str
    kind: Kind
    size: tuple[int, int]
    bias: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What stands in place of a part of a zoo's network.

    Args:
        place: Dotted name of that part.
        layers: Those with tensors, in order.
    """

    place: str
    layers: tuple[Layer, ...]

    @property
    def guesses(self) -> bool:
        """Whether an activation may stand between two of its layers, which no tensor shows."""
        return sum(layer.kind == "linear" for layer in self.layers) > 1

    def __str__(self) -> str:
        linear = [layer.size for layer in self.layers if layer.kind == "linear"]
        return ", ReLU, ".join(f"Linear({size[1]}, {size[0]})" for size in linear)


def with_usual_head(names: Mapping[str, str], shapes: Shapes) -> Iterator[tuple[Head, Shapes]]:
    """Each way to read a part of the names as a head, and the shapes with the zoo's own instead.

    Args:
        names: Name without a wrapper's prefix -> name in the file.
        shapes: By the names in the file.
    """
    for place, usual in _PLACES:
        start = f"{place}."
        inside = {n[len(start) :]: shapes[full] for n, full in names.items() if n.startswith(start)}
        layers = _read_layers(inside)
        own = {f"{name}.weight" for name in usual} | {f"{name}.bias" for name in usual}
        if not layers or {f"{place}.{name}" for name in inside} == own:
            continue
        values = {"features": layers[0].size[1], "classes": layers[-1].size[0]}
        changed = {n: shapes[full] for n, full in names.items() if not n.startswith(start)}
        for name, sizes in usual.items():
            rows, columns = (size if isinstance(size, int) else values[size] for size in sizes)
            changed[f"{name}.weight"] = (rows, columns)
            changed[f"{name}.bias"] = (rows,)
        yield Head(place, tuple(layers)), changed


def _read_layers(inside: Shapes) -> list[Layer]:
    """The layers of a head, where each takes what the one before gives; else none."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in inside.items():
        own, _, tensor = name.rpartition(".")
        groups.setdefault(own, {})[tensor] = tuple(shape)
    if all(name.isdecimal() for name in groups):
        groups = {name: groups[name] for name in sorted(groups, key=int)}
    layers: list[Layer] = []
    for name, tensors in groups.items():
        layer = _read_layer(name, tensors)
        if layer is None or "." in name or (layers and layer.size[1] != layers[-1].size[0]):
            return []
        layers.append(layer)
    return layers if layers and layers[-1].kind == "linear" else []


def _read_layer(name: str, tensors: Mapping[str, tuple[int, ...]]) -> Layer | None:
    weight = tensors.get("weight", ())
    given = tensors.keys() - {_COUNTER}
    if len(weight) == 2 and given <= {"weight", "bias"}:
        return Layer(name, "linear", (weight[0], weight[1]), "bias" in given)
    if len(weight) == 1 and given == _NORM:
        return Layer(name, "batch norm", (weight[0], weight[0]), True)
    return None
