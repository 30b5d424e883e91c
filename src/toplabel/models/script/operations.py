"""Operations: calls of libraries on an image, done on two drawn images at once, and done again.

An image in a script is a `Step`: a library's function with literal arguments, on the steps before.
Each is tried on two drawn images of different sizes as soon as it is read, so that `image.mode` or
`array.shape[2]` are known where they are the same for both. The author's own functions never run.
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toplabel._internal.notices import quiet_libraries
from toplabel.models.script.tables import (
    ATTRIBUTES,
    CV2_FUNCTIONS,
    FUNCTIONAL,
    IMAGE_LIBRARIES,
    IMAGE_OPS,
    NUMPY_FUNCTIONS,
    ON_ARRAY,
    ON_IMAGE,
    ON_TENSOR,
    TORCH_FUNCTIONS,
)
from toplabel.models.script.values import Library, Made, Place, is_plain

_SIZES = ((360, 452), (421, 347))  # (height, width); cameras are cropped to parts of theirs
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
    "BitXor": operator.xor,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Eq": operator.eq,
    "NotEq": operator.ne,
}
_NUMBERS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (int, float, round, min, max, abs)
}
_UNARY: dict[str, Callable[[Any], Any]] = {"USub": operator.neg, "Invert": operator.invert}
_GROWING = frozenset({"resize", "tile", "repeat", "pad", "expand", "copyMakeBorder", "crop", "new"})
_MAX_PIXELS = 100_000_000
NOT_INSTALLED = "is not installed here"
_OF_CV2 = f"OpenCV {NOT_INSTALLED}: pip install opencv-python-headless"


class Lost(Exception):
    """An image's way cannot be followed; its text says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from.

    Args:
        kind: "file" (opened), "given" (a function's parameter), "dataset" or "camera".
        form: What it is at first: "rgb" or "grey" (Pillow's), "array-rgb", "array-bgr",
            "array-rgba", "array-grey".
        size: The (height, width) of all images of a known data set.
        place: Where it enters.
        dataset: The data set's value.
    """

    kind: str
    form: str
    place: Place
    size: tuple[int, int] | None = None
    dataset: Any = None
    raw: bool = False


@dataclass(eq=False, slots=True)
class Step:
    """An image, or what was computed of one.

    Args:
        kind: "input", "call", "method", "attribute", "index", "binary", "unary" or "transform".
        name: Of the function, method, attribute or operator.
        args: Plain data, library names, and steps before.
        kwargs: By name.
        place: In the author's code.
        samples: What it is for the drawn images.
        origin: Where the image comes from.
        random: Names of random operations on the way, which were left out.
    """

    kind: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: Place
    samples: tuple[Any, ...]
    origin: Origin
    random: tuple[str, ...] = ()


def first_step(origin: Origin) -> Step:
    """The image as it enters."""
    sizes = (origin.size, origin.size) if origin.size else _SIZES
    samples = tuple(as_form(drawn(size, seed), origin.form) for seed, size in enumerate(sizes))
    return Step("input", origin.form, (), {}, origin.place, samples, origin)


@lru_cache(maxsize=64)
def drawn(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A drawn photo of (height, width), smooth and noisy: Pillow's, RGB."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0 : size[0], 0 : size[1]]
    smooth = np.stack([down * 3 + 20, across * 2 + 40, 200 - down + across], axis=-1)
    noise = random.integers(-40, 40, smooth.shape)
    return Image.fromarray(np.clip(smooth % 256 + noise, 0, 255).astype(np.uint8))


def as_form(image: Image.Image, form: str) -> Any:
    """An upright RGB image in the form in which a script has it at first."""
    if form == "rgb":
        return image
    if form == "grey":
        return image.convert("L")
    array = np.asarray(image)
    if form == "array-grey":
        return np.array(image.convert("L"))
    if form.startswith(("batch-", "tensor-")):
        return _as_tensor(array if form.endswith("rgb") else np.array(image.convert("L")), form)
    if form == "array-bgr":
        return np.ascontiguousarray(array[..., ::-1])
    if form == "array-rgba":
        return np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    return array.copy()


def _as_tensor(array: NDArray[np.uint8], form: str) -> Any:
    import torch

    tensor = torch.from_numpy(array.copy())
    if form.startswith("batch"):
        return tensor[None]
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)


def step(
    kind: str,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    place: Place,
) -> Any:
    """A new step, or plain data where it is the same for every image.

    Raises:
        Lost: The operation is unknown, or fails.
    """
    kwargs = kwargs or {}
    before = _steps_in((args, kwargs))
    origin = before[0].origin
    random = tuple(dict.fromkeys(name for one in before for name in one.random))
    _check_allowed(kind, name, args, place)
    try:
        samples = tuple(
            perform(kind, name, at_sample(args, index), at_sample(kwargs, index))
            for index in range(len(before[0].samples))
        )
    except Lost:
        raise
    except Exception as error:
        raise Lost(f"{name} fails at {place}: {str(error)[:120]}") from error
    if _is_same(samples) and (kind in ("attribute", "index", "binary") or name in ("size", "dim")):
        return samples[0]
    return Step(kind, name, args, kwargs, place, samples, origin, random)


def random_step(image: Step, name: str) -> Step:
    """The image, with a note that a random operation was left out."""
    return Step(
        image.kind,
        image.name,
        image.args,
        image.kwargs,
        image.place,
        image.samples,
        image.origin,
        (*image.random, name),
    )


def perform(kind: str, name: str, args: Any, kwargs: Any) -> Any:
    """An operation on real values."""
    if kind == "call":
        return library_value(name)(*args, **kwargs)
    if kind == "method":
        return _call_method(name, args, kwargs)
    if kind == "attribute":
        value = getattr(args[0], name)
        return tuple(value) if name in ("shape", "size") and isinstance(value, tuple) else value
    if kind == "index":
        return args[0][args[1]]
    if kind == "binary":
        return _BINARY[name](*args)
    if kind == "unary":
        return _UNARY[name](args[0])
    if kind == "number":
        return _NUMBERS[name](*args)
    if kind == "transform":
        return args[0](**kwargs) if kwargs else args[0](args[1])
    raise Lost(f"{kind} {name} is not followed")


def _call_method(name: str, args: Any, kwargs: Any) -> Any:
    receiver, *rest = args
    if name in ("thumbnail", "paste"):
        receiver = receiver.copy()
        getattr(receiver, name)(*rest, **kwargs)
        return receiver
    if name.endswith("_") and not isinstance(receiver, np.ndarray):
        receiver, name = receiver.clone(), name
    value = getattr(receiver, name)(*rest, **kwargs)
    return tuple(value) if name == "size" else value


def replay(last: Step, image: Image.Image) -> Any:
    """What a way makes of an upright RGB image of Pillow's."""
    known: dict[int, Any] = {}

    def value(one: Any) -> Any:
        if isinstance(one, Step):
            if id(one) not in known:
                known[id(one)] = (
                    as_form(image, one.name)
                    if one.kind == "input"
                    else perform(one.kind, one.name, value(one.args), value(one.kwargs))
                )
            return known[id(one)]
        if isinstance(one, tuple):
            return tuple(map(value, one))
        if isinstance(one, list):
            return [value(part) for part in one]
        if isinstance(one, dict):
            return {key: value(part) for key, part in one.items()}
        if isinstance(one, slice):
            return slice(value(one.start), value(one.stop), value(one.step))
        return real(one)

    return value(last)


def chain(last: Step) -> list[Step]:
    """The steps of a way, the first one first, each once."""
    found: dict[int, Step] = {}

    def visit(one: Step) -> None:
        if id(one) in found:
            return
        for before in _steps_in((one.args, one.kwargs)):
            visit(before)
        found[id(one)] = one

    visit(last)
    return list(found.values())


def real(value: Any) -> Any:
    """A plain value, or an object of a library's, of what a script says.

    Raises:
        Lost: It is nothing of that.
    """
    if isinstance(value, Library):
        return library_value(value.name)
    if isinstance(value, Made):
        if value.name.startswith(("torchvision.transforms.", "albumentations.")) or value.name in (
            "torch.device",
            "PIL.ImageFilter.GaussianBlur",
        ):
            args = [real(part) for part in value.args]
            kwargs = {key: real(part) for key, part in value.kwargs.items()}
            with quiet_libraries():  # of options that have changed since
                return library_value(value.name)(*args, **kwargs)
        if value.last in NUMPY_FUNCTIONS | TORCH_FUNCTIONS and value.name.split(".")[0] in (
            "numpy",
            "torch",
        ):
            return library_value(value.name)(*map(real, value.args))
        raise Lost(f"{value.name} at {value.place} is not followed")
    if isinstance(value, tuple):
        return tuple(map(real, value))
    if isinstance(value, list):
        return [real(part) for part in value]
    if isinstance(value, dict):
        return {key: real(part) for key, part in value.items()}
    if is_plain(value) or isinstance(value, slice | type(Ellipsis) | np.ndarray | np.generic):
        return value
    if hasattr(value, "unsqueeze") or isinstance(value, Image.Image):
        return value
    if type(value).__module__.split(".")[0] in IMAGE_LIBRARIES:
        return value
    raise Lost("an argument is only known when the script runs")


def library_value(name: str) -> Any:
    """What a library has under a full name.

    Raises:
        Lost: The library is not one of those, or lacks it.
    """
    root = name.split(".")[0]
    if root not in IMAGE_LIBRARIES:
        raise Lost(f"{name} is not followed")
    if root == "torchvision":
        from toplabel.models.zoo_import import import_torchvision

        import_torchvision()
    parts = name.split(".")
    try:
        found: Any = importlib.import_module(root)
    except ImportError as error:
        raise Lost(_OF_CV2 if root == "cv2" else f"{root} {NOT_INSTALLED}") from error
    for index, part in enumerate(parts[1:], 2):
        if part.startswith("_"):
            raise Lost(f"{name} is not followed")
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:index]))
            except ImportError:
                old = {"ANTIALIAS": "LANCZOS", "float_": "float64", "bool8": "bool_"}.get(part)
                if old is None:
                    raise Lost(f"{root} has no {name}") from None
                part = old
        found = getattr(found, part)
    return found


