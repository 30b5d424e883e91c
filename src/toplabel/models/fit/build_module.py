"""A class by its name, or in hand, and its arguments in; the network that it creates out.

This is where code of the user's runs, because the user named it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from toplabel._internal.text import first_line
from toplabel.errors import CheckpointError, ModelError, ToplabelError, UsageError
from toplabel.models.fit.class_spec import (
    ClassName,
    find_module,
    forget_strangers,
    parse_class,
)
from toplabel.models.fit.global_state import global_state_kept

Fitted = TypeVar("Fitted")
_DOWNLOADS = {"pretrained", "weights"}  # what such an argument of the training does
Architecture = str | nn.Module | Callable[..., nn.Module]


def build_module(
    spec: Architecture, arguments: Mapping[str, Any] | None = None, *, run: bool = False
) -> nn.Module:
    """The network that a class, or a function, makes of these arguments.

    What the user's code prints goes to standard error.

    Args:
        spec: `package.module:Class`, found from the working directory too; `nets.py:Class`, which
            may import its neighbours; a class or function; or a network, which is taken as it is.
        arguments: By name.
        run: Run the whole file that the class is in, not only the definitions that it needs.

    Raises:
        UsageError: There is no such file, module or class, or it takes other arguments.
        ModelError: The code fails, or what it makes is no network.
    """
    with _target(spec, run=run) as (target, name):
        return _create(target, dict(arguments or {}), name=name)


def build_fitting(
    spec: Architecture,
    arguments: Mapping[str, Any],
    *,
    recorded: Mapping[str, Any] | None = None,
    likely: Callable[[Sequence[inspect.Parameter]], Iterable[dict[str, Any]]],
    fit: Callable[[nn.Module], Fitted],
    run: bool = False,
) -> tuple[nn.Module, Fitted, dict[str, Any]]:
    """The network that fits a file, with the arguments that the file says where the user does not.

    Args:
        spec, arguments: As of `build_module`.
        recorded: What the file says that it was made with, tried first.
        likely: Of the class's parameters, arguments to try where these alone do not do.
        fit: Loads the file into a network; raises CheckpointError where it is another network.
        run: As of `build_module`.

    Returns:
        The network, what `fit` returned, and the arguments that were added.

    Raises:
        UsageError, ModelError: As `build_module`.
        CheckpointError: As `fit` raises it, of the class as it is, or with the likeliest arguments.
    """
    errors: list[ToplabelError] = []
    with _target(spec, run=run) as (target, name):
        parameters = _parameters(target)
        taken = {p.name for p in parameters} - arguments.keys() - _DOWNLOADS
        known = {key: value for key, value in (recorded or {}).items() if key in taken}
        for added in chain([known] * bool(known), [{}], likely(parameters)):
            try:
                module = _create(target, {**arguments, **added}, name=name)
                return module, fit(module), added
            except (UsageError, ModelError, CheckpointError) as error:
                if added is not known:
                    errors.append(error)
    as_it_is, *others = errors
    needs_others = others and not isinstance(as_it_is, CheckpointError)
    raise others[0] if needs_others else as_it_is


@contextmanager
def _target(spec: Architecture, *, run: bool) -> Iterator[tuple[object, str]]:
    """What is called to make the network, and its name; what it prints goes to standard error."""
    with redirect_stdout(sys.stderr), global_state_kept():
        if not isinstance(spec, str):
            yield spec, getattr(spec, "__qualname__", None) or type(spec).__name__
            return
        with _imported(spec, run=run) as (found, name):
            yield found, name.attribute


def _parameters(target: object) -> list[inspect.Parameter]:
    """Those of a class or function; of a network, or of what is not written in Python, none."""
    if isinstance(target, nn.Module) or not callable(target):
        return []
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []


def import_function(spec: str) -> Callable[..., Any]:
    """A function of the user's: `mine.py:transform`, or `package.module:transform`.

    Raises:
        UsageError: There is no such file, module or function.
        ModelError: Its file fails.
    """
    found = import_object(spec)
    if not callable(found):
        raise UsageError(f"got {spec!r}, a {type(found).__name__}; expected a function")
    return found


def import_object(spec: str, *, run: bool = False) -> object:
    """What a name in the user's code stands for: `mine.py:transform`, `package.module:transform`.

    Raises:
        UsageError: There is no such file, module or name.
        ModelError: Its file fails.
    """
    with redirect_stdout(sys.stderr), global_state_kept(), _imported(spec, run=run) as (found, _):
        return found


@contextmanager
def _imported(spec: str, *, run: bool) -> Iterator[tuple[object, ClassName]]:
    """What a name means; its folder, or the working directory, is on Python's path meanwhile."""
    name = parse_class(spec)
    if name.file is not None and not run:
        yield _definition(name), name
        return
    folder = Path.cwd() if name.file is None else name.file.expanduser().resolve().parent
    if name.file is not None:
        forget_strangers(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        module = _import_file(name) if name.file is not None else _import_module(name)
        yield _attribute(module, name), name
    finally:
        sys.path.remove(str(folder))


def _definition(name: ClassName) -> object:
    """The class of a file, made of the definitions that it needs alone."""
    from toplabel.models.script.named import definition

    assert name.file is not None
    path = name.file.expanduser()
    if not path.is_file():
        raise UsageError(
            f"cannot read {str(name.file)!r}: No such file or directory; expected a Python file"
            f" with the class {name.attribute}"
        )
    with _explained(f"reading {name.attribute} from {name.file}"):
        return definition(path, name.attribute)


def _import_module(name: ClassName) -> ModuleType:
    found = find_module(name.module)
    if found is None and name.module not in sys.modules:
        raise UsageError(
            f"no module named {name.module!r} in {Path.cwd()} or on Python's path; install its"
            " package, change to its folder, or pass its file: path/to/nets.py:Class"
        )
    with _explained(f"importing {name.module}"):
        return importlib.import_module(name.module)


def _import_file(name: ClassName) -> ModuleType:
    """The module of a file, under a name of its own, so that it hides no other.

    It is compiled from its text each time: nothing is written beside it, nothing stale is used.
    """
    assert name.file is not None
    path = name.file.expanduser().resolve()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {str(name.file)!r}: {error.strerror}; expected a Python file with the"
            f" class {name.attribute}"
        ) from error
    private = f"_toplabel_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    module = ModuleType(private)
    module.__file__ = str(path)
    module.__package__ = ""
    sys.modules[private] = module  # dataclasses and pickle look there
    from toplabel.models.script.guard import overwriting_nothing

    with _explained(f"running {name.file}"), overwriting_nothing():
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def _attribute(module: ModuleType, name: ClassName) -> object:
    found: object = module
    for part in name.attribute.split("."):
        found = getattr(found, part, None)
    if found is not None:
        return found
    networks = [key for key, value in vars(module).items() if _is_network_class(value, module)]
    functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    close = get_close_matches(name.attribute, [*networks, *functions], n=3)
    known = close or networks or functions
    has = f"it has {', '.join(known[:6])}" if known else "it has no network class"
    raise UsageError(f"no {name.attribute!r} in {name.file or name.module}; {has}")


