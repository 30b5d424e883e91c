"""`toplabel inspect`: the contents of a model file, without running any of its code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel._internal.text import percent
from toplabel.cli.options import (
    SOURCE,
    Command,
    as_flags,
    check_one_model,
    debug_flag,
    json_flag,
    model_file_flags,
    take,
)
from toplabel.cli.records import print_columns, print_json, print_lines
from toplabel.cli.terminal import say, size_words
from toplabel.errors import BundleError, CheckpointError, ToplabelError, UsageError
from toplabel.models.options import ModelOptions

if TYPE_CHECKING:
    from toplabel.models.inspect import Description

_MOST = 10

HELP = """Describe a model file without running any of its code.

\b
toplabel inspect best.pth         format, keys, classes, channels, architecture, what is missing
toplabel inspect best.pth --script train.py        what the script says of it, and what it takes
toplabel inspect best.pth --arch nets.py:MyCNN     the sizes of images that the network takes
toplabel inspect cats.toplabel    labels, preprocessing, provenance, agreement with PyTorch
toplabel inspect runs/ '*.pth'    a table: a line for each model file
toplabel inspect best.pth --json  the same as one JSON object; of several files, one a line
toplabel inspect cats.toplabel --card > README.md  a model card, as the Hugging Face Hub shows it

