"""Slices: a class of a script in, the same class out, made of it and the definitions it needs.

Only definitions are executed, in a module of their own: without `open`, with imports of libraries
that compute, and under a guard that stops files, processes and the network. What a definition
needs beyond that stands in for itself, and names itself where it is used.
"""

from __future__ import annotations

import ast
import builtins
import collections
import dis
import importlib
import inspect
import linecache
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

from torch import nn

from toplabel.errors import ModelError
from toplabel.models.script.guard import watch
from toplabel.models.script.project import Project
from toplabel.models.script.sources import Unit
from toplabel.models.script.tables import (
    COMPUTING,
    HARMLESS_DECORATORS,
    NO_BUILTINS,
    REFUSED,
    REFUSED_ANYWHERE,
    SYSTEM,
    TALKING,
    WRITING,
)
from toplabel.models.script.values import (
    Class,
    Function,
    Instance,
    Library,
    Made,
    Module,
    Scope,
    is_plain,
)

_MAKING = (
    *("torch.nn.", "torch.device", "torchvision.models.", "torchvision.transforms.", "timm."),
    "albumentations.",
)
_MODULES = sys.stdlib_module_names | {f"_{name}" for name in sys.stdlib_module_names}
_ASKED = (WRITING | _MODULES | {"__dict__"}) - COMPUTING
_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_CLASSDEREF"})
_PRIVATE = "_toplabel_script_"
_PRETRAINED = frozenset({"pretrained", "weights", "weights_backbone", "pretrained_backbone"})


class Hole(int):
    """A number that only running the script would tell: the number of outputs, to be checked."""

    def __len__(self) -> int:
        return int(self)

    def __getattr__(self, name: str) -> Hole:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> Hole:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Hole:
        """Itself."""
        return self


