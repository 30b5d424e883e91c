"""Code of the user's that no `Preprocess` expresses in, the same as a `CustomPreprocess` out.

It runs as it is. Drawn photos show what it takes (a PIL image, else an array, else a tensor), and
whether it can be relied on.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from toplabel._internal.notices import quiet_libraries, warn
from toplabel._internal.text import first_line
from toplabel.errors import PreprocessError
from toplabel.models.transforms.verify import drawn_photos
from toplabel.preprocess.custom import CustomPreprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Tensor = NDArray[np.float32]

Call = Callable[["Pixels"], Any]

_SHAPES = ((240, 320), (320, 240), (256, 256))  # (height, width)
_TIMES = 4  # that each photo is given, to see whether the answer changes
_DIGITS = 3  # of the values in a digest
_FLAT, _STEEP = 0.05, 300.0  # largest minus smallest value, of a photo with black and white in it
_COLOURS = (1, 3)
_OUTPUTS = ("pixel_values", "image")
_EXPECTED = "expected a float tensor or array of shape (C, h, w), the same for every image"
_SEEN = "what it does cannot be read from its code"


def custom_preprocess(
    transform: Callable[..., Any], *, name: str | None = None, why: str = ""
) -> CustomPreprocess:
    """The preprocessing that calls the user's code, with a warning that it does.

    Args:
        transform: Takes one image: a function, an object that can be called, or a list of such.
        name: What to call it; by default the name of its function or class.
        why: What keeps it from being translated.

    Raises:
        PreprocessError: It fails on drawn photos, gives no (C, h, w) tensor of floats, tensors of
            different shapes for different photos, or another tensor each time.
    """
    name = name or name_of(transform)
    _check_not_random(transform, name)
    photos = list(drawn_photos(_SHAPES))
    takes, call = _accepted(transform, photos[0], name)

    def function(pixels: Pixels) -> Tensor:
        return _tensor(call(pixels), name)

    with quiet_libraries():
        tensors = [function(photo) for photo in photos]
        _check_shapes(tensors, name)
        _check_repeatable(function, photos, tensors, name)
    low, high = (float(f([f(one) for one in tensors])) for f in (np.min, np.max))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PreprocessError(f"{name} gives NaN or infinity for an ordinary photo")
    warn(
        f"the preprocessing {name} runs as it is, on one image at a time, given {takes}:"
        f" {why.partition(';')[0] or _SEEN}",
        about="preprocess",
    )
    if not _FLAT <= high - low <= _STEEP:
        warn(
            f"the preprocessing {name} gives values from {low:.4g} to {high:.4g} for a photo with"
            " black and white in it, which few networks are trained with; are its mean and std"
            " those of another range, or is it divided by 255 twice, or not at all?",
            about="preprocess",
        )
    return CustomPreprocess(
        name=name,
        function=function,
        shape=tensors[0].shape,
        values=(low, high) if high > low else (low, low + 1.0),
        digest=_digest(tensors),
    )


def name_of(transform: object) -> str:
    """What to call a transform: the name of a function, else of its class."""
    own = getattr(transform, "__qualname__", None) or type(transform).__qualname__
    return str(own).rpartition("<locals>.")[2]


def resolve(found: object, *, name: str) -> object:
    """The transform that an object stands for: what makes one is called without arguments.

    Such are a class, `weights.transforms` without its parentheses, and a function that takes
    nothing, or only what has a default.

    Raises:
        PreprocessError: It is a class that needs arguments, or fails.
    """
    maker = found.func if isinstance(found, functools.partial) else found
    if not (isinstance(maker, type) or inspect.isfunction(found)):
        return found
    try:
        parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):  # not written in Python
        return found
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in _VARIABLE]
    if isinstance(maker, type) and needed:
        raise PreprocessError(
            f"{name} is a class that needs {', '.join(needed)}; name an object of it, or a function"
            " without arguments that makes one"
        )
    if needed or any(p.kind in _VARIABLE for p in parameters):
        return found
    try:
        return found()  # type: ignore[operator]
    except Exception as error:
        if parameters and not isinstance(maker, type):  # the image has a default, too
            return found
        raise PreprocessError(
            f"calling {name}() failed: {first_line(error, named=True)}"
        ) from error


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _accepted(transform: Any, photo: Pixels, name: str) -> tuple[str, Call]:
    """What the transform takes, in words, and a way to call it with pixels.

    Raises:
        PreprocessError: It takes nothing that can be given to it.
    """
    failures: dict[str, str] = {}  # each reason, and the first way that had it
    untouched: PreprocessError | None = None
    for takes, call in _ways(transform):
        try:
            with quiet_libraries():
                output = call(photo)
        except Exception as error:
            failures.setdefault(first_line(error, named=True), takes)
            continue
        if not _is_still_image(output):
            return takes, call
        # Transforms of tensors pass over what is none, and give it back.
        untouched = untouched or _refusal(output, name)
    if untouched is not None:
        raise untouched
    reasons = "; ".join(f"given {takes}, {reason}" for reason, takes in failures.items())
    raise PreprocessError(
        f"the preprocessing {name} fails on a photo of {photo.shape[1]}x{photo.shape[0]} pixels:"
        f" {reasons}. It is called with one image that is read already (never a path), and nothing"
        f" else; {_EXPECTED}"
    )


def _is_still_image(output: object) -> bool:
    """Whether it is a PIL image, or uint8 (H, W, 3), as what it was made of."""
    if isinstance(output, np.ndarray):
        return output.dtype == np.uint8 and output.ndim == 3 and output.shape[2] == 3
    return isinstance(output, Image.Image)


def _refusal(output: object, name: str) -> PreprocessError:
    try:
        _tensor(output, name)
    except PreprocessError as error:
        return error
    raise AssertionError("an image is no float tensor")


def _ways(transform: Any) -> Iterator[tuple[str, Call]]:
    """The ways to call it, the most usual first."""
    libraries = {cls.__module__.split(".")[0] for cls in type(transform).__mro__}
    if "albumentations" in libraries:
        yield "image= an RGB array", lambda pixels: _channels_first(transform(image=pixels.copy()))
        return
    if "transformers" in libraries:
        yield (
            "a PIL image",
            lambda pixels: transform(Image.fromarray(pixels), return_tensors="np"),
        )
    steps = list(transform) if isinstance(transform, list | tuple) else [transform]

    def call(image: Any) -> Any:
        for step in steps:
            image = step(image)
        return image

    yield "a PIL image in RGB", lambda pixels: call(Image.fromarray(pixels))
    yield "an RGB array (H, W, 3) of uint8, not OpenCV's BGR", lambda pixels: call(pixels.copy())
    import torch

    def tensor(pixels: Pixels) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)))

    yield "an RGB tensor (3, H, W) of uint8", lambda pixels: call(tensor(pixels))
    yield (
        "an RGB tensor (3, H, W) of floats from 0 to 1",
        lambda pixels: call(tensor(pixels).float() / 255),
    )


def _channels_first(output: Any) -> Any:
    """Albumentations' result, whose arrays have the channels last."""
    found = output["image"]
    if isinstance(found, np.ndarray):
        return np.moveaxis(found, 2, 0) if found.ndim == 3 else found[None]
    return found


