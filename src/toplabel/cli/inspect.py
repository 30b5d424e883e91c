"""`toplabel inspect`: the contents of a model file, without running any of its code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    Command,
    as_flags,
    debug_flag,
    json_flag,
    model_file_flags,
    take,
)
from toplabel.cli.records import print_columns, print_json
from toplabel.cli.terminal import say
from toplabel.errors import BundleError, CheckpointError
from toplabel.models.options import ModelOptions

if TYPE_CHECKING:
    from toplabel.models.inspect import Description

HELP = """Describe a model file without running any of its code.

\b
toplabel inspect best.pth         format, keys, classes, channels, architecture, what is missing
toplabel inspect best.pth --script train.py        what the script says of it, and what it takes
toplabel inspect best.pth --arch nets.py:MyCNN     the sizes of images that the network takes
toplabel inspect cats.toplabel    labels, preprocessing, provenance, agreement with PyTorch
toplabel inspect best.pth --json  the same as one JSON object

FILE is a checkpoint (torch or safetensors, under any name), a bundle or an ONNX file. With --arch
or --script the network is built, by the code that is named.
"""


@click.command(cls=Command, help=HELP, short_help="Describe a model file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sha256", metavar="DIGEST", help="Stop if the file has another SHA-256 digest.")
@json_flag
@model_file_flags
@debug_flag
def inspect(file: Path, *, sha256: str | None, as_json: bool, **options: Any) -> int:
    """Describe a model file."""
    from toplabel.models.inspect import sha256_of

    description = _describe(file, ModelOptions(**take(ModelOptions, options)))
    if sha256 is not None and (found := sha256_of(file)) != sha256.lower():
        raise CheckpointError(f"got sha256 {found} of {str(file)!r}; expected {sha256}")
    if as_json:
        problem = {"missing": description.missing, "problem": as_flags(description.problem)}
        print_json({**description.facts, **problem})
    else:
        facts = description.facts.items()
        print_columns(
            ("", ""), [(k.removesuffix("_bytes").replace("_", " "), _shown(k, v)) for k, v in facts]
        )
    for line in description.missing:
        say(f"missing: {line}")
    if description.problem:
        say(as_flags(description.problem))
    return 2 if description.problem else 0


def _describe(file: Path, options: ModelOptions) -> Description:
    if options.arch is not None or options.script is not None:
        from toplabel.models.network_facts import describe_network  # imports torch

        return describe_network(file, options)
    from toplabel.models.inspect import describe

    return describe(file, ema=options.ema, state_dict=options.state_dict)


def _shown(name: str, value: Any) -> str:
    if name == "size_bytes":
        return f"{value / 1e6:,.1f} MB"
    if value is None:
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if name == "calibration" and isinstance(value, dict):
        return _of_calibration(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none found"
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return str(value)


def _of_calibration(fields: dict[str, Any]) -> str:
    from toplabel.bundle.calibration import Calibration

    try:
        return str(Calibration.from_dict(fields))
    except (BundleError, TypeError):
        return f"damaged: {fields}"
