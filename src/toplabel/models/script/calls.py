"""Calls: what is called and its arguments in, what it gives out."""

from __future__ import annotations

import ast
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toplabel.models.script.datasets import (
    DATASETS,
    is_dataset,
)
from toplabel.models.script.expressions import (
    BUILTINS,
    MANY,
    Expressions,
    dotted_name,
    is_vast,
    is_wide,
    scores_in,
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
    RANDOM,
    SAME_IMAGE,
    SAME_NETWORK,
    TEXT_METHODS,
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

_NETWORK_WORDS = ("model", "net", "cnn", "classifier", "mlp", "vgg", "resnet", "vit")
_DECIDING = ("max", "argmax", "topk", "softmax", "log_softmax", "argsort", "sort")
_SAME_SCORES = ("detach", "cpu", "cuda", "to", "numpy", "squeeze", "float", "clone")
_HANDLING = ("numpy.", "scipy.", "skimage.", "imutils.", "cv2.")
_KEEPING = ("array", "asarray", "frombuffer", "fromstring", "fromfile", "ascontiguousarray", "load")
_DTYPES = ("float", "double", "half", "int", "uint8", "long", "Tensor", "bfloat16", "bool")


class Calls(Expressions):
    """Values of calls; `Interpreter` follows statements with it."""

    _functions: list[str]

    if TYPE_CHECKING:  # of `Interpreter`

        def sink(self, network: Any, args: Any, node: ast.AST) -> Any: ...  # noqa: D102

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
            if _is_super(node.func.value):
                return self._of_base(scope.find("self"), node.func.attr, args, kwargs, node)
            owner = self.value(node.func.value, scope)
            dotted = dotted_name(node.func)
            if not (dotted and isinstance(scope.find(dotted.rpartition(".")[0]), Module)):
                return self.method(owner, node.func.attr, args, kwargs, node, scope)
        return self.call(self.value(node.func, scope), args, kwargs, node, scope)

    def _of_base(self, owner: Any, name: str, args: Any, kwargs: Any, node: ast.AST) -> Any:
        """What a method of a base of `self` gives: of a data set of torchvision's its images."""
        if not isinstance(owner, Instance):
            return UNKNOWN
        base = next((b for b in owner.kind.bases if isinstance(b, Class | Library)), None)
        if isinstance(base, Class):
            method = base.find(name)
            if isinstance(method, Function):
                bound = Function(method.unit, method.node, method.scope, owner)
                return self.call_function(bound, args, kwargs)
        if isinstance(base, Library) and is_dataset(owner):
            if name == "__init__":
                owner.base = (args, kwargs)
                owner.attributes.setdefault("transform", kwargs.get("transform"))
            elif name == "__getitem__":
                return self._item_of_base(owner, node)
        return UNKNOWN

    def _item_of_base(self, dataset: Instance, node: ast.AST) -> Any:
        base = next((b for b in dataset.kind.bases if isinstance(b, Library)), None)
        args, kwargs = dataset.base or (dataset.args, dataset.kwargs)
        made = Made(base.name if base else "", args, kwargs, dataset.place, dataset.assigned)
        return self.dataset_item(made, node) if is_dataset(made) else UNKNOWN

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
        if scores := scores_in(args):
            return self._of_scores(scores, "", node)
        if isinstance(called, Unknown) and called.networks and not called.of_scores:
            return self.sink(called, args, node)
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
        if scores := scores_in(args):
            return self._of_scores(scores, called.last.lower(), node)
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
        if name in BUILTINS and is_plain(args):
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
        if scores := scores_in(args):
            return self._of_scores(scores, last, node)
        if name.startswith("cv2.") and args and isinstance(args[0], Unknown):
            form = _cv2_form(last, [*args[1:], *kwargs.values()])
            if form:
                image = first_step(Origin("given", form, place))
                return self._on_image(name, (image, *args[1:]), kwargs, node)
        if name.startswith(_HANDLING) and last not in _KEEPING and any(map(_may_be_image, args)):
            return Unknown(f"{last} at {place} is not followed")
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
            if last in ("factorial", "comb", "perm") and is_vast(*args, *args):
                return UNKNOWN
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
        if name == "range" and args and max(map(abs, args)) > MANY:
            return UNKNOWN
        if not is_plain(kwargs):
            return UNKNOWN
        found = BUILTINS[name](*args, **kwargs)
        return list(found) if name in ("zip", "enumerate", "range", "reversed") else found

    def _opened(self, name: str, args: Any, kwargs: Any, place: Place) -> Origin | None:
        """Where a file is opened as an image."""
        if name == "PIL.Image.open":
            return Origin("file", "rgb", place)
        if name == "PIL.Image.new" and not has_step(args):
            mode = args[0] if args else kwargs.get("mode")
            return Origin("given", "grey" if mode == "L" else "rgb", place)
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
            vast = is_vast(owner, *args) or (name == "format" and is_wide(owner))
            return getattr(owner, name)(*args, **kwargs) if is_plain(args) and not vast else UNKNOWN
        if isinstance(owner, list | dict) and name in DATA_METHODS:
            return self._method_of_data(owner, name, args, node)
        if isinstance(owner, Unknown):
            if owner.of_scores and name not in _SAME_SCORES:
                return self._of_scores(owner, name, node)
            if owner.reason or owner.of_scores:
                return owner
            if owner.networks and name in SAME_NETWORK:
                return owner
            if owner.parameter and name in ("convert", "resize", "thumbnail"):
                image = first_step(Origin("given", "rgb", self.place(node)))
                return self._method_of_image(image, name, args, kwargs, node)
            if has_step(args) or any(isinstance(a, Unknown) and a.reason for a in args):
                return self.call(UNKNOWN, args, kwargs, node)
            return UNKNOWN
        return self.call(self.attribute(owner, name, node), args, kwargs, node, scope)

    def _of_scores(self, scores: Unknown, name: str, node: ast.AST) -> Unknown:
        """What a function makes of scores; noted where it looks for the highest of one output."""
        if name in _DECIDING and scores.part is not None:
            self.noted.parts.append((scores.part, self.place(node), scores.networks))
        return replace(scores, whole=False, part=None)

    def _method_of_image(
        self, image: Step, name: str, args: Any, kwargs: Any, node: ast.AST
    ) -> Any:
        if name in SAME_IMAGE:
            return image
        if name in ("save", "show", "close", "verify", "load", "seek", "tofile", "imshow"):
            return None
        if name == "point" and args and isinstance(args[0], Function):
            table = [self.call_function(args[0], (value,), {}) for value in range(256)]
            if not is_plain(table):
                raise Lost(f"point at {self.place(node)} is not followed")
            args = (table, *args[1:])
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
        return Unknown(of_scores=True, networks=(owner,)) if has_step(args) else UNKNOWN

    def _method_of_made(self, owner: Made, name: str, args: Any, kwargs: Any, node: ast.AST) -> Any:
        if owner.last == "ArgumentParser":
            if name == "add_argument" and args:
                flag = str(args[-1] if str(args[-1]).startswith("-") else args[0]).lstrip("-")
                dest = kwargs.get("dest", flag.replace("-", "_"))
                is_flag = str(args[0]).startswith("-") and not kwargs.get("required")
                absent = False if kwargs.get("action") == "store_true" else None
                default = kwargs.get("default", absent if is_flag else UNKNOWN)
                owner.kwargs[f"<{dest}>"] = default
                return UNKNOWN
            if name in ("parse_args", "parse_known_args"):
                defaults = {k[1:-1]: v for k, v in owner.kwargs.items() if k.startswith("<")}
                return Made("argparse.Namespace", (), defaults, owner.place)
            return owner
        if owner.last == "VideoCapture" and name == "read":
            return (True, first_step(Origin("camera", "array-bgr", self.place(node))))
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
            if isinstance(owner, list) and len(owner) > MANY:
                return None
            getattr(owner, name)(*args)
            return None
        found = getattr(owner, name)(*args)
        return list(found) if name in ("keys", "values", "items") else found


def _last_name(node: Any) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super"


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


def _may_be_image(value: Any) -> bool:
    return isinstance(value, Unknown) and bool(value.parameter)