def _check_allowed(kind: str, name: str, args: tuple[Any, ...], place: Place) -> None:
    """Stop at what is no operation on an image.

    Raises:
        Lost: It says what.
    """
    root, last = name.split(".")[0], name.rpartition(".")[2]
    allowed = True
    if kind == "call":
        known = {"numpy": NUMPY_FUNCTIONS, "torch": TORCH_FUNCTIONS, "cv2": CV2_FUNCTIONS}.get(
            root, frozenset()
        )
        if name.startswith("PIL.ImageOps."):
            known = IMAGE_OPS
        elif ".functional." in name and root == "torchvision":
            known = FUNCTIONAL
        allowed = last in known or name in ("PIL.Image.fromarray", "PIL.Image.new")
    elif kind == "method":
        first = args[0]
        sample = first.samples[0] if isinstance(first, Step) else first
        if isinstance(sample, Image.Image):
            allowed = name in ON_IMAGE
        elif isinstance(sample, np.ndarray | np.generic):
            allowed = name in ON_ARRAY
        else:
            allowed = name in ON_TENSOR
    elif kind == "attribute":
        allowed = name in ATTRIBUTES
    if not allowed:
        raise Lost(f"{name} at {place} is not followed")
    if last in _GROWING and math.prod(_numbers_in(args)) > _MAX_PIXELS:
        raise Lost(f"{name} at {place} makes an image larger than any network takes")


