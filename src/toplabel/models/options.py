"""Options of `load`: what a model's file does not say, and how the model is run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from toplabel._internal.options import given_options, option, refuse_both
from toplabel._version import __version__
from toplabel.errors import UsageError
from toplabel.image.options import ReadOptions
from toplabel.inference.engines import ProgramEngine

if TYPE_CHECKING:
    from torch import nn

    from toplabel.bundle.model import Model
    from toplabel.labels.given import LabelsLike
    from toplabel.labels.labels import Labels
    from toplabel.preprocess.custom import AnyPreprocess

EngineChoice = Literal["auto", "onnxruntime", "openvino", "torch"]
Dtype = Literal["float32", "bfloat16", "float16"]

_IN_SCRIPT = re.compile(r".+\.(?:py|ipynb|md):[^\W\d][\w.]*")
_OF_ANY_MODEL = ("labels", "preprocess", "multi_label")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What the user knows of a model that its file does not say."""

    arch: str | nn.Module | Callable[..., nn.Module] | None = option(
        None,
        metavar="ARCH",
        help="The network of a checkpoint: a name of torchvision's or timm's, or your class as"
        " package.module:Class or nets.py:Class, whose code is run. By default its tensors tell.",
        python="Also the class itself, a function that makes the network, or the network.",
    )
    arch_args: Mapping[str, Any] = option(
        factory=dict,
        flags=("--arch-arg",),
        metavar="NAME=VALUE",
        collects=True,
        help="Argument for the class. Numbers of classes and channels are read from the file.",
    )
    script: str | os.PathLike[str] | None = option(
        None,
        metavar="PATH",
        help="The script, notebook, Markdown file or folder that made a checkpoint: it is read for"
        " network, preprocessing and class names, and only the network's definitions are run.",
    )
    labels: LabelsLike | None = option(
        None,
        metavar="FILE",
        help="Class names: a .txt, .json, .csv or .yaml file, a folder with one sub-folder per"
        " class, a known list (imagenet, cifar10, ...), or a list in a script that is not run"
        " (train.py:classes).",
        python="Also the names themselves in output order, a class_to_idx or an id2label.",
    )
    preprocess: object = option(
        None,
        metavar="PRESET",
        help="A preset (toplabel models --preprocess lists them), a JSON file, or your own"
        " transform as FILE.py:NAME, whose code is run.",
        python="Also the validation transform itself, or any function of a PIL image that gives a"
        " float tensor (C, h, w).",
    )
    multi_label: bool = option(
        False,
        help="Classes are independent: those apply whose score reaches the threshold (0.5).",
    )
    output: str | int | None = option(
        None,
        flags=("--model-output",),
        metavar="NAME|INDEX",
        elsewhere="model_output",
        help="Which of several outputs of a network holds the scores of the classes: its name, or"
        " its place from 0.",
    )
    ema: bool = option(False, help="Use a checkpoint's averaged (EMA) weights.")
    state_dict: str | None = option(
        None,
        metavar="KEY",
        help="Which of several networks of a checkpoint: its key, or its tensors' prefix.",
    )
    allow_globals: Sequence[str] = option(
        (),
        flags=("--allow-global",),
        metavar="NAME",
        help="Deprecated, without effect: objects of any class are read as data.",
    )
    allow_partial: bool = option(
        False, help="Accept a checkpoint that does not fit the network in all parts."
    )
    trust: bool = option(
        False,
        help="Run what a whole pickled network or a program names, whatever it does.",
    )
    recompile: bool = option(
        False, help="Read your network's code again, because files that it imports have changed."
    )

    def labels_for(self, outputs: int, *, own: Labels | None) -> Labels | None:
        """The labels that are given, one for each output; None where none are.

        Args:
            outputs: How many the network has.
            own: What the network, or its file, calls its classes.

        Raises:
            LabelsError: The file, or what was given, holds no labels, or none that fit.
        """
        given = self.labels_as_given()
        if given is None:
            return None
        from toplabel.labels.given import labels_for  # reads files; most models bring their names

        return labels_for(given, outputs, own=own)

    def labels_as_given(self) -> LabelsLike | None:
        """The labels as they were given; of `train.py:classes` the list of that name."""
        if not isinstance(self.labels, str) or not _IN_SCRIPT.fullmatch(self.labels):
            return self.labels
        from toplabel.models.script.names import read_names

        return read_names(self.labels)

    def read_preprocess(self) -> AnyPreprocess | None:
        """The preprocessing, from its preset, file, transform or code.

        Raises:
            PreprocessError: There is no such preset or file, or it cannot be used.
        """
        return self._preprocess

    @cached_property
    def _preprocess(self) -> AnyPreprocess | None:
        """Read once: code of the user's is run for it, and may warn."""
        if self.preprocess is None:
            return None
        from toplabel.models.transforms import read_preprocess

        return read_preprocess(self.preprocess)

    def apply_to(self, model: Model) -> Model:
        """A zoo's model with the labels and activation that the user gives instead.

        Raises:
            LabelsError: The labels do not fit its outputs.
        """
        from toplabel.bundle.outputs import Evidence, interpret  # only where a model is made

        labels = self.labels_for(len(model.labels), own=model.labels)
        multi_label = self.multi_label or model.multi_label
        if labels is None and multi_label == model.multi_label and len(model.labels) > 1:
            return model
        found = interpret(
            Evidence(count=len(model.labels)),
            labels=labels or model.labels,
            multi_label=multi_label,
            name=model.name,
        )
        module = model.module
        if found.conversion:
            from toplabel.models.outputs import Scores

            module = Scores(module, "output", found.conversion).eval()
        return replace(
            model,
            module=module,
            labels=found.labels,
            activation=found.activation,
            multi_label=found.multi_label,
        )

    @property
    def of_checkpoint(self) -> tuple[str, ...]:
        """What is given that only a checkpoint needs."""
        return tuple(name for name in given_options(self) if name not in _OF_ANY_MODEL)

    def check_no_checkpoint_options(self, name: str) -> None:
        """Stop where something is given that only a checkpoint needs.

        Raises:
            UsageError: It names the first such thing.
        """
        for given in self.of_checkpoint:
            hint = f"; for the file of that name write ./{name}" if os.path.exists(name) else ""
            raise UsageError(
                f"got {given}=... for {name}, which is not a checkpoint; expected it with a .pth,"
                f" .pt, .ckpt or .safetensors file{hint}"
            )

    def fingerprint(self, *, code: str | None) -> str | None:
        """What a cached model depends on beside its files: hexadecimal digits.

        None where a live object stands in it, which has no name in another process.

        Args:
            code: The file that the network's class stands in, where there is one.
        """
        import hashlib  # loads OpenSSL: milliseconds that a warm start does not pay
        import json

        is_named = self.arch is None or isinstance(self.arch, str)
        if not is_named or not is_plain(dict(self.arch_args)):
            return None
        if self.preprocess_in_script():
            plain: dict[str, Any] | None = {"in the script": self.preprocess}
        else:
            preprocess = self.read_preprocess()
            plain = None if preprocess is None else preprocess.to_dict()
        if plain is not None and "custom" in plain:  # code of the user's
            return None
        parts = [
            self.arch,
            code,
            self._script_as_given(),
            sorted((name, repr(value)) for name, value in self.arch_args.items()),
            self._labels_as_given(),
            plain,
            [self.multi_label, self.ema, self.state_dict, self.allow_partial, self.trust],
            self.output,
            __version__,  # labels and preprocessing are found by its rules
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def preprocess_in_script(self) -> str:
        """`transform` of `train.py:transform`, where that file is the script or beside it."""
        given = self.preprocess
        if self.script is None or not isinstance(given, str) or not _IN_SCRIPT.fullmatch(given):
            return ""
        file, _, name = given.rpartition(":")
        script = os.path.realpath(self.script)
        folder = script if os.path.isdir(script) else os.path.dirname(script)
        for path in (os.path.realpath(file), os.path.realpath(os.path.join(folder, file))):
            if os.path.isfile(path) and os.path.commonpath([folder, path]) == folder:
                return name
        return ""

    def _script_as_given(self) -> list[str] | None:
        """Where the script is, and its content, for a digest."""
        if self.script is None:
            return None
        from toplabel.models.script.sources import script_digest

        return [os.path.realpath(self.script), script_digest(self.script)]

    def _labels_as_given(self) -> list[object] | None:
        """What stands in their file or object, for a digest."""
        given = self.labels_as_given()
        if given is None:
            return None
        from toplabel.labels.given import labels_digest

        return labels_digest(given)


def is_plain(value: object) -> bool:
    """Whether its text says all of it."""
    if isinstance(value, dict):
        return all(is_plain(part) for part in (*value, *value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float)


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a model is run.

    Raises:
        UsageError: A value is not accepted, or two contradict each other.
    """

    engine: EngineChoice = option(
        "auto",
        choices=get_args(EngineChoice),
        help="Engine to run the model with. auto is ONNX Runtime, except on a GPU, in another"
        " dtype, or if a model could not be compiled. openvino is the extra of that name.",
    )
    device: str = option(
        "auto",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1 or mps; auto is the CPU for single images, and for many a GPU that"
        " CUDA and PyTorch can use.",
    )
    dtype: Dtype = option(
        "float32",
        choices=get_args(Dtype),
        help="Data type in PyTorch; lower precision than float32 can change labels.",
    )
    threads: int | None = option(
        None,
        minimum=1,
        metavar="N",
        help="Images processed at once. By default one per available processor.",
    )
    batch_size: int | None = option(
        None,
        minimum=1,
        metavar="N",
        help="Images in one call of the engine. By default 2 on a CPU, 64 on a GPU.",
    )
    exact: bool = option(
        False,
        help="Always decode large JPEGs at full size. Labels are the same either way; with it,"
        " scores also equal those of the library's own preprocessing.",
    )
    fast: bool = option(
        False,
        help="Compute in reduced precision where the label is clear, and exactly where it is not."
        " The built-in model can; for another, run toplabel optimize once.",
    )
    read: ReadOptions = option(
        factory=ReadOptions, shell=False, help="Limits and choices in reading images."
    )

    def __post_init__(self) -> None:
        _check_choice("engine", self.engine, get_args(EngineChoice))
        _check_choice("dtype", self.dtype, get_args(Dtype))
        refuse_both(fast=self.fast, exact=self.exact)
        if self.demands_program and self._beyond_programs:
            raise UsageError(
                f"got engine {self.engine!r} with device {self.device!r} and dtype {self.dtype!r};"
                " it runs on the CPU in float32; for others use engine 'torch'"
            )

    @property
    def _beyond_programs(self) -> bool:
        return self.device not in ("auto", "cpu") or self.dtype != "float32"

    @property
    def needs_torch(self) -> bool:
        """Whether only PyTorch can do what is asked for."""
        return self.engine == "torch" or self._beyond_programs

    @property
    def demands_program(self) -> bool:
        """Whether only a compiled program will do."""
        return self.engine in get_args(ProgramEngine)

    @property
    def program_engine(self) -> ProgramEngine:
        """What runs a compiled program."""
        return "openvino" if self.engine == "openvino" else "onnxruntime"

    @property
    def leaves_device_open(self) -> bool:
        """Whether engine, device and dtype are for this machine to choose."""
        return (self.engine, self.device, self.dtype) == ("auto", "auto", "float32")


def _check_choice(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise UsageError(f"got {name} {value!r}; expected one of {', '.join(accepted)}")
