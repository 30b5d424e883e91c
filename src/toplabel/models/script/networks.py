"""Networks: what a script defines and makes in, the one that a checkpoint's tensors fit out."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from toplabel._internal.notices import quiet_libraries
from toplabel._internal.text import first_line
from toplabel.errors import CheckpointError, ToplabelError
from toplabel.models.fit.load_state_dict import load_state_dict
from toplabel.models.script.guard import guarded
from toplabel.models.script.interpret import Interpreter
from toplabel.models.script.slices import Hole, Slicer
from toplabel.models.script.sources import Unit
from toplabel.models.script.values import (
    Class,
    Function,
    Instance,
    Made,
    Place,
    Scope,
    is_plain,
)

_MAX_TRIED = 80
_CLASSES = ("num_classes", "n_classes", "nb_classes", "num_labels", "classes", "num_class")
_OUTPUTS = ("output_size", "out_features", "output_dim", "output_shape", "n_outputs", "out_dim")
_CHANNELS = ("in_channels", "in_chans", "num_channels", "channels", "in_ch", "input_channels")


@dataclass(eq=False)
class Candidate:
    """A way to make a network that a script shows.

    Args:
        name: Of the class or function.
        value: What makes it.
        place: Where it is defined.
        made_at: Where it is made; None where it nowhere is.
        own: It stands in a file that the user named.
    """

    name: str
    value: Any
    place: Place
    made_at: Place | None
    own: bool
    module: nn.Module | None = None
    problem: str = ""
    holes: tuple[str, ...] = ()
    text: str = field(default="", repr=False)


def candidates(interpreter: Interpreter, named: list[Unit]) -> list[Candidate]:
    """All ways to make a network, those of the files that the user named first."""
    found: list[Candidate] = []
    seen: set[Any] = set()
    made_kinds: set[Any] = set()
    for value in interpreter.noted.networks:
        kind = value.kind if isinstance(value, Instance) else None
        key = (id(kind) if kind else (value.name, str(value.place)), _key(value))
        if key in seen:
            continue
        seen.add(key)
        if kind is not None:
            made_kinds.add(id(kind))
            place = Place(kind.unit, kind.node.lineno)
            name, text = kind.name, ast.dump(kind.node)
        else:
            place, name, text = value.place, value.last, ""
        own = place.unit in named or value.place.unit in named
        found.append(Candidate(name, value, place, value.place, own, text=text))
    for unit, scope in list(interpreter.scopes.items()):
        for kind in list(scope.names.values()):
            if isinstance(kind, Class) and kind.is_network and kind.unit is unit:
                if id(kind) in made_kinds:
                    continue
                value = Instance(kind, (), {}, Place(unit, kind.node.lineno))
                place = value.place
                text = ast.dump(kind.node)
                found.append(Candidate(kind.name, value, place, None, unit in named, text=text))
    found.sort(key=lambda one: (not one.own, one.made_at is None))
    return found[:_MAX_TRIED]


def _key(value: Any) -> str:
    def text(part: Any) -> str:
        if isinstance(part, Made | Instance):
            return f"{getattr(part, 'name', '')}{id(part)}"
        return repr(part) if is_plain(part) else type(part).__name__

    items = sorted(value.kwargs.items())
    return ",".join([*map(text, value.args), *(f"{k}={text(v)}" for k, v in items)])


def try_candidates(
    found: list[Candidate],
    interpreter: Interpreter,
    state: Mapping[str, torch.Tensor],
    *,
    outputs: int | None,
    arguments: Mapping[str, Any],
) -> list[Candidate]:
    """Those that every tensor fits, weights loaded; `problem` says why another does not."""
    fitting: list[Candidate] = []
    for one in found:
        for hole in dict.fromkeys((outputs, 0)):  # what is not known may be off as well
            slicer = Slicer(interpreter.project, interpreter.enter, outputs=hole)
            if _try(one, slicer, interpreter, state, outputs, arguments):
                fitting.append(one)
                break
    return fitting


def _try(
    one: Candidate,
    slicer: Slicer,
    interpreter: Interpreter,
    state: Mapping[str, torch.Tensor],
    outputs: int | None,
    arguments: Mapping[str, Any],
) -> bool:
    """Make a network and load the tensors into it; `problem` says why that fails."""
    try:
        with guarded(), redirect_stdout(sys.stderr), quiet_libraries():
            module = _build(one, slicer, interpreter, outputs, state, dict(arguments))
            if not isinstance(module, nn.Module):
                one.problem = "it makes no network"
                return False
            load_state_dict(module, state, name="the checkpoint")
    except CheckpointError as error:
        one.problem = str(error).split("\n", 1)[0]
        return False
    except ToplabelError as error:
        one.problem = str(error)
        return False
    except Exception as error:  # their code, of whatever kind
        one.problem = f"making it fails: {first_line(error, named=True)}"
        return False
    one.module = module.eval()
    one.holes = tuple(slicer.holes)
    return True


def _build(
    one: Candidate,
    slicer: Slicer,
    interpreter: Interpreter,
    outputs: int | None,
    state: Mapping[str, torch.Tensor],
    arguments: dict[str, Any],
) -> Any:
    value = one.value
    if isinstance(value, Made):
        if value.name.startswith(("torchvision.", "timm.")):
            return _by_statements(value, slicer, interpreter)
        return slicer.value_of(value)
    kind = slicer.class_of(value.kind)
    args = [slicer.value_of(part) for part in value.args]
    kwargs = {key: slicer.value_of(part) for key, part in value.kwargs.items()}
    if one.made_at is None or arguments:
        kwargs |= _from_tensors(value.kind, len(args), kwargs, outputs, state) | arguments
        names = _parameters(value.kind)
        args = [arg for name, arg in zip(names, args, strict=False) if name not in arguments]
    return kind(*args, **kwargs)


def _parameters(kind: Class) -> list[str]:
    init = kind.find("__init__")
    if not isinstance(init, Function) or isinstance(init.node, ast.Lambda):
        return []
    return [arg.arg for arg in init.node.args.args][1:]


def _from_tensors(
    kind: Class,
    given: int,
    kwargs: Mapping[str, Any],
    outputs: int | None,
    state: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    """Arguments that the tensors tell, by the parameters' usual names."""
    init = kind.find("__init__")
    if not isinstance(init, Function) or isinstance(init.node, ast.Lambda):
        return {}
    spec = init.node.args
    names = [arg.arg for arg in spec.args][1:]
    required = names[given : len(names) - len(spec.defaults)]
    first = next((t for t in state.values() if t.ndim == 4), None)
    found: dict[str, Any] = {}
    for name in names[given:]:
        if name in kwargs:
            continue
        if name.lower() in (*_CLASSES, *_OUTPUTS) and outputs:
            found[name] = outputs
        elif name.lower() in _CHANNELS and first is not None:
            found[name] = first.shape[1]
        elif name in required:
            found[name] = Hole(outputs or 0)
    return found


