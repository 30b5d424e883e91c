"""Options: dataclasses with a help text in each field in, Python signatures and docstrings out.

The command line makes its flags from the same fields (`cli/options.py`), and so does the stub file
that editors read: an option is written down once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar, cast

from toplabel._internal.notices import forwarded_to
from toplabel.errors import UsageError

Returned = TypeVar("Returned")
Called = TypeVar("Called", bound=Callable[..., Any])

_NOTIFY = "notify"
_WIDTH = 99


def option(
    default: Any = MISSING,
    *,
    help: str,
    python: str = "",
    factory: Any = MISSING,
    flags: tuple[str, ...] = (),
    metavar: str | None = None,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    shell: bool = True,
    collects: bool = False,
    elsewhere: str = "",
) -> Any:
    """A dataclass field that is an option of functions and commands.

    Args:
        default: Its default; or `factory` makes one.
        help: What it does, for both faces.
        python: What only Python takes, said after that in docstrings.
        factory: Makes the default.
        flags: How the command line spells it; by default --its-name.
        metavar: What stands for its value in help texts.
        choices: The texts it may be.
        minimum: Of a number.
        maximum: The same.
        shell: Whether the command line has it.
        collects: It is a mapping in which a name that nobody knows may belong.
        elsewhere: What it is called by functions and commands that have another argument of its
            name. The other commands take both spellings.
    """
    metadata = {
        "help": help,
        "python": python,
        "flags": flags,
        "metavar": metavar,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "shell": shell,
        "collects": collects,
        "elsewhere": elsewhere,
    }
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def takes_options(
    *groups: type, as_load: Collection[type] = ()
) -> Callable[[Callable[..., Returned]], Callable[..., Returned]]:
    """Let a function be called with the fields of `groups`, and get one instance of each.

    A parameter `model_options` of the function becomes the fields of the group `ModelOptions`:
    in its signature, its docstring and its refusal of unknown names.

    Args:
        groups: Dataclasses made of `option`s.
        as_load: Those of them whose options mean what they mean to `load`: its docstring tells
            them, and this one's only names them, so that it fits a screen.
    """
    parameters = {_parameter(group): group for group in groups}

    def decorate(function: Callable[..., Returned]) -> Callable[..., Returned]:
        own = inspect.signature(function)
        kept = [p for p in own.parameters.values() if p.name not in parameters]
        taken = {p.name for p in kept}
        names = {_name(one, taken): (group, one) for group in groups for one in fields(group)}
        accepted = [*taken, *names]
        collector = next(
            (one.name for group in groups for one in fields(group) if one.metadata["collects"]), ""
        )

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Returned:
            notify = given.pop(_NOTIFY, None)
            _check_names(function.__name__, given, accepted, collector)
            try:
                shown.bind(*args, **given)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            values: dict[type, dict[str, Any]] = {group: {} for group in groups}
            for name, (group, one) in names.items():
                if name in given:
                    values[group][one.name] = given.pop(name)
            with forwarded_to(notify):
                instances = {name: group(**values[group]) for name, group in parameters.items()}
                made = function(*args, **given, **instances)
            if notify is not None and hasattr(made, _NOTIFY):  # a predictor compiles later
                setattr(made, _NOTIFY, notify)
            return made

        shown = own.replace(
            parameters=[
                *(p.replace(annotation=_Shown(p.annotation)) for p in kept),
                *(_keyword(name, one) for name, (_, one) in names.items()),
            ],
            return_annotation=_Shown(own.return_annotation),
        )
        call.__signature__ = shown  # type: ignore[attr-defined]
        call.__annotations__ = {}  # of the signature, where names of this file mean nothing
        del call.__wrapped__
        told = {name: one for name, (group, one) in names.items() if group not in as_load}
        named = {name: one for name, (group, one) in names.items() if group in as_load}
        call.__doc__ = _document(function.__doc__ or "", told, named)
        return call

    return decorate


def tells_options(group: type[Returned]) -> type[Returned]:
    """A class decorator: its docstring has an Args section of its fields, made of `option`s."""
    head, raises, rest = (group.__doc__ or "").partition("    Raises:\n")
    told = "\n".join(_entries({one.name: one for one in fields(group)}))  # type: ignore[arg-type]
    group.__doc__ = f"{head}    Args:\n{told}\n\n{raises}{rest}"
    return group


def suggests_names(called: Called) -> Called:
    """Let a function, or a class, answer the name of an argument that it lacks with the nearest."""
    function = called.__init__ if isinstance(called, type) else called  # type: ignore[misc]
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    accepted = [name for name in names if name != "self"]

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        _check_names(called.__qualname__, given, accepted)
        return function(*args, **given)

    if not isinstance(called, type):
        return cast("Called", call)
    called.__init__ = call  # type: ignore[misc]
    return called


def given_options(options: Any) -> dict[str, Any]:
    """The fields of a group that say something, by name: neither their default nor empty."""
    plain = type(options)()
    values = {one.name: getattr(options, one.name) for one in fields(options)}
    return {name: one for name, one in values.items() if _says(one, getattr(plain, name))}


def refuse_both(**given: bool) -> None:
    """Refuse two options that contradict each other.

    Raises:
        UsageError: Both are True.
    """
    if all(given.values()):
        names = [f"{name}=True" for name in given]
        raise UsageError(f"got {' and '.join(names)}; expected one of them")


def _says(value: Any, default: Any) -> bool:
    if value is None or value is False or value is default:
        return False
    if isinstance(value, str | int | float):
        return bool(value != default)
    if isinstance(value, tuple | list | dict):
        return bool(value)
    return type(value) is not type(default) or bool(value != default)


class _Shown(str):
    """An annotation as it is written, which `help()` shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _parameter(group: type) -> str:
    """ModelOptions -> model_options."""
    letters = (f"_{one.lower()}" if one.isupper() else one for one in group.__name__)
    return "".join(letters).removeprefix("_")


