"""What commands share: flags made of option dataclasses, their sections in help texts, notices."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toplabel.cli.terminal import show_notices
from toplabel.image.options import ReadOptions
from toplabel.models.options import InferenceOptions, ModelOptions
from toplabel.runs.options import RunOptions

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]

_FIRST = "Options"
_RUNNING = "Running the model"
_LOADING = (ModelOptions, InferenceOptions, ReadOptions)


class Command(click.Command):
    """A command whose help lists flags in sections, and which prints warnings and notes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        taken = {flag for param in self.params for flag in param.opts}
        for param in self.params:
            plain = getattr(param, "plain_flag", "")
            if plain and plain not in taken:
                param.opts.append(plain)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, in the order of their first options; "Options" is the first."""
        sections: dict[str, list[tuple[str, str]]] = {_FIRST: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "section", _FIRST), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what toplabel logs and warns of is printed meanwhile."""
        show_notices(quiet=ctx.params.get("quiet", False))
        return super().invoke(ctx)


class _Option(click.Option):
    """An option that also has a plain flag, on the commands where nothing else is called so."""

    def __init__(self, *args: Any, plain_flag: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.plain_flag = plain_flag


def add_options(
    command: Function, options: Iterable[Decorator[Function]], *, section: str = _FIRST
) -> Function:
    """Add options to a command, in the order in which its help lists them, under a heading."""
    for option in reversed([*options]):  # the last one added is listed first
        command = option(command)
        params: list[Any] = vars(command)["__click_params__"]
        params[-1].section = section
    return command


def flags_of(
    group: type, *, section: str = _FIRST, hidden: Collection[str] = ()
) -> Callable[[Function], Function]:
    """A decorator that adds the flags of an option dataclass to a command.

    Args:
        group: The dataclass.
        section: The heading of their part of the help.
        hidden: Names of fields that the help leaves out: the command can do nothing else.
    """
    shown = [one for one in fields(group) if one.metadata["shell"]]
    options = [_flag(one, hidden=one.name in hidden) for one in shown]
    return lambda command: add_options(command, options, section=section)


def _flag(one: Field[Any], *, hidden: bool) -> Callable[[Function], Function]:
    """A field as an option of click's; what is not given is None, (), or False."""
    about, kind = one.metadata, str(one.type)
    name = about["elsewhere"] or one.name
    names = (*(about["flags"] or (f"--{one.name.replace('_', '-')}",)), name)
    shared: dict[str, Any] = {
        "help": about["help"],
        "metavar": about["metavar"],
        "hidden": hidden,
    }
    if kind == "bool":
        return click.option(*names, is_flag=True, help=about["help"], hidden=hidden)
    if about["choices"]:
        shared |= {"type": click.Choice(about["choices"]), "metavar": None}
    elif kind.startswith(("Mapping", "Sequence", "tuple")):
        shared |= {"multiple": True, "help": f"{about['help']} May be repeated."}
        if kind.startswith("Mapping"):
            shared["callback"] = _parse_pairs
    elif about["metavar"] in _BY_METAVAR:
        shared["type"] = _BY_METAVAR[about["metavar"]]
    elif kind.startswith("int"):
        shared["type"] = click.IntRange(about["minimum"], about["maximum"])
    elif kind.startswith("float"):
        shared["type"] = float
        shared["callback"] = _check_number
    plain = f"--{one.name.replace('_', '-')}" if about["elsewhere"] else ""
    return click.option(*names, cls=_Option, plain_flag=plain, **shared)


def _parse_pairs(ctx: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> Any:
    if not pairs:
        return ()
    from toplabel.models.fit.class_spec import parse_arguments

    return parse_arguments(pairs)


def _check_number(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # passes click's own check of the range
        raise click.BadParameter("nan is not in the range.")
    return value


def _no_names() -> Iterable[str]:
    return ()


class Source(click.types.StringParamType):
    """A text that names a file, or what `names` gives, so that shells complete them.

    Args:
        names: What else it may be.
        many: They are too many to be listed where nothing has been typed.
    """

    def __init__(
        self, names: Callable[[], Iterable[str]] = _no_names, *, many: bool = False
    ) -> None:
        self._names = names
        self._many = many

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Whatever files there are, and the names that begin so."""
        from toplabel.cli.completion import names_and_files

        names = () if self._many and not incomplete else self._names()
        return names_and_files(((name, "") for name in names), incomplete)


def _models() -> Iterable[str]:
    """What torchvision and timm call their networks; without importing them."""
    from toplabel.models.architectures.index import load_index

    members = (one for group in load_index().groups() for one in group.members)
    return sorted({"embedded", *(one.name for one in members)})


def _presets() -> Iterable[str]:
    from toplabel.preprocess.presets import PRESETS

    return PRESETS


SOURCE = Source()
MODEL = Source(_models, many=True)
_BY_METAVAR = {
    **dict.fromkeys(("FILE", "PATH", "OUTPUT", "DIR", "BUNDLE"), SOURCE),
    "ARCH": MODEL,
    "PRESET": Source(_presets),
}
"""What completes the value of an option that has this for its value in help texts."""
MODEL_VARIABLE = "TOPLABEL_MODEL"


def default_models() -> tuple[str, ...]:
    """The model that the environment names, for commands that take several."""
    named = os.environ.get(MODEL_VARIABLE)
    return (named,) if named else ()


model_flag = click.option(
    "-m",
    "--model",
    metavar="MODEL",
    type=MODEL,
    envvar=MODEL_VARIABLE,
    help=f"Model to use; see toplabel models.  [default: {MODEL_VARIABLE}, else built in]",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
debug_flag = click.option(
    "--debug", is_flag=True, expose_value=False, help="Print full tracebacks of errors."
)  # the entry point looks for it itself

inference_flags = flags_of(InferenceOptions, section=_RUNNING)
model_file_flags = flags_of(ModelOptions, section="What a model file may lack")
reading_flags = flags_of(ReadOptions, section="Reading images")
run_flags = flags_of(RunOptions, section="Runs, with -o")


def loading_flags(command: Function) -> Function:
    """Add what loads and runs a model and reads images, all of `take_load_options`, and --debug."""
    return inference_flags(model_file_flags(reading_flags(debug_flag(command))))


def exact_loading_flags(command: Function) -> Function:
    """The same for a command that always computes exactly: it refuses --fast, and is --exact."""
    inference = flags_of(InferenceOptions, section=_RUNNING, hidden=("exact", "fast"))
    return inference(model_file_flags(reading_flags(debug_flag(command))))


def scoring_flags(command: Function) -> Function:
    """Add -k and --threshold to a command."""
    return add_options(
        command,
        (
            click.option(
                "-k",
                "--top-k",
                "--topk",
                "top_k",
                type=click.IntRange(min=1),
                metavar="N",
                help="Number of classes to print.  [default: 5 in records and for one image]",
            ),
            click.option(
                "--threshold",
                type=click.FloatRange(0, 1),
                callback=_check_number,
                metavar="SCORE",
                help="Mark predictions with a lower score as unsure.",
            ),
        ),
    )


def take(group: type, options: dict[str, Any]) -> dict[str, Any]:
    """What was given of a group's flags, by name; all of them are taken out of `options`."""
    shown = [one for one in fields(group) if one.metadata["shell"]]
    values = {one.name: options.pop(one.metadata["elsewhere"] or one.name, None) for one in shown}
    return {
        name: value
        for name, value in values.items()
        if value not in (None, ()) and value is not False
    }


def take_load_options(options: dict[str, Any], *, exact: str = "") -> dict[str, Any]:
    """What was given of the model, of running it and of reading images, as `load` takes it.

    Args:
        options: All that was given; what is returned is taken out of it.
        exact: What always computes exactly.

    Raises:
        click.UsageError: That is to be fast.
    """
    if exact and options.get("fast"):
        raise click.UsageError(f"got --fast; {exact} always computes exactly: leave it out")
    model, inference, reading = (take(group, options) for group in _LOADING)
    return {**model, **inference, "read": ReadOptions(**reading)}


def check_one_model(given: dict[str, Any], models: int) -> None:
    """Refuse what can be known of one model's file only.

    Raises:
        click.UsageError: There are several models, or none.
    """
    flags = [_first_flag(one) for one in fields(ModelOptions) if one.name in given]
    if flags and models != 1:
        raise click.UsageError(
            f"got {flags[0]} with {models} models; it applies to one model:"
            " pack the others first (toplabel pack)"
        )


def as_flags(text: str) -> str:
    """A message of the library's with its arguments spelled as flags.

    Only what is written as Python's values are, between blanks, is taken for an argument: names of
    files and URLs stay as they are.

    >>> as_flags("pass arch_args={'num_classes': 10} or allow_partial=True; not colour=3")
    'pass --arch-arg num_classes=10 or --allow-partial; not colour=3'
    """
    from toplabel.serve.options import ServeOptions
    from toplabel.training.options import TrainOptions

    groups = (*_LOADING, RunOptions, ServeOptions, TrainOptions)
    shown = [one for group in groups for one in fields(group) if one.metadata["shell"]]
    flags = {one.name: _first_flag(one) for one in shown}
    flags |= {name: f"--{name.replace('_', '-')}" for name in _OF_COMMANDS}

    def spell(match: re.Match[str]) -> str:
        flag = flags.get(match["name"])
        return (flag and _with_value(flag, match["value"])) or match[0]

    return re.sub(_ARGUMENT, spell, text)


def _first_flag(one: Field[Any]) -> str:
    return str((one.metadata["flags"] or (f"--{one.name.replace('_', '-')}",))[0])


def _with_value(flag: str, text: str) -> str | None:
    """A flag with a Python value; None where it is none that a flag can have."""
    from ast import literal_eval

    try:
        value = literal_eval(text)
    except (SyntaxError, ValueError):
        return None
    if value is True or value is ... or value == {...}:
        return flag
    if isinstance(value, dict):
        pairs = {name: "..." if one is ... else one for name, one in value.items()}
        return " ".join(f"{flag} {name}={one}" for name, one in pairs.items()) or None
    if isinstance(value, list):
        return " ".join(f"{flag} {one}" for one in value) or None
    return f"{flag} {value}" if value else None


_OF_COMMANDS = ("images", "labelled", "size", "prior", "trained_prior")  # of doctor, calibrate
_ARGUMENT = (
    r"(?:^|(?<=[\s(]))(?P<name>[a-z_]+)="
    r"(?P<value>\{[^{}]*\}|\[[^\[\]]*\]|\"[^\"]*\"|'[^']*'|True|\.\.\.|\d+)"
    r"(?=[\s;:,)]|\.\s|\.?$)"
)
