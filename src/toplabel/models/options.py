"""Stated: what the user says of a model that its file does not say. Its code, labels, recipe."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

from toplabel._version import __version__
from toplabel.errors import UsageError
from toplabel.labels.labels import Labels

if TYPE_CHECKING:
    from torch import nn

    from toplabel.bundle.model import Model
    from toplabel.preprocess import Preprocess

LabelsLike = Labels | Sequence[str] | Mapping[str, int] | Mapping[int, str]


class Statements(TypedDict, total=False):
    """Keyword arguments of `load`; what each means stands at `Stated`."""

    arch: str | nn.Module | Callable[..., nn.Module] | None
    arch_args: Mapping[str, Any]
    labels: LabelsLike | str | os.PathLike[str] | None
    preprocess: object
    multi_label: bool
    ema: bool
    allow_globals: Sequence[str]
    allow_partial: bool
    trust: bool
    recompile: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the user says of a model.

    Args:
        arch: The network of a checkpoint: the name of one of torchvision's or timm's; a class as
            `package.module:Class` or `nets.py:Class`, whose code is run; in Python also the class
            itself, a function that makes the network, or the network. None: identified from the
            checkpoint's tensors.
        arch_args: What the class or function is called with.
        labels: The class names: as `Labels.of` takes them, or the path of a text, JSON or CSV file
            or of a folder with a folder for each class.
        preprocess: The recipe: the name of a preset, the path of a JSON file, or in Python the
            validation transform itself.
        multi_label: Its outputs are independent of one another: sigmoid, not softmax.
        ema: Take the averaged weights of a checkpoint that has such.
        allow_globals: Names of classes and functions that unpickling the checkpoint may call.
        allow_partial: Go on where the checkpoint does not fit the network in all parts.
        trust: Unpickle the checkpoint whatever it does: it can run any code.
        recompile: Look at the network's code anew, where files that it imports have changed.
    """

    arch: str | nn.Module | Callable[..., nn.Module] | None = None
    arch_args: Mapping[str, Any] = field(default_factory=dict)
    labels: LabelsLike | str | os.PathLike[str] | None = None
    preprocess: object = None
    multi_label: bool = False
    ema: bool = False
    allow_globals: Sequence[str] = ()
    allow_partial: bool = False
    trust: bool = False
    recompile: bool = False

    def read_labels(self) -> Labels | None:
        """The labels, from their file where they stand in one.

        Raises:
            LabelsError: The file, or what was given, holds no labels.
        """
        if self.labels is None:
            return None
        if isinstance(self.labels, str | os.PathLike):
            from toplabel.labels.files import read_labels

            return read_labels(self.labels)
        return Labels.of(self.labels)

    def read_preprocess(self) -> Preprocess | None:
        """The recipe, from its preset, file or transform.

        Raises:
            PreprocessError: There is no such preset or file, or it cannot be expressed.
        """
        if self.preprocess is None:
            return None
        if isinstance(self.preprocess, str | os.PathLike):
            from toplabel.models.transforms import preprocess_of

            return preprocess_of(os.fspath(self.preprocess))
        from toplabel.models.transforms import translate

        return translate(self.preprocess)

    def restate(self, model: Model) -> Model:
        """A zoo's model with the labels and activation that the user states instead.

        Raises:
            LabelsError: The labels do not fit its outputs.
        """
        labels = self.read_labels()
        if labels is not None:
            labels.check_count(len(model.labels))
        return replace(
            model,
            labels=labels or model.labels,
            multi_label=self.multi_label or model.multi_label,
        )

    def demand_no_checkpoint(self, name: str) -> None:
        """Stop where something is said that only a checkpoint needs.

        Raises:
            UsageError: It names the first such thing.
        """
        said = {
            "arch": self.arch is not None,
            "arch_args": bool(self.arch_args),
            "ema": self.ema,
            "allow_globals": bool(self.allow_globals),
            "allow_partial": self.allow_partial,
            "trust": self.trust,
            "recompile": self.recompile,
        }
        for what, is_said in said.items():
            if is_said:
                hint = f"; for the file of that name say ./{name}" if os.path.exists(name) else ""
                raise UsageError(
                    f"got {what} for {name}, which is no checkpoint file; expected it with a .pth,"
                    f" .pt, .ckpt or .safetensors file{hint}"
                )

    def fingerprint(self, *, code: str | None) -> str | None:
        """What a cached model depends on beside its files: hexadecimal digits.

        None where a live object stands in it, which has no name in another process.

        Args:
            code: The file that the network's class stands in, where there is one.
        """
        is_named = self.arch is None or isinstance(self.arch, str)
        if not is_named or not _is_plain(dict(self.arch_args)):
            return None
        labels, recipe = self.read_labels(), self.read_preprocess()
        said = [
            self.arch,
            code,
            sorted((name, repr(value)) for name, value in self.arch_args.items()),
            None if labels is None else [labels.names, labels.ids],
            None if recipe is None else recipe.to_dict(),
            [self.multi_label, self.ema, self.allow_partial, self.trust],
            sorted(self.allow_globals),
            __version__,  # labels and recipes are found by its rules
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _is_plain(value: object) -> bool:
    """Whether its text says all of it."""
    if isinstance(value, dict):
        return all(_is_plain(part) for part in (*value, *value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
