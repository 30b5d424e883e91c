"""Interpret: a unit in, what its statements bind and what goes into networks out; nothing is run.

Each statement is followed once: a loop's body once, a function where it is called, those that
nobody calls with unknown arguments. Where only running would tell which way is taken, both are,
and what then differs is unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from toplabel.models.script.calls import Calls
from toplabel.models.script.expressions import MANY
from toplabel.models.script.operations import Step
from toplabel.models.script.project import Project
from toplabel.models.script.sources import Unit
from toplabel.models.script.values import (
    UNKNOWN,
    Class,
    Function,
    Instance,
    Library,
    Made,
    Module,
    Place,
    Scope,
    Unknown,
    is_network,
    is_plain,
)

_MAX_STEPS = 60_000
_MAX_DEPTH = 14
_INTO = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(eq=False)
class Trace:
    """A network called with an image.

    Args:
        image: What it is called with; or why that is not known.
        network: What is called.
        place: The call.
        function: The name of the function that it stands in; empty at the top of a file.
        training: It stands where a loss goes backward.
    """

    image: Step | Unknown
    network: Any
    place: Place
    function: str
    training: bool


@dataclass(eq=False)
class Noted:
    """What the interpreter came across.

    Args:
        traces: Calls of networks.
        datasets: Data sets that were made.
        transforms: `Compose` and the like, and functions' names in which they stand.
        constants: Lists, tuples and dicts of text, by identity: value, place, name.
        indexed: The identities of those that answers were looked up in, and of which networks.
        networks: Networks that were made.
        loads: Texts given to `torch.load`, with the place.
        choices: Texts chosen by a comparison of scores: (if false, if true, place).
        prepared: Images that functions give back, with the function's name.
        parts: Outputs of which the highest was looked for, by their place, and of which networks.
    """

    traces: list[Trace] = field(default_factory=list)
    datasets: list[Made | Instance] = field(default_factory=list)
    transforms: list[tuple[Made, str]] = field(default_factory=list)
    constants: dict[int, tuple[Any, Place, str]] = field(default_factory=dict)
    indexed: list[tuple[int, Place, tuple[Any, ...]]] = field(default_factory=list)
    networks: list[Made | Instance] = field(default_factory=list)
    loads: list[tuple[str, Place]] = field(default_factory=list)
    choices: list[tuple[str, str, Place]] = field(default_factory=list)
    prepared: list[tuple[Step, str]] = field(default_factory=list)
    parts: list[tuple[int, Place, tuple[Any, ...]]] = field(default_factory=list)


class _Return(Exception):
    """A function's end, with what it gives."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Interpreter(Calls):
    """Follows units; each only once.

    Args:
        project: Where imports lead.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.noted = Noted()
        self.scopes: dict[Unit, Scope] = {}
        self._context: list[ast.AST] = []
        self._functions: list[str] = []
        self._called: set[ast.AST] = set()
        self._left = _MAX_STEPS
        self._depth = 0

    def follow(self, unit: Unit) -> Scope:
        """The names of a unit, after all of it is followed once."""
        scope = self.enter(unit)
        for function in [*self._functions_of(unit, scope)]:
            if function.node not in self._called:
                self.call_function(function, (), {})
        return scope

    def enter(self, unit: Unit) -> Scope:
        """The names of a unit, after its top level is followed."""
        if unit in self.scopes:
            return self.scopes[unit]
        scope = self.scopes[unit] = Scope()
        scope.names["__name__"] = "__main__"
        outer, self._unit = getattr(self, "_unit", None), unit
        context, self._context = self._context, []
        functions, self._functions = self._functions, []
        try:
            with suppress(_Return):
                self.run(unit.body, scope)
        finally:
            self._unit = outer
            self._context, self._functions = context, functions
        return scope

    def _functions_of(self, unit: Unit, scope: Scope) -> Iterator[Function]:
        """Functions and methods of a unit; those of networks' forward are left out."""
        for value in list(scope.names.values()):
            if isinstance(value, Function) and value.unit is unit:
                yield value
            elif isinstance(value, Class) and value.unit is unit:
                made = next(
                    (v for v in list(scope.names.values()) if _is_of(v, value)), None
                ) or Instance(value, (), {}, Place(unit, value.node.lineno))
                for method in list(value.names.values()):
                    if isinstance(method, Function) and method.name not in (
                        "__init__",
                        "forward",
                        "__getitem__",
                    ):
                        yield Function(unit, method.node, method.scope, made)

    # Statements

    def place(self, node: ast.AST) -> Place:
        """Where a node of the unit that is being followed stands."""
        return Place(self._unit, getattr(node, "lineno", 1))

    def run(self, body: list[ast.stmt], scope: Scope) -> None:
        """Follow statements.

        Raises:
            _Return: One of them returns.
        """
        for statement in body:
            self._left -= 1
            if self._left < 0:
                return
            method = getattr(self, f"_run_{type(statement).__name__}", None)
            if method is not None:
                method(statement, scope)

    def _run_Import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            found = self.project.imported(self._unit, alias.name, 0)
            first = alias.name.split(".")[0]
            if found is not None:
                name = alias.asname or alias.name
                scope.names[name.split(".")[-1] if alias.asname else name] = self._module(found)
                if "." in alias.name and not alias.asname:
                    scope.names.setdefault(first, Library(first))
            else:
                scope.names[alias.asname or first] = Library(alias.name if alias.asname else first)

    def _module(self, unit: Unit) -> Module:
        return Module(unit, self.enter(unit))

    def _run_ImportFrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        base = node.module or ""
        found = self.project.imported(self._unit, base, node.level)
        for alias in node.names:
            name = alias.asname or alias.name
            if found is None or (found.path.name == "__init__.py" and alias.name != "*"):
                dotted = f"{base}.{alias.name}" if base else alias.name
                if inner := self.project.imported(self._unit, dotted, node.level):
                    scope.names[name] = self._module(inner)
                    continue
            if found is None:
                if alias.name == "*":
                    scope.names.setdefault(f"*{base}", Library(base))
                else:
                    scope.names[name] = Library(f"{base}.{alias.name}")
                continue
            names = self.enter(found).names
            if alias.name == "*":
                scope.names.update({k: v for k, v in names.items() if not k.startswith("__")})
            else:
                scope.names[name] = names.get(alias.name, UNKNOWN)

    def _run_FunctionDef(self, node: ast.FunctionDef, scope: Scope) -> None:
        scope.names[node.name] = Function(self._unit, node, scope)

    _run_AsyncFunctionDef = _run_FunctionDef

    def _run_ClassDef(self, node: ast.ClassDef, scope: Scope) -> None:
        bases = tuple(self.value(base, scope) for base in node.bases)
        made = Class(self._unit, node, scope, bases)
        inner = Scope(scope)
        with suppress(_Return):
            self.run(node.body, inner)
        made.names = inner.names
        for one in made.names.values():
            if isinstance(one, Function):
                one.scope = scope
        scope.names[node.name] = made

    def _run_Assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self.bind(target, value, scope)

    def _run_AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value, scope), scope)

    def _run_AugAssign(self, node: ast.AugAssign, scope: Scope) -> None:
        left = self.value(_as_load(node.target), scope)
        right = self.value(node.value, scope)
        self.bind(node.target, self.binary(type(node.op).__name__, left, right, node), scope)

    def _run_Expr(self, node: ast.Expr, scope: Scope) -> None:
        found = self.value(node.value, scope)
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            changes = call.func.attr in ("paste", "thumbnail") or call.func.attr.endswith("_")
            if changes and (isinstance(found, Step) or _is_lost(found)):
                self.bind(call.func.value, found, scope)  # it is changed in place

    def _run_Return(self, node: ast.Return, scope: Scope) -> None:
        raise _Return(None if node.value is None else self.value(node.value, scope))

    def _run_If(self, node: ast.If, scope: Scope) -> None:
        test = self.value(node.test, scope)
        known = self.truth(test)
        if known is not None:
            self.run(node.body if known else node.orelse, scope)
            return
        if isinstance(test, Unknown) and test.of_scores:
            self._note_names(node)
        before = dict(scope.names)
        returned: list[Any] = []
        ends = []
        for body in (node.body, node.orelse):
            scope.names.clear()
            scope.names.update(before)
            try:
                self.run(body, scope)
                ends.append(dict(scope.names))
            except _Return as end:
                returned.append(end.value)
        scope.names.clear()
        if not ends:
            scope.names.update(before)
            raise _Return(self.either(returned[0], returned[1], node))
        if returned and _matters(returned[0]):
            scope.names.setdefault("<returned>", []).append(returned[0])
        merged = ends[0] if len(ends) == 1 else self._merged(ends[0], ends[1], before, node)
        scope.names.update(merged)

    def _note_names(self, node: ast.If) -> None:
        """Note the texts that an `if` chooses by scores: `elif answer == 2: label = "cat"`."""
        names: dict[int, str] = {}
        branch: ast.If | None = node
        while branch is not None:
            index, text = _compared_with(branch.test), _said(branch.body)
            if index is not None and text:
                names.setdefault(index, text)
            rest = branch.orelse
            other = _said(rest)
            if text and other and index is None and not names:
                self.note_choice(branch.test, text, other)
                return
            if text and other and len(names) == 1 and branch is node and index in (0, 1):
                names[1 - index] = other
            branch = rest[0] if len(rest) == 1 and isinstance(rest[0], ast.If) else None
        if len(names) > 1:
            self.noted.constants[id(names)] = (names, self.place(node), "labels")
            self.noted.indexed.append((id(names), self.place(node), ()))

    def _merged(
        self, one: dict[str, Any], other: dict[str, Any], before: dict[str, Any], node: ast.AST
    ) -> dict[str, Any]:
        result = {}
        for name in {**one, **other}:
            if name not in other or name not in one:
                result[name] = one.get(name, other.get(name))
            elif one[name] is other[name]:
                result[name] = one[name]
            else:
                result[name] = self.either(one[name], other[name], node)
        return result

    def either(self, one: Any, other: Any, node: ast.AST) -> Any:
        """What is known of one of two values."""
        for value, rival in ((one, other), (other, one)):
            if rival is None or (isinstance(rival, Unknown) and not rival.reason):
                return value
        both = (*_networks_in(one), *_networks_in(other))
        if _networks_in(one) and _networks_in(other):
            return one if one is other else Unknown(networks=tuple(dict.fromkeys(both)))
        if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
            return tuple(self.either(a, b, node) for a, b in zip(one, other, strict=True))
        for whole, part in ((one, other), (other, one)):
            if isinstance(whole, tuple) and isinstance(part, Step) and whole[0] is part:
                return whole
        if one is other or (is_plain(one) and is_plain(other) and one == other):
            return one
        if isinstance(one, str) and isinstance(other, str):
            return UNKNOWN
        if isinstance(one, Step) or isinstance(other, Step):
            return Unknown(f"what is done is decided at {self.place(node)}, when it runs")
        if isinstance(one, Unknown) or isinstance(other, Unknown):
            return one if isinstance(one, Unknown) else other
        return one if _matters(one) else other

    def _run_For(self, node: ast.For, scope: Scope) -> None:
        self._loop(node, scope, self.element(self.value(node.iter, scope), node))

    _run_AsyncFor = _run_For

    def _loop(self, node: ast.For | ast.While, scope: Scope, element: Any) -> None:
        self._context.append(node)
        try:
            if isinstance(node, ast.For):
                self.bind(node.target, element, scope)
            self.run(node.body, scope)
        finally:
            self._context.pop()
        self.run(node.orelse, scope)

    def _run_While(self, node: ast.While, scope: Scope) -> None:
        self.value(node.test, scope)
        self._loop(node, scope, None)

    def _run_With(self, node: ast.With, scope: Scope) -> None:
        for item in node.items:
            value = self.value(item.context_expr, scope)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, scope)
        self.run(node.body, scope)

    _run_AsyncWith = _run_With

    def _run_Try(self, node: ast.Try, scope: Scope) -> None:
        self.run(node.body, scope)
        self.run(node.orelse, scope)
        before = set(scope.names)
        for handler in node.handlers:  # what only stands there may be all there is
            inner = Scope(scope)
            try:
                self.run(handler.body, inner)
            except _Return:
                continue
            for name, value in inner.names.items():
                known = scope.names.get(name)
                if name not in before or (isinstance(known, Unknown) and not known.reason):
                    scope.names[name] = value
        self.run(node.finalbody, scope)

    def bind(self, target: ast.expr, value: Any, scope: Scope) -> None:
        """Give a value its name."""
        if isinstance(target, ast.Name):
            scope.names[target.id] = value
            self._name(value, target.id, target)
        elif isinstance(target, ast.Attribute):
            owner = self.value(target.value, scope)
            if isinstance(owner, Instance):
                owner.attributes[target.attr] = value
                self._name(value, target.attr, target)
            elif isinstance(owner, Made):
                owner.kwargs[target.attr] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for index, part in enumerate(target.elts):
                if isinstance(part, ast.Starred):
                    self.bind(part.value, UNKNOWN, scope)
                else:
                    self.bind(part, self.item(value, index, target), scope)
        elif isinstance(target, ast.Subscript):
            owner = self.value(target.value, scope)
            key = self.value(target.slice, scope)
            if isinstance(owner, dict) and isinstance(key, str | int):
                owner[key] = value
            elif isinstance(owner, Step) and isinstance(target.value, ast.Name):
                scope.names[target.value.id] = Unknown(
                    f"it is changed in part at {self.place(target)}"
                )

    def _name(self, value: Any, name: str, node: ast.AST) -> None:
        """Note what a thing is called."""
        if isinstance(value, Made | Instance):
            value.assigned.append(name)
        elif isinstance(value, list | tuple | dict) and value:
            if len(value) <= MANY and _holds_text(value):
                self.noted.constants.setdefault(id(value), (value, self.place(node), name))
            for one in value if not isinstance(value, dict) else value.values():
                if isinstance(one, Made):
                    one.assigned.append(name)

    # Calls of the script's own functions

    def call_function(
        self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What a function of the script gives for these arguments."""
        if self._depth > _MAX_DEPTH or self._left < 0:
            return UNKNOWN
        self._called.add(function.node)
        scope = Scope(function.scope)
        outer, self._unit = self._unit if hasattr(self, "_unit") else function.unit, function.unit
        self._depth += 1
        self._bind_arguments(function, args, kwargs, scope)
        self._context.append(function.node)
        self._functions.append(function.name)
        try:
            if isinstance(function.node, ast.Lambda):
                return self.value(function.node.body, scope)
            try:
                self.run(function.node.body, scope)
            except _Return as end:
                others = scope.names.get("<returned>", [])
                value = end.value
                for other in others:
                    value = self.either(value, other, function.node)
                if isinstance(value, Step) and value.origin.kind in ("file", "given"):
                    self.noted.prepared.append((value, function.name))
                return value
            others = scope.names.get("<returned>", [])
            return others[-1] if others else None
        finally:
            self._context.pop()
            self._functions.pop()
            self._depth -= 1
            self._unit = outer

    def _bind_arguments(
        self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], scope: Scope
    ) -> None:
        spec = function.node.args
        given = (function.owner, *args) if function.owner is not None else args
        names = [arg.arg for arg in (*spec.posonlyargs, *spec.args)]
        decorators = getattr(function.node, "decorator_list", [])
        if function.owner is not None and any(
            isinstance(d, ast.Name) and d.id == "staticmethod" for d in decorators
        ):
            given = args
        defaults = dict(zip(names[len(names) - len(spec.defaults) :], spec.defaults, strict=True))
        defaults |= {
            a.arg: d
            for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
            if d is not None
        }
        for index, name in enumerate([*names, *(a.arg for a in spec.kwonlyargs)]):
            if index < len(given) and index < len(names):
                scope.names[name] = given[index]
            elif name in kwargs:
                scope.names[name] = kwargs[name]
            elif name in defaults:
                scope.names[name] = self.value(defaults[name], function.scope)
            else:
                scope.names[name] = Unknown(parameter=name)
        if spec.vararg:
            scope.names[spec.vararg.arg] = tuple(given[len(names) :])
        if spec.kwarg:
            scope.names[spec.kwarg.arg] = {k: v for k, v in kwargs.items() if k not in names}

    def sink(self, network: Any, args: tuple[Any, ...], node: ast.AST) -> Any:
        """Note that a network is called."""
        image = next((a for a in args if isinstance(a, Step) or _is_lost(a)), None)
        if image is not None:
            self.noted.traces.append(
                Trace(
                    image=image,
                    network=network,
                    place=self.place(node),
                    function=self._functions[-1] if self._functions else "",
                    training=self._is_training(),
                )
            )
        networks = network.networks if isinstance(network, Unknown) else (network,)
        return Unknown(of_scores=True, networks=networks, whole=True)

    def _is_training(self) -> bool:
        for node in reversed(self._context):
            if isinstance(node, ast.Lambda):
                continue
            if _goes_backward(node):
                return True
            if isinstance(node, ast.For | ast.While) or node is self._context[-1]:
                name = getattr(node, "name", "")
                if "train" in name.lower() and isinstance(node, _INTO):
                    return True
                if isinstance(node, ast.For | ast.While):
                    return False
        return False


def _compared_with(test: ast.expr) -> int | None:
    """The number that a test asks for by `==`."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        for side in (test.comparators[0], test.left):
            if isinstance(side, ast.Constant) and type(side.value) is int:
                return side.value
    return None


def _said(body: list[ast.stmt]) -> str:
    """The one text that statements assign, return or print; empty for anything else."""
    texts = []
    for node in body:
        value = node.value if isinstance(node, ast.Assign | ast.Return | ast.Expr) else None
        if isinstance(value, ast.Call) and len(value.args) == 1:
            value = value.args[0]
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            texts.append(value.value.strip())
    return texts[0] if len(texts) == 1 and len(texts[0]) < 60 else ""


def _goes_backward(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr == "backward" for one in ast.walk(node))


def _is_lost(value: Any) -> bool:
    return isinstance(value, Unknown) and bool(value.reason)


def _networks_in(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Unknown):
        return () if value.of_scores else value.networks
    return (value,) if is_network(value) else ()


def _is_of(value: Any, kind: Class) -> bool:
    return isinstance(value, Instance) and value.kind is kind


def _matters(value: Any) -> bool:
    return isinstance(value, Step | Made | Instance) or _is_lost(value) or bool(value)


def _holds_text(value: Any) -> bool:
    if isinstance(value, dict):
        parts: list[Any] = [*value, *value.values()]
    else:
        parts = list(value)
    return any(isinstance(part, str) for part in parts)


def _as_load(target: ast.expr) -> ast.expr:
    copied = ast.parse(ast.unparse(target), mode="eval").body
    return ast.copy_location(copied, target)