def _tensor(output: Any, name: str) -> Tensor:
    """What the code gave, as float32 (C, h, w).

    Raises:
        PreprocessError: It is something else.
    """
    if isinstance(output, Mapping):
        output = next((output[key] for key in _OUTPUTS if key in output), output)
    if isinstance(output, list | tuple) and len(output) == 1:
        output = output[0]
    detach = getattr(output, "detach", None)
    if callable(detach):  # a tensor of torch's
        output = detach().cpu()
        output = output.float() if output.is_floating_point() else output
    if isinstance(output, Image.Image | Mapping | list | tuple):
        kind = f"a {type(output).__name__}"
        hint = "end it with ToTensor()" if isinstance(output, Image.Image) else ""
        raise _unusable(name, kind, hint)
    array = np.asarray(output)
    shape = tuple(array.shape)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 4:
        raise _unusable(name, f"{len(array)} tensors {shape}", "average or choose among its crops")
    if array.ndim != 3 or array.dtype.kind not in "fbiu":
        kind = f"an array of {array.dtype} of shape {shape}"
        hint = "a single plane needs its channel: [None]" if array.ndim == 2 else ""
        raise _unusable(name, kind, hint)
    if array.shape[0] not in _COLOURS and array.shape[2] in _COLOURS:
        hint = "put the channels first: permute(2, 0, 1), or numpy.moveaxis(array, -1, 0)"
        raise _unusable(name, f"shape {shape}", hint)
    if array.dtype.kind != "f":
        hint = "convert it as the network was trained: x / 255, or ToDtype(float32, scale=True)"
        raise _unusable(name, f"an array of {array.dtype}, shape {shape}", hint)
    return np.array(array, np.float32, order="C")  # a copy: the code may give one buffer each time


def _unusable(name: str, what: str, hint: str) -> PreprocessError:
    return PreprocessError(
        f"the preprocessing {name} gave {what}; {_EXPECTED}{f' ({hint})' if hint else ''}"
    )


def _check_shapes(tensors: Sequence[Tensor], name: str) -> None:
    """Stop where the size of the tensor depends on the image's."""
    shapes = [tensor.shape for tensor in tensors]
    if len(set(shapes)) > 1:
        gave = ", ".join(
            f"{shape} for {width}x{height}"
            for shape, (height, width) in zip(shapes, _SHAPES, strict=True)
        )
        raise PreprocessError(
            f"the preprocessing {name} gives tensors of different sizes for images of different"
            f" shapes: {gave}; expected a CenterCrop, or a Resize to (height, width), which changes"
            " nothing where images have that size already"
        )


def _check_repeatable(
    function: Callable[[Pixels], Tensor],
    photos: Sequence[Pixels],
    tensors: Sequence[Tensor],
    name: str,
) -> None:
    """Stop where a photo's tensor is another one when it is asked for again."""
    for photo, tensor in zip(photos, tensors, strict=True):
        for _ in range(_TIMES - 1):
            if not np.array_equal(function(photo), tensor, equal_nan=True):
                raise _random(name, "its tensors for the same image differ from call to call")


def _check_not_random(transform: object, name: str) -> None:
    """Stop where a step is applied with a probability."""
    for step in _steps(transform):
        chance = getattr(step, "p", None)
        if isinstance(chance, float) and 0 < chance < 1:
            raise _random(name, f"{name_of(step)} is applied with a probability of {chance:g}")


def _steps(transform: object, depth: int = 3) -> Iterator[object]:
    """A transform and those that it holds."""
    yield transform
    inside = getattr(transform, "transforms", None)
    if depth and isinstance(inside, list | tuple):
        for step in inside:
            yield from _steps(step, depth - 1)


def _random(name: str, how: str) -> PreprocessError:
    return PreprocessError(
        f"the preprocessing {name} is random ({how}), so the label would change from call to call;"
        " pass the transform of validation, not of training"
    )


def _digest(tensors: Sequence[Tensor]) -> str:
    """What tells the code from other code: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.round(tensor, _DIGITS).tobytes())
    return digest.hexdigest()[:16]
