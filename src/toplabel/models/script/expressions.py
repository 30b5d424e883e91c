"""Expressions: one in, its value out: data, a library's thing, a class, a step of an image."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.models.script.datasets import (
    DATASETS,
    dataset_of,
    is_dataset,
    preferred_key,
    transform_of,
)
from toplabel.models.script.operations import (
    Lost,
    Origin,
    Step,
    first_step,
    has_step,
    step,
)
from toplabel.models.script.tables import (
    OTHERS,
)
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

MANY = 20_000
"""Items of a list that are followed at most."""

_VAST = 10_000_000
_WIDE = re.compile(r"\*|\d{5}|\{[^}]*\{")  # a format's width

BUILTINS: dict[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        len,
        list,
        tuple,
        dict,
        set,
        sorted,
        str,
        int,
        float,
        bool,
        min,
        max,
        sum,
        abs,
        round,
    )
} | {"zip": zip, "enumerate": enumerate, "range": range, "reversed": reversed}


class Expressions:
    """Values of expressions; `Interpreter` follows statements with it."""

    noted: Any
    project: Any
    _unit: Any
    _rounds = 100_000  # of all comprehensions together

    if TYPE_CHECKING:  # of `Interpreter` and `Calls`

        def place(self, node: ast.AST) -> Place: ...  # noqa: D102
        def call_function(self, function: Function, args: Any, kwargs: Any) -> Any: ...  # noqa: D102
        def bind(self, target: ast.expr, value: Any, scope: Scope) -> None: ...  # noqa: D102
        def either(self, one: Any, other: Any, node: ast.AST) -> Any: ...  # noqa: D102
        def call_of(self, node: ast.Call, scope: Scope) -> Any: ...  # noqa: D102
        def call(self, called: Any, args: Any, kwargs: Any, node: ast.AST) -> Any: ...  # noqa: D102
        def _item_of_base(self, dataset: Instance, node: ast.AST) -> Any: ...

    def value(self, node: ast.expr, scope: Scope) -> Any:
        """What an expression is."""
        method = getattr(self, f"_of_{type(node).__name__}", None)
        if method is None:
            return UNKNOWN
        try:
            return method(node, scope)
        except Lost as lost:
            return Unknown(str(lost))
        except (RecursionError, ArithmeticError, TypeError, ValueError, LookupError):
            return UNKNOWN

    def _of_Constant(self, node: ast.Constant, scope: Scope) -> Any:
        return node.value

    def _of_Name(self, node: ast.Name, scope: Scope) -> Any:
        found = scope.find(node.id)
        if found is not None:
            return found
        at: Scope | None = scope
        while at is not None:
            if node.id in at.names:
                return None
            stars = [key[1:] for key in at.names if key.startswith("*")]
            for module in stars:
                return Library(f"{module}.{node.id}")
            at = at.parent
        return Library(node.id) if node.id in BUILTINS or node.id in OTHERS else UNKNOWN

    def _of_Attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        if dotted := dotted_name(node):  # `import a.b` of a file beside
            found = scope.find(dotted)
            if isinstance(found, Module):
                return found
        return self.attribute(self.value(node.value, scope), node.attr, node)

    def attribute(self, owner: Any, name: str, node: ast.AST) -> Any:
        """An attribute of a value."""
        if isinstance(owner, Library):
            return Library(f"{owner.name}.{name}")
        if isinstance(owner, Module):
            return owner.scope.names.get(name, UNKNOWN)
        if isinstance(owner, Class):
            found = owner.find(name)
            return UNKNOWN if found is None else found
        if isinstance(owner, Instance):
            return self._of_instance(owner, name)
        if isinstance(owner, Step):
            if name == "data" and hasattr(owner.samples[0], "unsqueeze"):
                return owner
            return step("attribute", name, (owner,), place=self.place(node))
        if isinstance(owner, Made):
            return self._of_made(owner, name, node)
        if isinstance(owner, Unknown):
            return owner if owner.of_scores else Unknown(owner.reason)
        return UNKNOWN

    def _of_instance(self, owner: Instance, name: str) -> Any:
        if name in owner.attributes:
            return owner.attributes[name]
        found = owner.kind.find(name)
        if found is None and not owner.started:
            self.start(owner)
            found = owner.attributes.get(name)
        if isinstance(found, Function):
            decorators = getattr(found.node, "decorator_list", [])
            bound = Function(found.unit, found.node, found.scope, owner)
            if any(isinstance(d, ast.Name) and d.id == "property" for d in decorators):
                return self.call_function(bound, (), {})
            return bound
        if found is None and name == "module" and is_network(owner):
            return owner
        return UNKNOWN if found is None else found

    def start(self, owner: Instance) -> None:
        """Follow the constructor of an instance, once."""
        if owner.started:
            return
        owner.started = True
        init = owner.kind.find("__init__")
        if isinstance(init, Function):
            bound = Function(init.unit, init.node, init.scope, owner)
            self.call_function(bound, owner.args, owner.kwargs)
            return
        fields = [s for s in owner.kind.node.body if isinstance(s, ast.AnnAssign)]
        for index, one in enumerate(fields):
            if isinstance(one.target, ast.Name):
                name = one.target.id
                if index < len(owner.args):
                    owner.attributes[name] = owner.args[index]
                elif name in owner.kwargs:
                    owner.attributes[name] = owner.kwargs[name]

    def _of_made(self, owner: Made, name: str, node: ast.AST) -> Any:
        if name in owner.kwargs:
            return owner.kwargs[name]
        if name == "dataset":
            return dataset_of(owner)
        inner = dataset_of(owner)
        known = DATASETS.get(inner.last) if isinstance(inner, Made) else None
        if known and name in ("data", "test_data", "train_data"):
            form = "batch-grey" if known.form == "grey" else "batch-rgb"
            origin = Origin("dataset", form, self.place(node), known.size, inner, raw=True)
            return first_step(origin)
        if name in ("transform", "transforms") and isinstance(inner, Made):
            return transform_of(inner)
        return Library(f"{owner.name}.{name}") if name == "transforms" else UNKNOWN

    def _of_Subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        return self.item(self.value(node.value, scope), self.value(node.slice, scope), node)

    def _of_Slice(self, node: ast.Slice, scope: Scope) -> Any:
        parts = (node.lower, node.upper, node.step)
        return slice(*(None if part is None else self.value(part, scope) for part in parts))

    def item(self, owner: Any, key: Any, node: ast.AST) -> Any:
        """`owner[key]`."""
        if isinstance(owner, Step):
            return step("index", "[...]", (owner, _index(key)), place=self.place(node))
        if isinstance(owner, Unknown):
            if owner.whole:
                is_place = isinstance(key, int) and key >= 0
                return replace(owner, whole=False, part=key if is_place else None)
            return owner if owner.of_scores or owner.reason else UNKNOWN
        if isinstance(owner, list | tuple | dict | str):
            if isinstance(key, Unknown):
                if key.of_scores and id(owner) in self.noted.constants:
                    self.noted.indexed.append((id(owner), self.place(node), key.networks))
                if isinstance(owner, dict) and (best := preferred_key(owner)) is not None:
                    return owner[best]
                return UNKNOWN
            found = owner[key]
            return found
        if is_dataset(owner) or isinstance(owner, Made):
            return self.dataset_item(owner, node) if is_dataset(dataset_of(owner)) else UNKNOWN
        return UNKNOWN

    def element(self, owner: Any, node: ast.AST) -> Any:
        """What a loop over it gives."""
        if isinstance(owner, Made | Instance):
            inner = dataset_of(owner)
            return self.dataset_item(inner, node) if is_dataset(inner) else UNKNOWN
        if isinstance(owner, list | tuple) and owner:
            if has_step(owner) or len(owner) == 1:
                return owner[0]
            best = preferred_key({one: one for one in owner if isinstance(one, str)})
            return UNKNOWN if best is None else best
        return owner if isinstance(owner, Unknown) and owner.of_scores else UNKNOWN

    def dataset_item(self, dataset: Any, node: ast.AST) -> Any:
        """(image, label) of a data set, or what its `__getitem__` gives."""
        dataset = dataset_of(dataset)
        if isinstance(dataset, Instance):
            method = dataset.kind.find("__getitem__")
            self.start(dataset)
            if isinstance(method, Function):
                bound = Function(method.unit, method.node, method.scope, dataset)
                return self.call_function(bound, (UNKNOWN,), {})
            return self._item_of_base(dataset, node)
        if not isinstance(dataset, Made):
            return UNKNOWN
        known = DATASETS.get(dataset.last)
        form, size = (known.form, known.size) if known else ("rgb", None)
        image: Any = first_step(Origin("dataset", form, dataset.place, size, dataset))
        transform = transform_of(dataset)
        if transform is not None:
            image = self.call(transform, (image,), {}, node)
        return (image, UNKNOWN)

    def _of_Tuple(self, node: ast.Tuple, scope: Scope) -> Any:
        return tuple(self._elements(node.elts, scope))

    def _of_List(self, node: ast.List, scope: Scope) -> Any:
        return self._elements(node.elts, scope)

    def _of_Set(self, node: ast.Set, scope: Scope) -> Any:
        return set(self._elements(node.elts, scope))

    def _elements(self, nodes: list[ast.expr], scope: Scope) -> list[Any]:
        found: list[Any] = []
        for one in nodes:
            if isinstance(one, ast.Starred):
                inner = self.value(one.value, scope)
                found += inner if isinstance(inner, list | tuple) else [UNKNOWN]
            else:
                found.append(self.value(one, scope))
        return found

    def _of_Dict(self, node: ast.Dict, scope: Scope) -> Any:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            made = self.value(value, scope)
            if key is None:
                found |= made if isinstance(made, dict) else {}
                continue
            name = self.value(key, scope)
            if isinstance(made, Made | Instance) and isinstance(name, str):
                made.assigned.append(name)
            found[name if is_plain(name) else UNKNOWN] = made
        return found

    def _of_ListComp(self, node: ast.ListComp, scope: Scope) -> Any:
        return self._comprehended(node.generators, scope, lambda s: self.value(node.elt, s))

    _of_GeneratorExp = _of_ListComp

    def _of_SetComp(self, node: ast.SetComp, scope: Scope) -> Any:
        found = self._comprehended(node.generators, scope, lambda s: self.value(node.elt, s))
        return set(found) if isinstance(found, list) else UNKNOWN

    def _of_DictComp(self, node: ast.DictComp, scope: Scope) -> Any:
        def pair(inner: Scope) -> Any:
            key, value = self.value(node.key, inner), self.value(node.value, inner)
            if isinstance(value, Made | Instance) and isinstance(key, str):
                value.assigned.append(key)
            return key, value

        pairs = self._comprehended(node.generators, scope, pair)
        return dict(pairs) if isinstance(pairs, list) else UNKNOWN

    def _comprehended(
        self, loops: list[ast.comprehension], scope: Scope, make: Callable[[Scope], Any]
    ) -> Any:
        if not loops:
            return [make(scope)]
        first, *rest = loops
        items = self.value(first.iter, scope)
        if isinstance(items, dict | range | set):
            items = sorted(items, key=str) if isinstance(items, set) else list(items)
        if not isinstance(items, list | tuple | str) or len(items) > MANY:
            inner = Scope(scope)
            self.bind(first.target, self.element(items, first.target), inner)
            made = self._comprehended(rest, inner, make)
            return [*made] if isinstance(made, list) and has_step(made) else UNKNOWN
        found: list[Any] = []
        for one in items:
            self._rounds -= 1
            if self._rounds < 0:
                return UNKNOWN
            inner = Scope(scope)
            self.bind(first.target, one, inner)
            tests = [self.truth(self.value(test, inner)) for test in first.ifs]
            if None in tests:
                return UNKNOWN
            if all(tests):
                made = self._comprehended(rest, inner, make)
                if not isinstance(made, list):
                    return UNKNOWN
                found += made
        return found

    def _of_JoinedStr(self, node: ast.JoinedStr, scope: Scope) -> Any:
        parts = []
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            found = self.value(inner, scope)
            if not is_plain(found) or (isinstance(part, ast.FormattedValue) and part.format_spec):
                return UNKNOWN
            parts.append(str(found))
        return "".join(parts)

    def _of_BinOp(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        return self.binary(type(node.op).__name__, left, right, node)

    def binary(self, operator: str, left: Any, right: Any, node: ast.AST) -> Any:
        """`left operator right`."""
        lost = next((v for v in (left, right) if isinstance(v, Unknown) and v.reason), None)
        if has_step(left) or has_step(right):
            if lost is not None:
                return lost
            if isinstance(left, Unknown) or isinstance(right, Unknown):
                return Unknown(f"a value at {self.place(node)} is only known when it runs")
            return step("binary", operator, (left, right), place=self.place(node))
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return scores_in((left, right)) or lost or UNKNOWN
        if _swells(operator, left, right):
            return UNKNOWN
        if not (is_plain(left) and is_plain(right)):
            if operator == "Add" and isinstance(left, list) and isinstance(right, list):
                return left + right
            return UNKNOWN
        from toplabel.models.script.operations import perform

        return perform("binary", operator, (left, right), {})

    def _of_UnaryOp(self, node: ast.UnaryOp, scope: Scope) -> Any:
        operand = self.value(node.operand, scope)
        name = type(node.op).__name__
        if name == "Not":
            known = self.truth(operand)
            return UNKNOWN if known is None else not known
        if isinstance(operand, Step):
            return step("unary", name, (operand,), place=self.place(node))
        if isinstance(operand, int | float):
            return -operand if name == "USub" else +operand if name == "UAdd" else ~int(operand)
        return UNKNOWN

    def _of_BoolOp(self, node: ast.BoolOp, scope: Scope) -> Any:
        is_and = isinstance(node.op, ast.And)
        found: Any = UNKNOWN
        unknown = False
        for one in node.values:
            found = self.value(one, scope)
            known = self.truth(found)
            if known is None:
                unknown = True
            elif known is not is_and:
                return found
        return UNKNOWN if unknown else found

    def _of_Compare(self, node: ast.Compare, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.comparators[0], scope)
        operator = type(node.ops[0]).__name__
        if len(node.ops) > 1:
            return UNKNOWN
        if scores := scores_in((left, right)):
            return scores
        if operator in ("Is", "IsNot"):
            if isinstance(left, Unknown) or isinstance(right, Unknown):
                return UNKNOWN
            return (left is right) is (operator == "Is")
        if has_step(left) or has_step(right):
            return step("binary", operator, (left, right), place=self.place(node))
        if not (is_plain(left) and is_plain(right)):
            return UNKNOWN
        if operator in ("In", "NotIn"):
            return (left in right) is (operator == "In")
        return self.binary(operator, left, right, node)

    def truth(self, value: Any) -> bool | None:
        """Whether it counts as true; None where only running would tell."""
        if isinstance(value, Step):
            return _agreed_truth(value)
        if isinstance(value, Unknown | Library):
            return None
        if isinstance(value, Made) and value.name in ("torch.cuda.is_available",):
            return False
        return bool(value) if is_plain(value) or isinstance(value, list | dict | tuple) else True

    def _of_IfExp(self, node: ast.IfExp, scope: Scope) -> Any:
        test = self.value(node.test, scope)
        known = self.truth(test)
        if known is not None:
            return self.value(node.body if known else node.orelse, scope)
        yes, no = self.value(node.body, scope), self.value(node.orelse, scope)
        if isinstance(yes, str) and isinstance(no, str):
            if isinstance(test, Unknown) and test.of_scores:
                self.note_choice(node.test, yes, no)
            return UNKNOWN
        return self.either(no, yes, node)

    def note_choice(self, test: ast.expr, yes: str, no: str) -> None:
        """Note two texts of which scores choose: those of a larger score come second."""
        lower = isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Lt | ast.LtE)
        zero = (
            isinstance(test, ast.Compare)
            and isinstance(test.ops[0], ast.Eq)
            and isinstance(test.comparators[0], ast.Constant)
            and test.comparators[0].value == 0
        )
        pair = (yes, no) if lower or zero else (no, yes)
        self.noted.choices.append((*pair, self.place(test)))

    def _of_NamedExpr(self, node: ast.NamedExpr, scope: Scope) -> Any:
        value = self.value(node.value, scope)
        self.bind(node.target, value, scope)
        return value

    def _of_Lambda(self, node: ast.Lambda, scope: Scope) -> Any:
        return Function(self._unit, node, scope)

    def _of_Await(self, node: ast.Await, scope: Scope) -> Any:
        return self.value(node.value, scope)

    def _of_Starred(self, node: ast.Starred, scope: Scope) -> Any:
        return self.value(node.value, scope)


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` of names alone; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted_name(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _swells(operator: str, left: Any, right: Any) -> bool:
    """Whether the result is larger than any script needs; a few characters can ask for TB."""
    if isinstance(left, str) and operator == "Mod":
        return is_wide(left)
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if operator == "Pow":
        return not numbers or abs(right) > 64 or _bits(left) * abs(right) > MANY
    if operator == "Mult":
        return _bits(left) + _bits(right) > MANY if numbers else is_vast(left, right)
    return operator == "Add" and not numbers and _length(left) + _length(right) > _VAST


def is_wide(form: str) -> bool:
    """Whether a format asks for a width that no text needs, or that it does not tell."""
    return _WIDE.search(form) is not None


def is_vast(*values: Any) -> bool:
    """Whether what is made of these, each as often as the others say, is too large."""
    product = 1
    for value in values:
        product *= max(1, _length(value))
    return product > _VAST


def _length(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(len(part) if isinstance(part, str) else 1 for part in value)
    return (
        min(abs(value), 10**12)
        if isinstance(value, int)
        else len(value or "")
        if isinstance(value, str | bytes | dict | set)
        else 1
    )


def _bits(value: float) -> int:
    return value.bit_length() if isinstance(value, int) else 64


def _agreed_truth(value: Step) -> bool | None:
    """What a number counts as, where it is the same for both drawn images."""
    if not all(isinstance(one, int | float | np.generic) for one in value.samples):
        return None
    found = {bool(one) for one in value.samples}
    return found.pop() if len(found) == 1 else None


def scores_in(values: Any) -> Unknown | None:
    """The first of some values that is made of scores."""
    return next((one for one in values if isinstance(one, Unknown) and one.of_scores), None)


def _index(key: Any) -> Any:
    """A key with numpy's `newaxis` as None."""
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    if isinstance(key, Library) and key.name.endswith("newaxis"):
        return None
    if isinstance(key, Unknown):
        raise Lost("an index is only known when it runs")
    return key