def _is_network_class(value: object, module: ModuleType) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
    )


def _create(target: object, arguments: dict[str, Any], *, name: str) -> nn.Module:
    if isinstance(target, nn.Module):
        if arguments:
            raise UsageError(
                f"{name} is already a network, so it takes no arguments; got {', '.join(arguments)}"
            )
        return target
    if not callable(target):
        raise UsageError(
            f"{name} is a {type(target).__name__}; expected a network class, a function that"
            " returns a network, or a torch.nn.Module"
        )
    _check_arguments(target, arguments, name)
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    with _explained(f"calling {call}"):
        made = target(**arguments)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{call} returned a {type(made).__name__}; expected a torch.nn.Module: write a function"
            " that returns only the network, and pass that"
        )
    return made


def _check_arguments(target: Callable[..., object], arguments: dict[str, Any], name: str) -> None:
    """Stop at an argument that is missing or unknown, before the code sees it."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # of a class that is not written in Python
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes = ", ".join(p.name for p in by_name) or "no arguments"
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [key for key in arguments if key not in {p.name for p in by_name}]
    if unknown and not anything:
        raise UsageError(f"{name} has no argument {unknown[0]!r}; it takes {takes}")
    missing = [p.name for p in by_name if p.default is p.empty and p.name not in arguments]
    if missing:
        needed = ", ".join(f'"{key}": ...' for key in missing)
        raise UsageError(f"{name} needs {', '.join(missing)}; pass arch_args={{{needed}}}")


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Whatever the user's code raises, as one line with the place in that code."""
    try:
        yield
    except ToplabelError:
        raise
    except (Exception, SystemExit) as error:
        reason = first_line(error, named=True)
        raise ModelError(f"{doing} failed: {reason}{_place(error)}{_advice(error)}") from error


def _place(error: BaseException) -> str:
    """The user's file and line that raised it, or that called what did."""
    if isinstance(error, SyntaxError) or error.__traceback__ is None:
        return f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<")]
    theirs = [f for f in theirs if "site-packages" not in Path(f.filename).parts] or theirs
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


def _advice(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "; put everything but definitions under if __name__ == '__main__':"
    if isinstance(error, ModuleNotFoundError):
        return "; install it, or put its folder on PYTHONPATH"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "; pass it by its package, from the folder above that: package.module:Class"
    return ""