class _Quiet:
    """What stands for loggers, metrics and the like: it takes any call and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name == "LightningModule":
            return _Lightning
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else self

    def __getitem__(self, key: object) -> Any:
        return self

    def __mro_entries__(self, bases: Any) -> Any:
        return ()


class _LeftOut:
    """What stands for a library that is not imported: it says so where it is used."""

    def __init__(self, name: str) -> None:
        self.__dict__["_named"] = name
        root = name.split(".")[0]
        self.__dict__["_absent"] = root in COMPUTING and root not in sys.modules

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _LeftOut(f"{self._named}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._absent:
            package = self._named.split(".")[0]
            raise ModelError(f"the network needs {self._named}; pip install {package}")
        raise ModelError(
            f"the network needs {self._named}, which a script's network may not use; pass the"
            " class itself: arch=Net"
        )

    def __mro_entries__(self, bases: Any) -> Any:
        return self()


class _Lightning(nn.Module):
    """What a LightningModule is for its answers."""

    hparams = _Quiet()

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is kept."""

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is logged."""

    log_dict = log


class Slicer:
    """Makes real classes, functions and networks of what the interpreter found.

    Args:
        project: Where imports lead.
        enter: Gives the names of a unit.
        outputs: How many outputs the checkpoint's network has, where that is known.
        installed: Import any library that is installed, not only those that compute.
    """

    def __init__(
        self,
        project: Project,
        enter: Callable[[Unit], Scope],
        *,
        outputs: int | None,
        installed: bool = False,
    ) -> None:
        self._installed = installed
        self._project = project
        self._enter = enter
        self._outputs = outputs
        self._spaces: dict[Unit, dict[str, Any]] = {}
        self._done: dict[int, Any] = {}
        self._keep: list[Any] = []
        self.left_out: list[str] = []
        self.holes: list[str] = []

    def class_of(self, kind: Class) -> type:
        """The class itself."""
        if id(kind) in self._done:
            found: type = self._done[id(kind)]
            return found
        node = _tidied_class(kind)
        space = self._space(kind.unit)
        self._bind_names(node, kind.scope, space, own=kind.name)
        self._execute(node, kind.unit, kind.scope, space)
        made = space[kind.name]
        self._remember(kind, made)
        for name, value in kind.names.items():
            if is_plain(value) and value is not None and not hasattr(made, name):
                setattr(made, name, value)
        return made  # type: ignore[no-any-return]

    def function_of(self, function: Function) -> Any:
        """A function of the script."""
        if id(function.node) in self._done:
            return self._done[id(function.node)]
        space = self._space(function.unit)
        if isinstance(function.node, ast.Lambda):
            name = f"_lambda_{function.node.lineno}_{function.node.col_offset}"
            target = ast.Name(id=name, ctx=ast.Store())
            node: ast.stmt = ast.Assign(targets=[target], value=_copied(function.node))
            ast.copy_location(node, function.node)
            ast.copy_location(target, function.node)
        else:
            node, name = _copied(function.node), function.name
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if any(_changes(decorator, function.scope) for decorator in node.decorator_list):
                self.holes.append(f"the decorator of {name}")
            node.decorator_list = []
        self._bind_names(node, function.scope, space, own=name)
        self._execute(node, function.unit, function.scope, space)
        self._remember(function.node, space[name])
        return space[name]

    def run_statements(self, body: list[ast.stmt], unit: Unit, scope: Scope, name: str) -> Any:
        """What a name means after statements that make a network."""
        space = dict(self._space(unit))
        for node in body:
            self._bind_names(node, scope, space, own=name)
        for node in body:
            self._execute(_copied(node), unit, scope, space)
        return space[name]

    def value_of(self, value: Any) -> Any:
        """A real value for one of the script's; a hole where only running would tell."""
        if isinstance(value, Class):
            return self.class_of(value)
        if isinstance(value, Function):
            return self.function_of(value)
        if isinstance(value, Library):
            return self._library(value.name)
        if isinstance(value, Module):
            return self._module(value.unit)
        if isinstance(value, Instance):
            args = [self.value_of(part) for part in value.args]
            kwargs = {key: self.value_of(part) for key, part in value.kwargs.items()}
            return self.class_of(value.kind)(*args, **kwargs)
        if isinstance(value, Made):
            return self._made(value)
        if isinstance(value, dict):
            return {self.value_of(k): self.value_of(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value_of(part) for part in value]
        if isinstance(value, tuple):
            return tuple(self.value_of(part) for part in value)
        if is_plain(value):
            return value
        return Hole(self._outputs or 0)

    def _made(self, made: Made) -> Any:
        root = made.name.split(".")[0]
        if made.name == "torch.nn.Sequential" and made.args and isinstance(made.args[0], dict):
            return nn.Sequential(
                collections.OrderedDict((k, self.value_of(v)) for k, v in made.args[0].items())
            )
        if (
            made.name.startswith(_MAKING)
            or (self._installed and made.last[:1].isupper())
            or (root in ("functools", "collections", "einops", "math"))
        ):
            args = [self.value_of(part) for part in made.args]
            kwargs = {k: self.value_of(v) for k, v in made.kwargs.items()}
            if root in ("torchvision", "timm"):
                args, kwargs = without_downloads(made.last, args, kwargs)
            return self._library(made.name)(*args, **kwargs)
        if made.name in ("numpy.array", "torch.tensor", "torch.arange", "numpy.arange"):
            return self._library(made.name)(*[self.value_of(part) for part in made.args])
        return Hole(self._outputs or 0)

    def _remember(self, key: Any, made: Any) -> None:
        self._keep.append(key)
        self._done[id(key)] = made

    def _space(self, unit: Unit) -> dict[str, Any]:
        """The namespace of a unit, which Python knows as a module of a private name."""
        if unit not in self._spaces:
            name = f"{_PRIVATE}{unit.path.stem}_{abs(hash(str(unit.path))):x}_{id(self):x}"
            module = ModuleType(name)
            module.__file__ = str(unit.path)
            module.__dict__["__builtins__"] = self._builtins(unit)
            sys.modules[name] = module  # dataclasses look there
            self._spaces[unit] = module.__dict__
            lines = unit.text.splitlines(keepends=True)
            linecache.cache[_file_of(unit)] = (len(unit.text), None, lines, _file_of(unit))
        return self._spaces[unit]

    def _builtins(self, unit: Unit) -> dict[str, Any]:
        known = {k: v for k, v in vars(builtins).items() if k not in NO_BUILTINS}
        known |= {"setattr": _set, "delattr": _set}
        known["getattr"] = known["_toplabel_attribute"] = _attribute
        watch(known)
        if not self._installed:
            known["print"] = lambda *args, **kwargs: None
        known["__import__"] = lambda name, *rest: self._import(unit, name, *rest)
        return known

    def _import(
        self,
        unit: Unit,
        name: str,
        _globals: Any = None,
        _locals: Any = None,
        wanted: Any = (),
        level: int = 0,
    ) -> Any:
        """`import` inside a function of the slice."""
        if level or self._project.imported(unit, name, 0):
            if found := self._project.imported(unit, name, level):
                return self._module(found)
            return _LeftOut(name)
        root = name.split(".")[0]
        if root in COMPUTING or (self._installed and root not in SYSTEM | {"os", "sys"}):
            whole = __import__(name, None, None, wanted, 0)
            if not wanted:
                return whole
            parts = ModuleType(name)
            vars(parts).update({part: self._library(f"{name}.{part}") for part in wanted})
            return parts
        return self._library(name)

    def _module(self, unit: Unit) -> Any:
        slicer, scope = self, self._enter(unit)

        class Beside(ModuleType):
            def __getattr__(self, name: str) -> Any:
                if name.startswith("__") or name not in scope.names:
                    raise AttributeError(name)
                return slicer.value_of(scope.names[name])

        return Beside(unit.path.stem)

    def _library(self, name: str) -> Any:
        root, *parts = name.split(".")
        if name.endswith(("LightningModule",)):
            return _Lightning
        if root == "torchvision":
            from toplabel.models.zoo_import import import_torchvision

            import_torchvision()
        if root in TALKING and not (
            self._installed and root not in ("os", "sys") and find_spec(root)
        ):
            return _Quiet()
        if hasattr(builtins, name) and name not in NO_BUILTINS:
            return getattr(builtins, name)
        if root in SYSTEM or (root not in COMPUTING and not self._installed):
            self.left_out.append(root)
            return _LeftOut(name)
        try:
            found: Any = importlib.import_module(root)
        except ImportError:
            self.left_out.append(root)
            return _LeftOut(name)
        for index, part in enumerate(parts, 2):
            if part in REFUSED:
                return _LeftOut(name)
            if not hasattr(found, part):
                try:
                    importlib.import_module(".".join([root, *parts[: index - 1]]))
                except ImportError:
                    return _LeftOut(name)
            found = getattr(found, part, None)
            if _is_system(found):
                return _LeftOut(name)
        return found

    def _bind_names(self, node: ast.AST, scope: Scope, space: dict[str, Any], *, own: str) -> None:
        """Put what the node's names mean into its namespace."""
        for name in _free_names(node):
            if name == own or name in space:
                continue
            value = scope.find(name)
            if value is None and not _is_bound(scope, name):
                star = _star_of(scope, name)
                if star is not None:
                    space[name] = self._library(star)
                continue
            space[name] = None  # against circles; a class may name itself through another
            made = self.value_of(value)
            if isinstance(made, Hole):
                self.holes.append(name)
            space[name] = made

    def _execute(self, node: ast.stmt, unit: Unit, scope: Scope, space: dict[str, Any]) -> None:
        def refuse(name: str, line: int) -> Any:
            raise ModelError(
                f"{name} at {unit.where(line)} is not run: of a script only the network's own"
                " definitions are"
            )

        space["_toplabel_refused"] = refuse
        checked = _Checked(unit, scope).visit(node)
        tree = ast.fix_missing_locations(ast.Module([checked], []))
        import __future__

        code = compile(
            tree,
            _file_of(unit),
            "exec",
            flags=__future__.annotations.compiler_flag,
            dont_inherit=True,
        )
        exec(code, space)


def _attribute(owner: Any, name: str, *default: Any) -> Any:
    """`getattr`, for a script: what is refused by name is refused here as well."""
    found = getattr(owner, name, *default)
    of_library = isinstance(owner, ModuleType)
    refused = name in REFUSED_ANYWHERE or (name in REFUSED and of_library) or _is_system(found)
    if not refused and name in WRITING and inspect.isroutine(found):  # past Python's own files
        refused = _module_of(found, owner).split(".")[0] == "torch"
    if refused:
        raise ModelError(
            f"{name} of {str(owner)[:60]} is not for a script's network: of a script only the"
            " network's own definitions are run"
        )
    if name == "__dict__" and of_library:
        names = [part for part in found if part not in REFUSED and not _is_system(found[part])]
        return {part: found[part] for part in names}
    return found


def _module_of(method: Any, owner: Any) -> str:
    return str(getattr(method, "__module__", None) or type(owner).__module__)


def _set(owner: Any, name: str, *value: Any) -> None:
    """`setattr` and `delattr`, for a script: of its own objects."""
    theirs = isinstance(owner, type) and not owner.__module__.startswith(_PRIVATE)
    if theirs or isinstance(owner, ModuleType):
        raise ModelError(f"the network changes {name} of {str(owner)[:60]}, which others use")
    setattr(owner, name, *value) if value else delattr(owner, name)


def _is_system(value: object) -> bool:
    """Whether it is a module of Python's own that does more than compute."""
    if not isinstance(value, ModuleType):
        return False
    root = value.__name__.split(".")[0]
    return root in _MODULES and root not in COMPUTING


class _Checked(ast.NodeTransformer):
    """Takes downloads out of calls, and stops at what reads, writes or starts something."""

    def __init__(self, unit: Unit, scope: Scope) -> None:
        self._unit = unit
        self._scope = scope

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Refuse what is no computing, and what would change a library for all others."""
        written = ast.Constant(value=ast.unparse(node)[:60])
        self.generic_visit(node)
        refuses = node.attr in REFUSED_ANYWHERE or (
            node.attr in REFUSED and self._library_of(node) != ""
        )
        line = ast.Constant(value=node.lineno)
        refused = ast.Call(
            func=ast.Name(id="_toplabel_refused", ctx=ast.Load()), args=[written, line], keywords=[]
        )
        if not isinstance(node.ctx, ast.Load):
            library = self._library_of(node.value)
            if library.startswith("torch.backends") and isinstance(node.ctx, ast.Store):
                return ast.copy_location(ast.Name(id="_toplabel_setting", ctx=ast.Store()), node)
            node.value = ast.copy_location(refused, node) if library else node.value
            return node
        if refuses:
            return ast.copy_location(refused, node)
        own = isinstance(node.value, ast.Name) and node.value.id == "self"
        if node.attr in _ASKED and not own:
            asked = ast.Name(id="_toplabel_attribute", ctx=ast.Load())
            name = ast.Constant(value=node.attr)
            return ast.copy_location(
                ast.Call(func=asked, args=[node.value, name], keywords=[]), node
            )
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Take `pretrained=True` and `weights=...` out of a zoo's functions."""
        self.generic_visit(node)
        name = self._library_of(node.func)
        if not name.startswith(("torchvision.models", "timm")):
            return node
        last = name.rpartition(".")[2]
        had = [k for k in node.keywords if k.arg in _PRETRAINED]
        pretrained = any(
            not (isinstance(k.value, ast.Constant) and k.value.value in (None, False)) for k in had
        )
        node.keywords = [k for k in node.keywords if k.arg not in _PRETRAINED]
        if name.startswith("torchvision.models") and last.islower() and node.args:
            first, *rest = node.args
            pretrained |= not (isinstance(first, ast.Constant) and not first.value)
            node.args = rest
        for key, value in _settings_of(last, pretrained=pretrained).items():
            if all(k.arg != key for k in node.keywords):
                node.keywords.append(ast.keyword(arg=key, value=ast.Constant(value=value)))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave out decorators of libraries that do not compute."""
        self.generic_visit(node)
        node.decorator_list = [d for d in node.decorator_list if self._computes(d)]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """The same of classes."""
        self.generic_visit(node)
        node.decorator_list = [d for d in node.decorator_list if self._computes(d)]
        return node

    def _computes(self, decorator: ast.expr) -> bool:
        name = self._library_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
        return not name or name.split(".")[0] in COMPUTING or "." not in name

    def _library_of(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            found = self._scope.find(node.id)
            return found.name if isinstance(found, Library) else ""
        if isinstance(node, ast.Attribute):
            before = self._library_of(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""


def without_downloads(
    name: str, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a zoo's function, with random weights for downloaded ones."""
    pretrained = any(value not in (None, False) for k, value in kwargs.items() if k in _PRETRAINED)
    kwargs = {k: v for k, v in kwargs.items() if k not in _PRETRAINED}
    if name.islower() and name != "create_model" and args:
        pretrained |= bool(args[0])
        args = args[1:]
    return args, _settings_of(name, pretrained=pretrained) | kwargs


def _settings_of(name: str, *, pretrained: bool) -> dict[str, Any]:
    """What torchvision's two oldest set where their weights are asked for."""
    if name not in ("inception_v3", "googlenet"):
        return {}
    settings: dict[str, Any] = {"init_weights": False}
    if pretrained:
        settings["transform_input"] = True
        if name == "googlenet":
            settings["aux_logits"] = False
    return settings


def _tidied_class(kind: Class) -> ast.ClassDef:
    """The class with nothing in its body but definitions, and constants that are known."""
    node: ast.ClassDef = _copied(kind.node)
    body: list[ast.stmt] = []
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Pass):
            body.append(one)
        elif isinstance(one, ast.AnnAssign | ast.Assign):
            target = one.target if isinstance(one, ast.AnnAssign) else one.targets[0]
            name = target.id if isinstance(target, ast.Name) else ""
            if is_plain(kind.names.get(name)) and kind.names.get(name) is not None:
                known = kind.names[name]
                value = _literal(known)
                if value is not None:
                    one.value = ast.copy_location(value, one)
            body.append(one)
    node.body = body or [ast.Pass()]
    return node


