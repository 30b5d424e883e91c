"""Options that commands share: which model, how to run it, and how to read images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toplabel.cli.sections import add_options

if TYPE_CHECKING:
    from toplabel.image.options import ReadOptions

Function = TypeVar("Function", bound=Callable[..., Any])

_AT_LEAST_ONE = click.IntRange(min=1)


def _not_nan(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # passes click's own check of the range
        raise click.BadParameter("nan is not in the range 0<=x<=1.")
    return value


_SCORING = (
    click.option(
        "-k",
        "--top-k",
        "--topk",
        "top_k",
        type=_AT_LEAST_ONE,
        metavar="N",
        help="How many classes to give.  [default: 5; in a table of several images 1]",
    ),
    click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        callback=_not_nan,
        metavar="SCORE",
        help="Mark a label with a lower score as unsure.",
    ),
)

_MODEL = click.option("-m", "--model", metavar="MODEL", help="Which model; see toplabel models.")

_ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(["auto", "onnxruntime", "torch"]),
        default="auto",
        help="What computes.",
    ),
    click.option("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        default="float32",
        help="What PyTorch computes in.",
    ),
    click.option("--threads", type=_AT_LEAST_ONE, metavar="N", help="Images worked on at once."),
    click.option("--batch-size", type=_AT_LEAST_ONE, metavar="N", help="Images in one call."),
    click.option("--exact", is_flag=True, help="Never read large JPEGs at a smaller scale first."),
)

_STATING = (
    click.option(
        "--arch",
        metavar="ARCH",
        help="The network of a checkpoint: a name of torchvision's or timm's, or your class as"
        " package.module:Class or nets.py:Class, whose code is run.",
    ),
    click.option(
        "--arch-arg",
        "arch_arg",
        multiple=True,
        metavar="NAME=VALUE",
        help="What the class is called with; may be repeated.",
    ),
    click.option(
        "--labels", metavar="FILE", help="Class names: .txt, .json, .csv, or a folder of classes."
    ),
    click.option(
        "--preprocess",
        metavar="PRESET",
        help="A preset (toplabel models --preprocess lists them) or a JSON file.",
    ),
    click.option("--multi-label", is_flag=True, help="Outputs are independent: sigmoid."),
    click.option("--ema", is_flag=True, help="Take a checkpoint's averaged weights."),
    click.option(
        "--allow-global",
        "allow_global",
        multiple=True,
        metavar="NAME",
        help="A class or function that unpickling the checkpoint may call; may be repeated.",
    ),
    click.option(
        "--allow-partial", is_flag=True, help="Go on where a checkpoint does not fit in all parts."
    ),
    click.option("--trust", is_flag=True, help="Unpickle a checkpoint that may run any code."),
    click.option(
        "--recompile", is_flag=True, help="Look at your class anew: files it imports have changed."
    ),
)

_READING = (
    click.option(
        "--allow-truncated", is_flag=True, help="Label what there is of a file that ends early."
    ),
    click.option("--srgb", is_flag=True, help="Convert embedded colour profiles to sRGB."),
    click.option("--max-pixels", type=_AT_LEAST_ONE, metavar="N", help="Refuse larger pictures."),
    click.option("--timeout", type=float, metavar="SECONDS", help="For each URL."),
)


def scoring_options(command: Function) -> Function:
    """Add -k and --threshold to a command."""
    return add_options(command, _SCORING)


def running_options(command: Function) -> Function:
    """Add -m and the options of `Running` to a command."""
    return engine_options(add_options(command, (_MODEL,)))


def engine_options(command: Function) -> Function:
    """Add the options of `Running` without the model's to a command."""
    return add_options(command, _ENGINE, section="Running the model")


def stating_options(command: Function) -> Function:
    """Add the options of `Stated` to a command."""
    return add_options(command, _STATING, section="What a model file does not say")


def reading_options(command: Function) -> Function:
    """Add the options of `ReadOptions` to a command."""
    return add_options(command, _READING, section="Reading images")


def debug_option(command: Function) -> Function:
    """Add --debug, which the entry point looks for itself."""
    show = click.option("--debug", is_flag=True, expose_value=False, help="Show errors in full.")
    return show(command)


def take_statements(options: dict[str, Any]) -> dict[str, Any]:
    """What the options of `stating_options` say, as `load` takes it; taken out of `options`.

    Raises:
        UsageError: An --arch-arg is no NAME=VALUE.
    """
    pairs, allowed = options.pop("arch_arg"), options.pop("allow_global")
    said = {
        name: options.pop(name)
        for name in ("arch", "labels", "preprocess", "multi_label", "ema", "allow_partial", "trust")
    }
    said["recompile"] = options.pop("recompile")
    said["allow_globals"] = allowed
    if pairs:
        from toplabel.models.fit.class_spec import parse_arguments

        said["arch_args"] = parse_arguments(pairs)
    return said


def take_read_options(options: dict[str, Any]) -> ReadOptions:
    """What the options of `reading_options` say; they are taken out of `options`.

    Raises:
        click.UsageError: The timeout is no time.
    """
    from toplabel.image.options import ReadOptions

    timeout = options.pop("timeout")
    if timeout is not None and not 0 < timeout < math.inf:
        raise click.UsageError(f"got --timeout {timeout}; expected a number of seconds above 0")
    limits = {"max_pixels": options.pop("max_pixels"), "timeout_seconds": timeout}
    return ReadOptions(
        allow_truncated=options.pop("allow_truncated"),
        srgb=options.pop("srgb"),
        **{name: value for name, value in limits.items() if value is not None},
    )
