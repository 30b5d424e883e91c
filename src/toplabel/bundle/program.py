"""Program: a model compiled to ONNX, as a folder of files, and their description."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from toplabel.errors import BundleError

PROGRAM_SCHEMA = 1
PROGRAM_NAME = "program.onnx"
REFERENCE_NAME = "goldens.npz"
DESCRIPTION_NAME = "program.json"

A_DAY = 86_400.0

_FACTS: dict[str, type] = {  # fields of a program in its description, with their types in JSON
    "key": str,
    "input_name": str,
    "output_name": str,
    "input_shape": list,
    "outputs": int,
    "fixed_batch": bool,
    "exporter": str,
    "agreement": dict,
}


@dataclass(frozen=True, slots=True)
class NotCompiled:
    """There is no program for a model; `reason` says why, in one line.

    `seconds`: how long another attempt would end alike: for ever; a day where it took too long,
    as a busy machine makes it; not at all after a full disk or a want of memory.
    """

    reason: str
    seconds: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Maps a float32 (N, C, H, W) batch to float32 (N, K) outputs; checked against eager PyTorch.

    One that came as an ONNX file was checked against ONNX Runtime without optimisations instead.

    Args:
        path: The ONNX file; weights that do not fit into it lie beside it.
        reference_path: The reference inputs and the logits that eager PyTorch gave.
        key: What it was made from, as 64 hexadecimal digits.
        input_name: The name of its one input.
        output_name: The name of its one output.
        input_shape: C, H and W.
        outputs: K.
        fixed_batch: It takes one input at a time: N is 1.
        exporter: What made it, for people.
        agreement: How well it agreed with eager PyTorch when it was made, and who checked.
        tolerance: What its logits may differ by from its reference outputs, where it is run; None:
            as little as float32 does.
    """

    path: Path
    reference_path: Path
    key: str
    input_name: str
    output_name: str
    input_shape: tuple[int, int, int]
    outputs: int
    fixed_batch: bool
    exporter: str
    agreement: Mapping[str, float | str]
    tolerance: float | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The program in `folder`.

        Raises:
            BundleError: There is none, it is damaged, or it was made by a newer toplabel.
        """
        description = read_object(folder / DESCRIPTION_NAME, "program")
        check_schema(description.get("schema"), PROGRAM_SCHEMA, f"program at {folder}")
        try:
            facts = {name: _typed(description, name, kind) for name, kind in _FACTS.items()}
            channels, height, width = map(int, facts.pop("input_shape"))
            sizes = _typed(description, "files", dict)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{folder / DESCRIPTION_NAME} is damaged ({error!r}); make the bundle again"
            ) from error
        _check_sizes(folder, sizes)
        return cls(
            path=folder / PROGRAM_NAME,
            reference_path=folder / REFERENCE_NAME,
            input_shape=(channels, height, width),
            **facts,
        )

    def write(self, folder: Path) -> None:
        """Describe the program in `folder`, where its files stand already.

        Raises:
            OSError: A file is missing or the description cannot be written.
        """
        description = self.to_description(
            {path.name: path.stat().st_size for path in program_files(folder)}
        )
        text = json.dumps(description, indent=1) + "\n"
        (folder / DESCRIPTION_NAME).write_text(text, encoding="utf-8")

    def to_description(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """All that is known of it, as plain data for JSON.

        Args:
            sizes: Its files by name, in bytes.
        """
        facts = {name: kind(getattr(self, name)) for name, kind in _FACTS.items()}
        return {"schema": PROGRAM_SCHEMA, **facts, "files": dict(sizes)}


def program_files(folder: Path) -> list[Path]:
    """The files of the program in `folder`, without any description of it, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".json")


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object that describes a program or a bundle; a `BundleError` where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"cannot read the {what} at {path.parent}: {path.name}: {reason}"
        ) from error
    if not isinstance(found, dict):
        raise BundleError(
            f"cannot read the {what} at {path.parent}: {path.name} is not a JSON object"
        )
    return found


def check_schema(found: object, expected: int, what: str) -> None:
    """Refuse the schema of another version with a `BundleError`."""
    if found != expected:
        raise BundleError(
            f"got a {what} with schema {found!r}; this version of toplabel reads schema {expected};"
            " upgrade toplabel, or make the bundle again"
        )


def _typed(description: dict[str, Any], name: str, kind: type) -> Any:
    value = description[name]
    if type(value) is not kind:
        raise TypeError(f"{name} is {value!r}; expected {kind.__name__}")
    return value


def _check_sizes(folder: Path, sizes: dict[str, Any]) -> None:
    if not {PROGRAM_NAME, REFERENCE_NAME} <= sizes.keys():
        raise BundleError(f"the program at {folder} lacks {PROGRAM_NAME} or {REFERENCE_NAME}")
    for name, size in sizes.items():
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise BundleError(f"the program at {folder} names a file outside it: {name!r}")
        try:
            found = os.stat(folder / name).st_size
        except OSError as error:
            raise BundleError(f"the program at {folder} lacks its file {name}: {error}") from error
        if found != size:
            raise BundleError(
                f"the program at {folder} is damaged: {name} has {found} bytes instead of {size};"
                " make the bundle again"
            )