def _by_statements(made: Made, slicer: Slicer, interpreter: Interpreter) -> Any:
    """A zoo's network with what the statements after it replace in it."""
    body, unit, scope = _body_of(made, interpreter)
    name, own = _target_of(made, body)
    if name is None:
        return slicer.value_of(made)
    kept: list[ast.stmt] = [own]
    after = [node for node in body if node.lineno > own.lineno]
    wanted: list[ast.stmt] = []
    for node in after:
        if _rebinds(node, name):
            break
        if _changes(node, name):
            wanted.append(node)
    needed = {n for node in wanted for n in _names(node)} - {name}
    helpers = [
        node
        for node in after
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in needed
        and name in _names(node.value)
    ]
    kept += sorted([*helpers, *wanted], key=lambda node: (node.lineno, node.col_offset))
    hidden = Scope(scope, {k: v for k, v in scope.names.items() if k != name})
    for node in helpers:
        hidden.names.pop(ast.unparse(node.targets[0]), None)
    return slicer.run_statements(kept, unit, hidden, name)


def _body_of(made: Made, interpreter: Interpreter) -> tuple[list[ast.stmt], Unit, Scope]:
    """The statements around a call, in order, those inside of `if`, `with` and `try` too."""
    unit = made.place.unit
    scope = made.scope or interpreter.scopes[unit]
    holder: Any = ast.Module(unit.body, [])
    for one in ast.walk(holder):
        is_function = isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and any(node is made.node for node in ast.walk(one)):
            holder = one
    return list(_flat(holder.body)), unit, scope


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.With | ast.Try | ast.For):
            yield from _flat(node.body)
            with contextlib.suppress(AttributeError):
                yield from _flat(node.orelse)  # type: ignore[union-attr]
        else:
            yield node


def _target_of(made: Made, body: list[ast.stmt]) -> tuple[str | None, Any]:
    """The name that a call's network is given, and the assignment of nothing but the call."""
    for node in body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if isinstance(made.node, ast.expr) and any(n is made.node for n in ast.walk(node.value)):
            alone = ast.Assign(targets=node.targets, value=made.node)
            return node.targets[0].id, ast.copy_location(alone, node)
    return None, None


def _changes(node: ast.stmt, name: str) -> bool:
    """Whether it puts something else into the network."""
    if isinstance(node, ast.Assign):
        return any(
            isinstance(target, ast.Attribute | ast.Subscript) and _root(target) == name
            for target in node.targets
        )
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        return (
            isinstance(called, ast.Attribute)
            and called.attr in ("add_module", "register_module", "append", "insert", "__setitem__")
            and _root(called) == name
        )
    return False


def _rebinds(node: ast.stmt, name: str) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
        and name not in _names(node.value)
    )


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