FILE is a checkpoint (torch or safetensors, under any name), a bundle, an ONNX file, a Hugging Face
folder, or a folder or pattern of such files. With --arch or --script the network is built, by the
code that is named.
"""

_TABLE = ("FILE", "KIND", "SIZE", "CLASSES", "ARCHITECTURE", "MISSING")


@click.command(cls=Command, help=HELP, short_help="Describe a model file.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=SOURCE)
@click.option("--sha256", metavar="DIGEST", help="Stop if the file has another SHA-256 digest.")
@click.option("--card", is_flag=True, help="Print a model card in Markdown; of a bundle.")
@json_flag
@model_file_flags
@debug_flag
def inspect(
    files: tuple[str, ...], *, sha256: str | None, card: bool, as_json: bool, **options: Any
) -> int:
    """Describe model files."""
    from toplabel.models.ref import model_files

    given = take(ModelOptions, options)
    found = list(model_files(files))
    if len(found) > 1:
        check_one_model(given, len(found))
        if sha256 is not None or card:
            flag = "--card" if card else "--sha256"
            raise click.UsageError(f"got {flag} with {len(found)} files; it applies to one")
        return _inspect_several(found, as_json=as_json)
    return _inspect_one(
        Path(found[0]), ModelOptions(**given), sha256=sha256, card=card, as_json=as_json
    )


def _inspect_one(
    file: Path, options: ModelOptions, *, sha256: str | None, card: bool, as_json: bool
) -> int:
    from toplabel.models.inspect import sha256_of

    description = _describe(file, options)
    if sha256 is not None and (found := sha256_of(file)) != sha256.lower():
        raise CheckpointError(f"got sha256 {found} of {str(file)!r}; expected {sha256}")
    if card:
        print_lines([_card(file, description).rstrip("\n")])
    elif as_json:
        print_json(_as_json(description))
    else:
        facts = description.facts.items()
        print_columns(
            ("", ""), [(k.removesuffix("_bytes").replace("_", " "), _shown(k, v)) for k, v in facts]
        )
    for line in () if card else description.missing:
        say(f"missing: {line}")
    if description.problem:
        say(as_flags(description.problem))
    return 2 if description.problem else 0


def _inspect_several(files: list[str], *, as_json: bool) -> int:
    """A line for each file; one that cannot be read is a line, too."""
    from toplabel.models.inspect import Description

    problems, rows, objects = [], [], []
    for file in files:
        try:
            found = _describe(Path(file), ModelOptions())
        except ToplabelError as error:
            found = Description(facts={"file": file}, problem=str(error).split("\n")[0])
        if found.problem:
            problems.append(f"{file}: {as_flags(found.problem)}")
        objects.append({"file": file, **_as_json(found)})
        rows.append(_row(file, found))
    if as_json:
        print_json(*objects)  # once: what is printed later is not for standard output
    else:
        print_columns(_TABLE, rows)
    for problem in problems:
        say(problem)
    return 2 if len(problems) == len(files) else 1 if problems else 0


def _row(file: str, found: Description) -> tuple[str, ...]:
    facts = found.facts
    architecture = (
        facts.get("architecture_stated") or facts.get("architecture") or facts.get("name")
    )
    first = architecture[0] if isinstance(architecture, list) and architecture else architecture
    size, classes = facts.get("size_bytes"), facts.get("classes")
    return (
        file,
        str(facts.get("kind") or facts.get("format") or "unreadable"),
        "" if size is None else _shown("size_bytes", size),
        "" if classes is None else str(classes),
        str(first or ""),
        ", ".join(line.split(" ")[0] for line in found.missing),
    )


def _as_json(description: Description) -> dict[str, Any]:
    problem = {"missing": description.missing, "problem": as_flags(description.problem)}
    return {**description.facts, **problem}


def _card(file: Path, description: Description) -> str:
    """The model card of a bundle; a `UsageError` for other files."""
    from toplabel.bundle.bundle import built_in_bundle
    from toplabel.bundle.file import packed_labels
    from toplabel.models.card import model_card

    kind = description.facts.get("kind")
    if kind == "built-in model":
        return model_card(description.facts, built_in_bundle().labels.names)
    if kind == "packed bundle":
        return model_card(description.facts, packed_labels(file))
    raise UsageError(
        f"{str(file)!r} is no bundle, which states what a model card says; pack it first:"
        f" toplabel pack {file} -o model.toplabel"
    )


def _describe(file: Path, options: ModelOptions) -> Description:
    if options.arch is not None or options.script is not None:
        from toplabel.models.network_facts import describe_network  # imports torch

        return describe_network(file, options)
    from toplabel.models.inspect import describe

    return describe(file, ema=options.ema, state_dict=options.state_dict)


def _shown(name: str, value: Any) -> str:
    if name == "size_bytes":
        return size_words(value)
    if value is None:
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if name == "calibration" and isinstance(value, dict):
        return _of_calibration(value)
    if name == "training" and isinstance(value, dict):
        return _of_training(value)
    if name == "unknown" and isinstance(value, dict):
        from toplabel.bundle.unknown import in_words

        return in_words(value)
    if name == "reduced" and isinstance(value, dict):
        return _of_reduced(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none found"
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return str(value)


def _of_training(facts: dict[str, Any]) -> str:
    """On what, how and with what result, in one line."""
    try:
        classes = facts["classes"]
        counts = ", ".join(f"{name} {count:,}" for name, count in [*classes.items()][:_MOST])
        more = f" and {len(classes) - _MOST:,} more" if len(classes) > _MOST else ""
        accuracy, low, high = (100 * facts[one] for one in ("accuracy", "low", "high"))
        held_out = facts.get("held_out")
        how = "out of fold" if held_out is None else f"on {held_out:,} held-out images"
        return (
            f"{facts['images']:,} images of {len(classes):,} classes ({counts}{more});"
            f" {facts['method']}; accuracy {accuracy:.1f} % ({low:.1f} to {high:.1f}) {how},"
            f" balanced {100 * facts['balanced_accuracy']:.1f} %; {facts['date']}"
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"damaged: {facts}"


def _of_reduced(fields: dict[str, Any]) -> str:
    """What it computes in, how fast, and what holds of its labels, in one line."""
    from toplabel.bundle.reduced import ReducedProgram

    try:
        found = ReducedProgram.from_dict(fields, Path())
    except (BundleError, KeyError, TypeError):
        return f"damaged: {fields}"
    return (
        f"{found.precision}, for --fast; {found.speedup:.2f} times as fast on {found.processor};"
        f" {percent(found.margin.again)} computed again; {found.margin}"
    )


def _of_calibration(fields: dict[str, Any]) -> str:
    from toplabel.bundle.calibration import Calibration

    try:
        return str(Calibration.from_dict(fields))
    except (BundleError, TypeError):
        return f"damaged: {fields}"
