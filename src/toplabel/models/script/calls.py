"""Calls: an expression in, its value out: data, a library's thing, a class, a step of an image."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    library_value,
    random_step,
    step,
)
from toplabel.models.script.tables import (
    CV2_FUNCTIONS,
    DATA_METHODS,
    IDENTITY,
    OTHERS,
    RANDOM,
    SAME_IMAGE,
    SAME_NETWORK,
    TEXT_METHODS,
)
from toplabel.models.script.values import (
    SCORES,
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

_MANY = 20_000
_BUILTINS: dict[str, Callable[..., Any]] = {
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
_NETWORK_WORDS = ("model", "net", "cnn", "classifier", "mlp", "vgg", "resnet", "vit")
_DTYPES = ("float", "double", "half", "int", "uint8", "long", "Tensor", "bfloat16", "bool")


class Calls:
    """Values of expressions; `Interpreter` follows statements with it."""

    noted: Any
    project: Any
    _unit: Any
    _functions: list[str]

    if TYPE_CHECKING:  # of `Interpreter`

        def place(self, node: ast.AST) -> Place: ...  # noqa: D102
        def call_function(self, function: Function, args: Any, kwargs: Any) -> Any: ...  # noqa: D102
        def sink(self, network: Any, args: Any, node: ast.AST) -> Any: ...  # noqa: D102
        def either(self, one: Any, other: Any, node: ast.AST) -> Any: ...  # noqa: D102
        def bind(self, target: ast.expr, value: Any, scope: Scope) -> None: ...  # noqa: D102

    # Expressions

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
        return Library(node.id) if node.id in _BUILTINS or node.id in OTHERS else UNKNOWN

    def _of_Attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        if dotted := _dotted(node):  # `import a.b` of a file beside
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
            return SCORES if owner.of_scores else Unknown(owner.reason)
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
            return owner if owner.of_scores or owner.reason else UNKNOWN
        if isinstance(owner, list | tuple | dict | str):
            if isinstance(key, Unknown):
                if key.of_scores and id(owner) in self.noted.constants:
                    self.noted.indexed.append((id(owner), self.place(node)))
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
            base = next((b for b in dataset.kind.bases if isinstance(b, Library)), None)
            name = base.name if base else ""
            made = Made(name, dataset.args, dataset.kwargs, dataset.place, dataset.assigned)
            return self.dataset_item(made, node) if is_dataset(made) else UNKNOWN
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
        if not isinstance(items, list | tuple | str) or len(items) > _MANY:
            inner = Scope(scope)
            self.bind(first.target, self.element(items, first.target), inner)
            made = self._comprehended(rest, inner, make)
            return [*made] if isinstance(made, list) and has_step(made) else UNKNOWN
        found: list[Any] = []
        for one in items:
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
            scores = any(isinstance(v, Unknown) and v.of_scores for v in (left, right))
            return SCORES if scores else (lost or UNKNOWN)
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "Mult" and not numbers and _is_long(left, right):
            return UNKNOWN
        if operator == "Pow" and isinstance(right, int | float) and abs(right) > 64:
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
        scores = any(isinstance(v, Unknown) and v.of_scores for v in (left, right))
        if scores:
            return SCORES
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
        if isinstance(value, Unknown | Step | Library):
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

    # Calls

    def _of_Call(self, node: ast.Call, scope: Scope) -> Any:
        args = tuple(self._elements(node.args, scope))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, scope)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif isinstance(value, dict):
                kwargs |= {k: v for k, v in value.items() if isinstance(k, str)}
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value, scope)
            dotted = _dotted(node.func)
            if not (dotted and isinstance(scope.find(dotted.rpartition(".")[0]), Module)):
                return self.method(owner, node.func.attr, args, kwargs, node, scope)
        return self.call(self.value(node.func, scope), args, kwargs, node, scope)

    def call(
        self,
        called: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        node: ast.AST,
        scope: Scope | None = None,
    ) -> Any:
        """What calling it gives."""
        if isinstance(called, Function):
            return self.call_function(called, args, kwargs)
        if isinstance(called, Class):
            return self.make(called, args, kwargs, node)
        if isinstance(called, Library):
            return self.call_library(called.name, args, kwargs, node, scope)
        if isinstance(called, Instance):
            if is_network(called):
                return self.sink(called, args, node)
            method = self._of_instance(called, "__call__")
            return self.call(method, args, kwargs, node) if method is not UNKNOWN else UNKNOWN
        if isinstance(called, Made):
            return self.call_made(called, args, kwargs, node)
        lost = next((a for a in args if isinstance(a, Unknown) and a.reason), None)
        if any(isinstance(a, Unknown) and a.of_scores for a in args):
            return SCORES
        name = _last_name(getattr(node, "func", None)).lower()
        if has_step(args) or lost is not None:
            if any(word in name for word in _NETWORK_WORDS):
                return self.sink(called, args, node)
            if lost is not None:
                return lost
            raise Lost(f"{name or 'a call'} at {self.place(node)} is not followed")
        return UNKNOWN

    def make(self, kind: Class, args: Any, kwargs: Any, node: ast.AST) -> Any:
        """An instance of a class of the script."""
        made = Instance(kind, args, kwargs, self.place(node))
        if kind.is_network:
            self.noted.networks.append(made)
            return made
        if is_dataset(made):
            self.noted.datasets.append(made)
        self.start(made)
        return made

    def call_made(self, called: Made, args: Any, kwargs: Any, node: ast.AST) -> Any:
        """A transform, a network or a layer, called."""
        if called.name.startswith(("torchvision.transforms.", "albumentations.")) or (
            "_Weights." in called.name
        ):
            image = kwargs.get("image", args[0] if args else UNKNOWN)
            return self.transform(called, image, node, named="image" in kwargs)
        if is_network(called) or called.name.startswith("torch.nn.modules."):
            return self.sink(called, args, node)
        if any(isinstance(a, Unknown) and a.of_scores for a in args):
            return SCORES
        if has_step(args):
            if called.name.startswith("torch.nn.Flatten"):
                return self.method(args[0], "flatten", (1,), {}, node, None)
            raise Lost(f"{called.name} at {self.place(node)} is not followed")
        return UNKNOWN

    def transform(self, made: Any, image: Any, node: ast.AST, *, named: bool = False) -> Any:
        """An image after a transform of a library's, or of the script's own."""
        if isinstance(image, Unknown):
            if image.reason or image.of_scores:
                return image
            form = "array-bgr" if named else "rgb"
            image = first_step(Origin("given", form, self.place(node)))
        if not isinstance(image, Step):
            return UNKNOWN
        if isinstance(made, Function | Instance | Library):
            return self.call(made, (image,), {}, node)
        if not isinstance(made, Made):
            raise Lost(f"a transform at {self.place(node)} is only known when it runs")
        if made.last in ("Compose", "Sequential"):
            parts = made.argument("transforms", 0)
            parts = made.args if made.last == "Sequential" else parts
            if not isinstance(parts, list | tuple):
                raise Lost(f"the transforms of {made.place} are only known when it runs")
            for part in parts:
                image = self._in_turn(part, image, node)
            if named and isinstance(image, Step):
                return {"image": image}
            return image
        if made.last == "Lambda":
            return self.call(made.argument("lambd", 0), (image,), {}, node)
        if made.last in RANDOM:
            return random_step(image, made.last)
        if made.last in ("RandomCrop", "RandomResizedCrop"):
            place = "Resize" if made.last == "RandomResizedCrop" else "CenterCrop"
            size = made.argument("size", 0)
            size = (size, size) if isinstance(size, int) and place == "Resize" else size
            root = made.name.rpartition(".")[0]
            made_so = Made(f"{root}.{place}", (size,), {}, made.place)
            return self.transform(made_so, random_step(image, made.last), node)
        if named or made.name.startswith("albumentations."):
            found = step("transform", made.name, (made,), {"image": image}, place=made.place)
            return found if named else self.item(found, "image", node)
        return step("transform", made.name, (made, image), place=made.place)

    def transform_alone(self, made: Made) -> Any:
        """What a transform makes of an image; None where that cannot be followed."""
        image = first_step(Origin("given", "rgb", made.place))
        try:
            return self.transform(made, image, ast.Pass(lineno=made.place.line))
        except (Lost, TypeError, ValueError, LookupError):
            return None

    def _in_turn(self, part: Any, image: Any, node: ast.AST) -> Any:
        if isinstance(part, Made) and part.name.startswith("albumentations."):
            if part.last.startswith("ToTensor"):
                return self.method(image, "transpose", (2, 0, 1), {}, node, None)
            if part.last in RANDOM:
                return random_step(image, part.last)
            found = step("transform", part.name, (part,), {"image": image}, place=part.place)
            return self.item(found, "image", node)
        return self.transform(part, image, node)

    def call_library(
        self, name: str, args: Any, kwargs: Any, node: ast.AST, scope: Scope | None = None
    ) -> Any:
        """A function or class of a library, called."""
        place, last = self.place(node), name.rpartition(".")[2]
        if name in IDENTITY:
            return args[0] if args else UNKNOWN
        if name in ("next", "enumerate") and args and not is_plain(args[0]):
            inner = self.element(args[0], node)
            return inner if name == "next" else [(UNKNOWN, inner)]
        if name == "isinstance" and args and isinstance(args[0], Step):
            return self._is_instance(args)
        if name in _BUILTINS and is_plain(args):
            return self._builtin(name, args, kwargs)
        if origin := self._opened(name, args, kwargs, place):
            return first_step(origin)
        if last in DATASETS or name.startswith("torchvision.datasets."):
            return self._made(name, args, kwargs, node, scope, note=self.noted.datasets)
        if last == "random_split":
            inner = args[0] if args else UNKNOWN
            return [Made(name, (inner,), {}, place) for _ in range(4)]
        if has_step(args) or has_step(kwargs):
            return self._on_image(name, args, kwargs, node)
        if any(isinstance(a, Unknown) and a.reason for a in args):
            return next(a for a in args if isinstance(a, Unknown) and a.reason)
        if any(isinstance(a, Unknown) and a.of_scores for a in args):
            return SCORES
        if name.startswith("cv2.") and args and isinstance(args[0], Unknown):
            form = _cv2_form(last, [*args[1:], *kwargs.values()])
            if form:
                image = first_step(Origin("given", form, place))
                return self._on_image(name, (image, *args[1:]), kwargs, node)
        return self._other(name, last, args, kwargs, node, scope)

    def _other(
        self, name: str, last: str, args: Any, kwargs: Any, node: ast.AST, scope: Scope | None
    ) -> Any:
        place = self.place(node)
        if name in ("torch.load", "torch.jit.load"):
            path = args[0] if args else kwargs.get("f")
            if isinstance(path, str):
                self.noted.loads.append((path, place))
            return self._made(name, args, kwargs, node, scope)
        if name == "torch.cuda.is_available":
            return False
        if name == "os.path.join" and is_plain(args):
            return os.path.join(*map(str, args))
        if name.startswith("math.") and is_plain(args) and hasattr(math, last):
            return getattr(math, last)(*args)
        if last == "OrderedDict":
            return dict(args[0]) if args and isinstance(args[0], dict | list) else {}
        if name.startswith(("torchvision.models.", "timm.create_model")):
            return self._made(name, args, kwargs, node, scope, note=self.noted.networks)
        if name == "torch.nn.Sequential":
            return self._made(name, args, kwargs, node, scope, note=self.noted.networks)
        if name.startswith(("numpy.random", "torch.rand")):
            return UNKNOWN
        return self._made(name, args, kwargs, node, scope)

    def _made(
        self,
        name: str,
        args: Any,
        kwargs: Any,
        node: ast.AST,
        scope: Scope | None,
        *,
        note: list[Any] | None = None,
    ) -> Made:
        made = Made(name, args, kwargs, self.place(node), node=node, scope=scope)
        if note is not None:
            note.append(made)
        if made.last == "Compose":
            function = self._functions[-1] if self._functions else ""
            self.noted.transforms.append((made, function))
        return made

    def _is_instance(self, args: Any) -> Any:
        kinds = args[1] if isinstance(args[1], tuple) else (args[1],)
        if not all(isinstance(kind, Library) for kind in kinds):
            return UNKNOWN
        found = tuple(library_value(kind.name) for kind in kinds if kind.name != "str")
        return isinstance(args[0].samples[0], found)

    def _builtin(self, name: str, args: Any, kwargs: Any) -> Any:
        if name == "range" and args and max(map(abs, args)) > _MANY:
            return UNKNOWN
        if not is_plain(kwargs):
            return UNKNOWN
        found = _BUILTINS[name](*args, **kwargs)
        return list(found) if name in ("zip", "enumerate", "range", "reversed") else found

    def _opened(self, name: str, args: Any, kwargs: Any, place: Place) -> Origin | None:
        """Where a file is opened as an image."""
        if name == "PIL.Image.open":
            return Origin("file", "rgb", place)
        if name == "PIL.Image.fromarray" and not has_step(args):
            if args and isinstance(args[0], Unknown) and (args[0].reason or args[0].of_scores):
                return None
            return Origin("given", "rgb", place)
        if name in ("cv2.imread", "cv2.imdecode"):
            flag = args[1] if len(args) > 1 else kwargs.get("flags", 1)
            grey = flag == 0 or (isinstance(flag, Library) and "GRAYSCALE" in flag.name)
            return Origin("file", "array-grey" if grey else "array-bgr", place)
        if name in (
            "skimage.io.imread",
            "imageio.imread",
            "imageio.v2.imread",
            "imageio.v3.imread",
        ):
            return Origin("file", "array-rgb", place)
        if name.endswith(("default_loader", "pil_loader")):
            return Origin("file", "rgb", place)
        if name.startswith("torchvision.io.") and name.endswith(("read_image", "decode_image")):
            mode = args[1] if len(args) > 1 else kwargs.get("mode")
            grey = isinstance(mode, Library) and mode.name.endswith("GRAY")
            return Origin("file", "tensor-grey" if grey else "tensor-rgb", place)
        return None

    def _on_image(self, name: str, args: Any, kwargs: Any, node: ast.AST) -> Any:
        """A function of a library on an image."""
        lost = [a for a in (*args, *kwargs.values()) if isinstance(a, Unknown) and a.reason]
        if lost:
            return lost[0]
        kwargs = {k: v for k, v in kwargs.items() if k not in ("device", "requires_grad")}
        last = name.rpartition(".")[2]
        if last == "tensor" and args and _is_tensor(args[0]):
            return args[0]
        if name in ("print", "display", "len", "str", "type", "id"):
            return UNKNOWN
        if name in ("int", "float", "round", "min", "max", "abs") and not kwargs:
            return self._number(name, args, node)
        if name.startswith(("matplotlib", "IPython", "streamlit", "logging", "os.")):
            return UNKNOWN
        if any(isinstance(a, Unknown) for a in args):
            raise Lost(f"an argument of {name} at {self.place(node)} is only known when it runs")
        if name in ("list", "tuple") and len(args) == 1:
            return list(args[0]) if isinstance(args[0], list | tuple) else args[0]
        return step("call", name, args, kwargs, place=self.place(node))

    def _number(self, name: str, args: Any, node: ast.AST) -> Any:
        return step("number", name, args, place=self.place(node))

    def method(
        self,
        owner: Any,
        name: str,
        args: Any,
        kwargs: Any,
        node: ast.AST,
        scope: Scope | None,
    ) -> Any:
        """`owner.name(...)`."""
        if isinstance(owner, Step):
            return self._method_of_image(owner, name, args, kwargs, node)
        if isinstance(owner, Library):
            return self.call_library(f"{owner.name}.{name}", args, kwargs, node, scope)
        if is_network(owner):
            return self._method_of_network(owner, name, args, kwargs, node)
        if isinstance(owner, Made):
            return self._method_of_made(owner, name, args, kwargs, node)
        if isinstance(owner, str) and name in TEXT_METHODS:
            return getattr(owner, name)(*args, **kwargs) if is_plain(args) else UNKNOWN
        if isinstance(owner, list | dict) and name in DATA_METHODS:
            return self._method_of_data(owner, name, args, node)
        if isinstance(owner, Unknown):
            if owner.reason or owner.of_scores:
                return owner
            if owner.parameter and name in ("convert", "resize", "thumbnail"):
                image = first_step(Origin("given", "rgb", self.place(node)))
                return self._method_of_image(image, name, args, kwargs, node)
            if has_step(args) or any(isinstance(a, Unknown) and a.reason for a in args):
                return self.call(UNKNOWN, args, kwargs, node)
            return UNKNOWN
        return self.call(self.attribute(owner, name, node), args, kwargs, node, scope)

    def _method_of_image(
        self, image: Step, name: str, args: Any, kwargs: Any, node: ast.AST
    ) -> Any:
        if name in SAME_IMAGE:
            return image
        if name in ("save", "show", "close", "verify", "load", "seek", "tofile", "imshow"):
            return None
        if name in ("to", "type"):
            kept = [a for a in (*args, *kwargs.values()) if isinstance(a, Library) and _is_dtype(a)]
            if not kept:
                return image
            args, kwargs = (Library(kept[0].name.replace(".cuda.", ".")),), {}
        if any(isinstance(a, Unknown) for a in args):
            raise Lost(f"an argument of {name} at {self.place(node)} is only known when it runs")
        if (
            name in ("reshape", "view")
            and (found := self._flattened(image, args, node)) is not None
        ):
            return found
        return step("method", name, (image, *args), kwargs, place=self.place(node))

    def _flattened(self, image: Step, args: Any, node: ast.AST) -> Any:
        """`reshape(-1, 784)` where the drawn images are not 28 x 28 yet."""
        sizes = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if image.origin.size or not _is_tensor(image) or len(sizes) != 2:
            return None
        if len(image.samples[0].shape) < 3 or image.samples[0].shape == image.samples[1].shape:
            return None
        flat = step("method", "flatten", (image, 1), place=self.place(node))
        return flat if len(image.samples[0].shape) == 4 else self._row(flat, image, node)

    def _row(self, flat: Any, image: Step, node: ast.AST) -> Any:
        return step("method", "reshape", (image, 1, -1), place=self.place(node))

    def _method_of_network(
        self, owner: Any, name: str, args: Any, kwargs: Any, node: ast.AST
    ) -> Any:
        if name in SAME_NETWORK:
            return owner
        if name in ("forward", "__call__"):
            return self.sink(owner, args, node)
        if isinstance(owner, Instance):
            method = owner.kind.find(name)
            if isinstance(method, Function):
                bound = Function(method.unit, method.node, method.scope, owner)
                return self.call_function(bound, args, kwargs)
            if has_step(args):
                attribute = self._of_instance(owner, name)
                if is_network(attribute) or isinstance(attribute, Made):
                    return self.sink(owner, args, node)
        return SCORES if has_step(args) else UNKNOWN

    def _method_of_made(self, owner: Made, name: str, args: Any, kwargs: Any, node: ast.AST) -> Any:
        if owner.last == "ArgumentParser":
            if name == "add_argument" and args:
                flag = str(args[-1] if str(args[-1]).startswith("-") else args[0]).lstrip("-")
                dest = kwargs.get("dest", flag.replace("-", "_"))
                owner.kwargs[f"<{dest}>"] = kwargs.get("default", UNKNOWN)
                return UNKNOWN
            if name in ("parse_args", "parse_known_args"):
                defaults = {k[1:-1]: v for k, v in owner.kwargs.items() if k.startswith("<")}
                return Made("argparse.Namespace", (), defaults, owner.place)
            return owner
        if name in ("__iter__", "next", "__next__"):
            return self.element(owner, node) if name != "__iter__" else owner
        if name == "__getitem__":
            return self.dataset_item(owner, node)
        if name == "transforms" and "_Weights" in owner.name:
            return Made(f"{owner.name}.transforms", (), {}, self.place(node))
        if has_step(args):
            return self.call(UNKNOWN, args, kwargs, node)
        return UNKNOWN

    def _method_of_data(self, owner: Any, name: str, args: Any, node: ast.AST) -> Any:
        if name == "get" and args and isinstance(args[0], Unknown):
            return self.item(owner, args[0], node)
        if name in ("append", "extend", "insert", "update", "sort", "reverse"):
            if isinstance(owner, list) and len(owner) > _MANY:
                return None
            getattr(owner, name)(*args)
            return None
        found = getattr(owner, name)(*args)
        return list(found) if name in ("keys", "values", "items") else found


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of names alone; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _is_long(*values: Any) -> bool:
    return any(isinstance(value, int) and value > _MANY for value in values)


def _last_name(node: Any) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _index(key: Any) -> Any:
    """A key with numpy's `newaxis` as None."""
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    if isinstance(key, Library) and key.name.endswith("newaxis"):
        return None
    if isinstance(key, Unknown):
        raise Lost("an index is only known when it runs")
    return key


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Step) and hasattr(value.samples[0], "unsqueeze")


def _is_dtype(library: Library) -> bool:
    last = library.name.rpartition(".")[2]
    return library.name.startswith("torch.") and last.startswith(_DTYPES) or last.endswith("Tensor")


def _cv2_form(last: str, args: list[Any]) -> str:
    """The channels that an image has which OpenCV is given; empty where it is none."""
    if last not in CV2_FUNCTIONS:
        return ""
    code = next((a.name for a in args if isinstance(a, Library) and ".COLOR_" in a.name), "")
    for start, form in (("RGBA2", "array-rgba"), ("RGB2", "array-rgb"), ("GRAY2", "array-grey")):
        if f"COLOR_{start}" in code:
            return form
    return "array-bgr"