def _name(one: Field[Any], taken: Collection[str]) -> str:
    """What a field is called beside a function's own parameters."""
    return str(one.metadata["elsewhere"]) if one.name in taken else one.name


def _keyword(name: str, one: Field[Any]) -> inspect.Parameter:
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_Shown(one.type)
    )


def _check_names(
    function: str, given: dict[str, Any], accepted: list[str], collector: str = ""
) -> None:
    """Stop at a name that nobody knows.

    Raises:
        TypeError: It says what may be meant.
        UsageError: The name belongs into the mapping `collector`, or may.
    """
    for name in given:
        if name not in accepted:
            from difflib import get_close_matches  # only where something is wrong already

            close = (
                [known for known, words in _MEANT.items() if known in accepted and name in words]
                or get_close_matches(name, accepted, n=1)
                or [known for known in accepted if known.startswith(name)]
            )
            hint = f"; did you mean {close[0]!r}?" if close else ""
            if collector and ("arch" in given or not close):
                value = repr(given[name])
                entry = f'{{"{name}": {value if len(value) <= 40 else "..."}}}'
                raise UsageError(
                    f"{function}() has no argument {name!r}{hint}{'' if hint else ';'} an argument"
                    f" for the class of your network goes into {collector}={entry}"
                )
            raise TypeError(f"{function}() got an unexpected argument {name!r}{hint}")


_MEANT = {
    "preprocess": ("transform", "transforms", "val_transform", "preprocessing", "processor"),
    "labels": ("classes", "class_names", "names", "categories", "id2label", "class_to_idx"),
    "arch": ("model_class", "network", "net", "architecture", "module"),
}
"""What other libraries call an argument."""


def _document(text: str, told: Mapping[str, Field[Any]], named: Mapping[str, Field[Any]]) -> str:
    """The docstring with the options at the end of its Args."""
    head, args, rest = text.partition("    Args:\n")
    if not args:
        return text
    own, gap, rest = rest.partition("\n\n")
    entries = _entries(told)
    if named:
        first, *others = (
            name if name == one.name else f"{name} (its {one.name})" for name, one in named.items()
        )
        entries += _wrapped(f"{first}: As `load` takes it, and so {', '.join(others)}.")
    return head + args + own + "\n" + "\n".join(entries) + gap + rest


def _entries(options: Mapping[str, Field[Any]]) -> list[str]:
    """The lines that tell what each option does."""
    return [
        line
        for name, one in options.items()
        for line in _wrapped(f"{name}: {one.metadata['help']} {one.metadata['python']}")
    ]


def _wrapped(entry: str) -> Iterator[str]:
    """Its lines below Args; `textwrap` would cost the start more than all the rest."""
    line = " " * 7
    for word in entry.split():
        if len(line) + len(word) >= _WIDTH:
            yield line
            line = " " * 11
        line += f" {word}"
    yield line
