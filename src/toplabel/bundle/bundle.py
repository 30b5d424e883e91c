"""Bundle: a checked program with its preprocessing and labels; all that labelling takes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self, get_args

from toplabel._internal import platform
from toplabel._internal.notices import About, Notice
from toplabel.bundle import cache
from toplabel.bundle.calibration import Calibration
from toplabel.bundle.conversion import NO_CONVERSION, Conversion
from toplabel.bundle.model import Activation
from toplabel.bundle.program import (
    DESCRIPTION_NAME,
    PROGRAM_NAME,
    REFERENCE_NAME,
    Program,
    check_schema,
    read_object,
)
from toplabel.bundle.reduced import ReducedProgram
from toplabel.bundle.unknown import EXAMPLES_NAME, UNKNOWN_NAME, Memory, UnknownDetector
from toplabel.errors import BundleError, ToplabelError
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

_SCHEMAS = (1, 2, 3)
"""Of manifests. The second says more of a program's outputs, the third of what training left
beside the program; most have the first."""
MANIFEST_NAME = "manifest.json"
BUILT_IN_NAME = "embedded/efficientnet_lite0"
ZIP_START = b"PK\x03\x04"
_NAME_AT = 30  # where a zip file's first member is named
DOUBTS = "doubts"
"""In a provenance: what was assumed or noticed when the model was made, a sentence a line."""
DOUBTS_ABOUT = "doubts_about"
"""What each of them is about, a word or nothing a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A compiled classifier, ready to run without torch.

    Args:
        name: Its full name, with the start of its weights' sha256:
            `torchvision/resnet50:IMAGENET1K_V2@0f1e2d3c`.
        program: Maps a float32 (N, C, H, W) batch to float32 (N, K) outputs.
        preprocess: From pixels to that batch.
        labels: One for each output, once converted.
        activation: How outputs become scores.
        multi_label: Classes are independent, each applies or not.
        conversion: What is done to the program's outputs before; nothing to those of a program
            that was compiled here.
        provenance: Source, revision, licence, versions, as text.
        calibration: How its scores are calibrated, where they are.
        training: What a model that was trained here was trained on, how, and with what result, as
            plain data for JSON; it changes no answer.
        unknown: Tells images that are unlike those it was trained on, where it can.
        examples: The features of further images that it was trained on, for a training that
            goes on from it.
        reduced: The same network in fewer bits, where there is such a program.
    """

    name: str
    program: Program
    preprocess: Preprocess
    labels: Labels
    activation: Activation = "softmax"
    multi_label: bool = False
    conversion: Conversion = NO_CONVERSION
    provenance: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None
    training: Mapping[str, Any] | None = None
    unknown: UnknownDetector | None = None
    examples: Memory | None = None
    reduced: ReducedProgram | None = None

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise BundleError(
                f"got activation {self.activation!r}; expected {', '.join(get_args(Activation))}"
            )
        if self.calibration is not None and self.activation != "softmax":
            raise BundleError("only a model of exclusive classes (softmax) can have a calibration")
        self.labels.check_count(2 if self.conversion.pair else self.program.outputs)
        shares = None if self.calibration is None else self.calibration.trained_prior
        if shares is not None and len(shares) != len(self.labels):
            raise BundleError(
                f"got a class prior of {len(shares)} classes; expected one share for each of the"
                f" {len(self.labels)} labels"
            )
        expected = (self.preprocess.num_channels, *self.preprocess.input_size)
        if self.program.input_shape != expected:
            raise BundleError(
                f"{self.name}: the preprocessing produces tensors of shape {expected}, but the"
                f" program takes {self.program.input_shape}"
            )

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """What was assumed or noticed when it was made; each of its records has them."""
        texts = self.provenance.get(DOUBTS, "").split("\n")
        topics = self.provenance.get(DOUBTS_ABOUT, "").split("\n")[: len(texts)]
        known: dict[str, About] = {topic: topic for topic in get_args(About)}
        pairs = zip_longest(texts, topics, fillvalue="")
        return tuple(Notice(text, known.get(topic)) for text, topic in pairs if text)

    def with_warnings(self, notices: Sequence[Notice]) -> Self:
        """The same bundle with these instead of its own."""
        return replace(self, provenance=with_doubts(self.provenance, notices))

    def to_manifest(self) -> dict[str, Any]:
        """Everything but the program, as plain data for JSON."""
        manifest: dict[str, Any] = {
            "schema": self.schema,
            "name": self.name,
            "program": self.program.key,
            "preprocess": self.preprocess.to_dict(),
            "activation": self.activation,
            "labels": {
                "names": list(self.labels.names),
                "ids": None if self.labels.ids is None else list(self.labels.ids),
                "named": self.labels.named,
            },
            "provenance": dict(self.provenance),
        }
        if self.calibration is not None:
            manifest["calibration"] = self.calibration.to_dict()
        if self.training is not None:
            manifest["training"] = dict(self.training)
        if self.unknown is not None:
            manifest["unknown"] = self.unknown.to_dict()
        if self.examples is not None:
            manifest["examples"] = len(self.examples.rows)
        if self.reduced is not None:
            manifest["reduced"] = self.reduced.to_dict()
        return manifest | self._says_more

    @property
    def schema(self) -> int:
        """Of its manifest: the first that can say all, so that old versions read what they can."""
        has_prior = self.calibration is not None and self.calibration.trained_prior is not None
        if has_prior or self.unknown is not None:
            return _SCHEMAS[2]
        return _SCHEMAS[bool(self._says_more)]

    @property
    def memories(self) -> dict[str, Memory]:
        """What is kept of training images, by the name of its file."""
        unknown = None if self.unknown is None else self.unknown.memory
        found = {UNKNOWN_NAME: unknown, EXAMPLES_NAME: self.examples}
        return {name: memory for name, memory in found.items() if memory is not None}

    @property
    def _says_more(self) -> dict[str, Any]:
        """What an older toplabel would pass over, and label wrongly: it does not read this."""
        more: dict[str, Any] = {}
        if self.multi_label != (self.activation == "sigmoid"):
            more["multi_label"] = self.multi_label
        if self.conversion:
            more["conversion"] = self.conversion.to_dict()
        return more

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], program: Program) -> Self:
        """The bundle that `to_manifest` wrote, around its program.

        Raises:
            BundleError: The manifest is damaged, belongs to a newer toplabel or another program.
        """
        schema = manifest.get("schema")
        check_schema(schema, schema if schema in _SCHEMAS else _SCHEMAS[-1], "bundle")
        if manifest.get("program") != program.key:
            raise BundleError(
                f"the manifest is for a program other than {program.key}; pack the model again"
            )
        try:
            labels = manifest["labels"]
            ids, found = labels["ids"], manifest.get("calibration")
            return cls(
                name=_text(manifest["name"]),
                program=program,
                preprocess=Preprocess.from_dict(manifest["preprocess"]),
                labels=Labels(
                    tuple(map(_text, labels["names"])),
                    None if ids is None else tuple(map(_text, ids)),
                    bool(labels["named"]),
                ),
                activation=manifest["activation"],
                multi_label=bool(manifest.get("multi_label", manifest["activation"] == "sigmoid")),
                conversion=Conversion.from_dict(manifest.get("conversion", {})),
                provenance={_text(k): _text(v) for k, v in manifest["provenance"].items()},
                calibration=None if found is None else Calibration.from_dict(found),
                training=_facts(manifest.get("training")),
                unknown=_read_unknown(manifest.get("unknown"), program),
                examples=(
                    Memory(program.path.parent / EXAMPLES_NAME) if "examples" in manifest else None
                ),
                reduced=_read_reduced(manifest.get("reduced"), program),
            )
        except (AttributeError, KeyError, TypeError, ToplabelError) as error:
            raise BundleError(f"the bundle's manifest is damaged: {error}") from error

    def write(self, folder: Path) -> None:
        """Put the manifest beside the program's files in `folder`; also what is kept of images."""
        for name, memory in self.memories.items():
            memory.write(folder / name)
        text = json.dumps(self.to_manifest(), ensure_ascii=False, indent=1)
        (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The bundle in `folder`: a manifest and its program side by side.

        Raises:
            BundleError: There is none, or it is damaged.
        """
        manifest = read_object(folder / MANIFEST_NAME, "bundle")
        return cls.from_manifest(manifest, Program.read(folder))


def with_doubts(provenance: Mapping[str, str], notices: Sequence[Notice]) -> dict[str, str]:
    """The provenance with these as what makes its model doubtful; no others."""
    doubts = {
        DOUBTS: "\n".join(notices),
        DOUBTS_ABOUT: "\n".join(notice.about or "" for notice in notices).rstrip("\n"),
    }
    known = {name: text for name, text in provenance.items() if name not in doubts}
    return known | {name: text for name, text in doubts.items() if text}


def _facts(value: object) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"got {value!r}; expected an object of facts")
    return value


def _read_unknown(found: Any, program: Program) -> UnknownDetector | None:
    if found is None:
        return None
    return UnknownDetector.from_dict(found, Memory(program.path.parent / UNKNOWN_NAME))


def _read_reduced(found: Any, program: Program) -> ReducedProgram | None:
    return None if found is None else ReducedProgram.from_dict(found, program.path.parent)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {value!r}; expected text")
    return value


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as a packed bundle does, whatever its name; it may be damaged.

    False, too, for what cannot be read. Only the first bytes are looked at.
    """
    members = (MANIFEST_NAME, REFERENCE_NAME, PROGRAM_NAME, DESCRIPTION_NAME)
    start = platform.read_start(path, _NAME_AT + len(MANIFEST_NAME))
    return start.startswith(ZIP_START) and start[_NAME_AT:].startswith(
        tuple(name.encode() for name in members)
    )


def cached_bundle(entry: str) -> Bundle | None:
    """The bundle that an earlier start made; None where it is gone, changed or does not fit."""
    manifest = cache.find_entry(entry)
    if manifest is None or "program" not in manifest:
        return None
    program = cache.find_program(manifest["program"])
    if program is None:
        return None
    try:
        return Bundle.from_manifest(manifest, program)
    except BundleError:  # damaged, or from another version: made again
        return None


def built_in_bundle() -> Bundle:
    """The model that ships with toplabel: EfficientNet-Lite0, 1000 ImageNet classes."""
    return Bundle.read(Path(__file__).parents[1] / "data" / "efficientnet_lite0")
