"""`toplabel models`: the models that -m accepts by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from toplabel.cli.options import Command, debug_flag
from toplabel.cli.records import print_columns, print_json
from toplabel.cli.terminal import say
from toplabel.errors import ModelNotFound

if TYPE_CHECKING:
    from toplabel.models.sources.catalog import ModelInfo

HEADER = ("NAME", "CLASSES", "INPUT", "TOP-1 %", "PARAMETERS", "SIZE")

HELP = """List the classifiers that -m accepts by name, with accuracy and size if published.

\b
toplabel models resnet        names that contain resnet
toplabel models 'resnet*'     names that match a pattern, in quotes
toplabel models --json        all, one JSON object per line
toplabel models --preprocess  the presets that --preprocess accepts, instead

TOP-1 is the published accuracy on ImageNet, SIZE that of the download. -m also accepts hf/ORG/NAME
and folders of Hugging Face models, which are not listed.
"""


@click.command(cls=Command, help=HELP, short_help="List available models.")
@click.argument("pattern", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
@click.option("--preprocess", "presets", is_flag=True, help="List the preprocessing presets.")
@debug_flag
def models(pattern: str | None, *, as_json: bool, presets: bool) -> int:
    """List the available classifiers, or the presets."""
    if presets:
        return _list_presets(as_json=as_json)
    from toplabel.models.sources.catalog import list_models  # imports torch where it is installed

    found = list_models(pattern)
    if not found:
        raise ModelNotFound(f"no model matches {pattern!r}; {_advice()}")
    if as_json:
        from dataclasses import asdict

        print_json(*map(asdict, found))
    else:
        print_columns(HEADER, [_row(info) for info in found])
    return 0


def _list_presets(*, as_json: bool) -> int:
    from toplabel.preprocess.presets import GRAMMAR, PRESETS, preset

    if as_json:
        print_json(*({"name": name, **preset(name).to_dict()} for name in PRESETS))
    else:
        print_columns(("PRESET", "WHAT IT DOES"), list(PRESETS.items()))
        say(f"any sizes will do: {GRAMMAR}")
    return 0


def _advice() -> str:
    from importlib.util import find_spec

    missing = [name for name in ("torchvision", "timm") if find_spec(name) is None]
    if not missing:
        return "toplabel models lists all"
    return f"{' and '.join(missing)} not installed; for more models: pip install 'toplabel[torch]'"


def _row(info: ModelInfo) -> tuple[str, ...]:
    """Cells of the table; "-" for what is unknown."""
    height, width = info.input_size
    return (
        info.name,
        str(info.classes),
        f"{height}x{width}",
        "-" if info.accuracy is None else f"{info.accuracy:.1f}",
        "-" if info.parameters is None else f"{info.parameters / 1e6:.1f} M",
        "-" if info.size_bytes is None else f"{info.size_bytes / 1e6:.0f} MB",
    )