def _literal(value: Any) -> ast.expr | None:
    try:
        return ast.parse(repr(value), mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _copied(node: Any) -> Any:
    import copy

    return copy.deepcopy(node)


def _free_names(node: ast.AST) -> list[str]:
    """The names that it reads, each once."""
    import __future__

    bare = _copied(node)
    for one in ast.walk(bare):
        if isinstance(one, ast.arg):
            one.annotation = None
    tree = ast.fix_missing_locations(ast.Module([bare], []))
    flags = __future__.annotations.compiler_flag
    found: dict[str, None] = {}
    waiting = [compile(tree, "<script>", "exec", flags=flags, dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        found |= {
            one.argval: None for one in dis.get_instructions(code) if one.opname in _GLOBAL_LOADS
        }
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]
    return list(found)


def _is_bound(scope: Scope | None, name: str) -> bool:
    while scope is not None:
        if name in scope.names:
            return True
        scope = scope.parent
    return False


def _star_of(scope: Scope | None, name: str) -> str | None:
    """The library's thing of that name, where a star import brings it."""
    while scope is not None:
        for key in scope.names:
            if key.startswith("*"):
                return f"{key[1:]}.{name}" if not hasattr(builtins, name) else None
        scope = scope.parent
    return None


def _file_of(unit: Unit) -> str:
    return str(unit.path) if not unit.cells else f"<notebook {unit.path}>"


def _changes(decorator: ast.expr, scope: Scope) -> bool:
    """Whether a decorator may make another function of one: the script's own, or a library's."""
    made_by = decorator.func if isinstance(decorator, ast.Call) else decorator
    root = made_by
    while isinstance(root, ast.Attribute):
        root = root.value
    found = scope.find(root.id) if isinstance(root, ast.Name) else None
    if isinstance(found, Function | Class):
        return True
    last = made_by.attr if isinstance(made_by, ast.Attribute) else ""
    if not isinstance(found, Library) or found.name.split(".")[0] not in COMPUTING:
        return False
    return (last or found.name.rpartition(".")[2]) not in HARMLESS_DECORATORS