def _numbers_in(value: Any) -> Iterator[int]:
    """How large a side, or how many times, its numbers say."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers_in(part)
    elif isinstance(value, int) and abs(value) > 1:
        yield abs(value)


def _steps_in(value: Any) -> list[Step]:
    found: list[Step] = []
    waiting: list[Any] = [value]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Step):
            found.append(one)
        elif isinstance(one, list | tuple | dict | slice) and id(one) not in seen:
            seen.add(id(one))  # lists may hold one list many times
            if isinstance(one, slice):
                waiting += [one.step, one.stop, one.start]
            else:
                waiting += reversed(list(one.values()) if isinstance(one, dict) else one)
    return found


def has_step(value: Any) -> bool:
    """Whether an image, or something computed of one, is in a value."""
    return bool(_steps_in(value))


def at_sample(value: Any, index: int) -> Any:
    """A value for one of the drawn images."""
    if isinstance(value, Step):
        return value.samples[index]
    if isinstance(value, tuple):
        return tuple(at_sample(part, index) for part in value)
    if isinstance(value, list):
        return [at_sample(part, index) for part in value]
    if isinstance(value, dict):
        return {key: at_sample(part, index) for key, part in value.items()}
    if isinstance(value, slice):
        return slice(
            at_sample(value.start, index),
            at_sample(value.stop, index),
            at_sample(value.step, index),
        )
    return real(value)


def _is_same(samples: tuple[Any, ...]) -> bool:
    first = samples[0]
    if not (is_plain(first) or isinstance(first, np.dtype) or type(first).__name__ == "dtype"):
        return False
    return all(type(one) is type(first) and one == first for one in samples[1:])
