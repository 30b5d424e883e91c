"""A torchvision transform (v1 or v2, with timm's additions) in, the same as a `Preprocess` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from toplabel.errors import PreprocessError
from toplabel.models.transforms.verify import verify
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(slots=True)
class Draft:
    """What the operations read so far do: fields of a `Preprocess`.

    `stage` is what the image is by then: "image" (Pillow), "uint8" or "float" (a tensor), or
    "normalised".
    """

    stage: str = "image"
    fields: dict[str, Any] = field(default_factory=dict)


def from_transform(transform: Any) -> Preprocess:
    """The same as an evaluation transform, compared to the bit on drawn photos.

    Args:
        transform: A preset (`weights.transforms()`), `Compose` of v1 or v2, `nn.Sequential`, one
            operation, or a list of them.

    Raises:
        PreprocessError: An operation is not supported, by itself or at its place; it is named.
    """
    draft = Draft()
    for operation in _flatten(transform):
        _read_operation(operation, draft)
    return verify(_finish(draft), _caller(transform), name=type(transform).__name__)


def _flatten(transform: Any) -> Iterator[Any]:
    """The operations, one after the other, out of whatever holds them."""
    if isinstance(transform, list | tuple | torch.nn.Sequential):
        parts: Sequence[Any] = list(transform)
    elif _class_name(transform) == "Compose":
        parts = transform.transforms
    else:
        yield transform
        return
    for part in parts:
        yield from _flatten(part)


def _caller(transform: Any) -> Callable[[Image.Image], NDArray[np.float32]]:
    """The transform as a function from a Pillow image to float32 (C, h, w)."""
    operations = list(_flatten(transform))
    takes_arrays = _class_name(operations[0]) == "ToPILImage"

    def call(image: Image.Image) -> NDArray[np.float32]:
        import numpy as np

        state: Any = np.asarray(image) if takes_arrays else image
        for operation in operations:
            state = operation(state)
        tensor: NDArray[np.float32] = torch.as_tensor(state).numpy()
        return tensor

    return call


def _finish(draft: Draft) -> Preprocess:
    """The preprocessing, or what is missing for it."""
    fields = draft.fields
    if draft.stage not in ("float", "normalised"):
        raise PreprocessError(
            "the transform ends before the image is a float tensor; expected ToTensor, or"
            " PILToTensor or ToImage and then ConvertImageDtype or ToDtype(torch.float32)"
        )
    fields.setdefault("resize_mode", "none")
    if "input_size" not in fields:
        if fields["resize_mode"] != "squash":
            raise PreprocessError(
                "the transform gives tensors of different sizes for images of different shapes;"
                " expected a CenterCrop, or a Resize to (height, width), which changes nothing"
                " where images have that size already"
            )
        fields["input_size"] = fields["resize_size"]
    count = fields.pop("copies", 3)
    for name, default in (("mean", 0.0), ("std", 1.0)):
        numbers = fields.get(name, (default,))
        fields[name] = numbers * count if len(numbers) == 1 else numbers
    if fields["arithmetic"] == "divide":
        del fields["arithmetic"]  # as the convention does
    return Preprocess(**fields)


def _class_name(operation: Any) -> str:
    """The bare name of its class."""
    return type(operation).__name__


def _read_operation(operation: Any, draft: Draft) -> None:
    """Note in the draft what an operation does.

    Raises:
        PreprocessError: It is not supported, by itself or at its place.
    """
    library = type(operation).__module__.split(".")[0]  # of a class whose name says what it does
    if _converts_to_rgb(operation) and draft.stage == "image":
        return  # the image is RGB already, or what was made of it
    known = library in ("torchvision", "timm", "torch")
    reader = _READERS.get(_class_name(operation)) if known else None
    if reader is None:
        raise PreprocessError(
            f"the operation {_describe(operation)} is not supported; supported are"
            f" {', '.join(sorted(_READERS))}. Use the evaluation transform, not the training one,"
            " or write the preprocessing as a JSON file"
        )
    reader(operation, draft)


def _converts_to_rgb(operation: Any) -> bool:
    """Whether it is `image.convert("RGB")` and nothing else, a function or `Lambda` of one."""
    code = getattr(getattr(operation, "lambd", operation), "__code__", None)
    if code is None or code.co_names != ("convert",) or code.co_argcount != 1 or code.co_freevars:
        return False
    documentation = getattr(getattr(operation, "lambd", operation), "__doc__", None)
    return [c for c in code.co_consts if c not in (None, documentation)] == ["RGB"]


def _describe(operation: Any) -> str:
    text = " ".join(repr(operation).split())
    return text if len(text) <= 80 else _class_name(operation)


def _refuse(operation: Any, why: str) -> PreprocessError:
    return PreprocessError(f"the operation {_describe(operation)} is not supported here: {why}")


def _set(draft: Draft, operation: Any, **fields: Any) -> None:
    """Note what an operation does; a second one of its kind cannot be expressed."""
    if not draft.fields.keys().isdisjoint(fields):
        raise _refuse(operation, "there is already one of its kind before it")
    draft.fields.update(fields)


def _read_preset(operation: Any, draft: Draft) -> None:
    """`ImageClassification`, which is five operations in one."""
    _need_image(operation, draft)
    side, crop = operation.resize_size, operation.crop_size
    _set(
        draft,
        operation,
        resize_mode="shortest",
        resize_size=(side[0], side[-1]),
        interpolation=_interpolation(operation),
        input_size=(crop[0], crop[-1]),
        mean=_numbers(operation.mean),
        std=_numbers(operation.std),
        arithmetic="divide",
    )
    draft.stage = "normalised"


def _need_image(operation: Any, draft: Draft) -> None:
    if draft.stage != "image":
        raise _refuse(
            operation,
            "it comes after the conversion to a tensor, and tensors are resized by another"
            " arithmetic than images (their values differ by a few steps of 255); put it before"
            " ToTensor, PILToTensor or ToImage if that is how the model was trained",
        )
    if "input_size" in draft.fields:
        raise _refuse(operation, "it comes after the crop")


def _read_resize(operation: Any, draft: Draft) -> None:
    _need_image(operation, draft)
    size, limit = operation.size, operation.max_size
    sides = [size] if isinstance(size, int) else size
    if sides is None:
        mode, sides = "longest", [limit]
    elif limit is not None:
        raise _refuse(operation, "max_size beside size is not supported")
    else:
        mode = "shortest" if len(sides) == 1 else "squash"
    _set(
        draft,
        operation,
        resize_mode=mode,
        resize_size=(sides[0], sides[-1]),
        interpolation=_interpolation(operation),
    )


def _read_keep_ratio(operation: Any, draft: Draft) -> None:
    """As timm has it: `ResizeKeepRatio`."""
    _need_image(operation, draft)
    if operation.random_scale_prob or operation.random_aspect_prob:
        raise _refuse(operation, "it is random")
    if operation.longest not in (0.0, 1.0):
        raise _refuse(operation, f"longest is {operation.longest}; expected 0 or 1")
    _set(
        draft,
        operation,
        resize_mode="longest" if operation.longest else "shortest",
        resize_size=tuple(operation.size),
        interpolation=_interpolation(operation),
        convention="timm",
    )


def _interpolation(operation: Any) -> str:
    """Pillow's name of the filter."""
    mode = operation.interpolation
    if isinstance(mode, int):
        mode = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")[mode]
    name = getattr(mode, "value", mode)
    return "nearest" if name == "nearest-exact" else name  # one and the same for images


def _read_crop(operation: Any, draft: Draft) -> None:
    size = operation.size
    sides = [size] if isinstance(size, int) else list(size)
    crop = (sides[0], sides[-1])
    if draft.stage == "normalised" and _may_pad(draft.fields, crop):
        raise _refuse(operation, "it comes after Normalize, and would pad with another value")
    fill = getattr(operation, "fill", 0)
    if getattr(operation, "padding_mode", "constant") != "constant":
        raise _refuse(operation, f"padding_mode {operation.padding_mode!r} is not supported")
    if draft.stage != "image" and fill not in (0, (0, 0, 0), [0, 0, 0]):
        raise _refuse(
            operation, "it comes after the conversion, so its fill would be in tensor values"
        )
    values = tuple(fill) if isinstance(fill, list | tuple) else (fill,)
    _set(draft, operation, input_size=crop, pad_value=values)


def _may_pad(fields: dict[str, Any], crop: tuple[int, int]) -> bool:
    """Whether an image can come out of the resize smaller than the crop."""
    if fields.get("resize_mode") not in ("shortest", "squash"):
        return True
    height, width = fields["resize_size"]
    return bool(height < crop[0] or width < crop[1])


def _read_grey(operation: Any, draft: Draft) -> None:
    if draft.stage != "image":
        raise _refuse(operation, "it comes after the conversion to a tensor")
    if "resize_size" in draft.fields:
        raise _refuse(
            operation,
            "it comes after the resize, which rounds differently than before; if that is how the"
            " model was trained, write the preprocessing as a JSON file, and expect differences of"
            " one step",
        )
    _set(draft, operation, channels="grey", copies=operation.num_output_channels)


def _read_invert(operation: Any, draft: Draft) -> None:
    """RandomInvert that always does: dark on light becomes light on dark."""
    if operation.p != 1:
        raise _refuse(operation, f"it is random: p is {operation.p:g}; expected 1")
    if draft.stage not in ("image", "uint8"):
        raise _refuse(operation, "it comes after the conversion to float")
    untouched = draft.fields.keys().isdisjoint({"resize_size", "input_size"})
    _set(draft, operation, invert="before_resize" if untouched else "after_resize")


def _read_to_tensor(operation: Any, draft: Draft) -> None:
    """ToTensor: to a tensor and divided by 255, in one."""
    if draft.stage != "image":
        raise _refuse(operation, "the image is a tensor already")
    _set(draft, operation, arithmetic="divide")
    draft.stage = "float"


def _read_to_uint8(operation: Any, draft: Draft) -> None:
    if draft.stage != "image":
        raise _refuse(operation, "the image is a tensor already")
    draft.stage = "uint8"


def _read_to_float(operation: Any, draft: Draft) -> None:
    """ConvertImageDtype of v1 and v2, and ToDtype, whose `scale` may be off."""
    if operation.dtype != torch.float32:
        raise _refuse(operation, "only torch.float32 is supported")
    if draft.stage == "float":
        return  # nothing is left to convert
    if draft.stage != "uint8":
        raise _refuse(operation, "the image is not a tensor yet")
    second_version = ".v2." in f"{type(operation).__module__}."
    _set(draft, operation, arithmetic="multiply" if second_version else "divide")
    if not getattr(operation, "scale", True):
        _set(draft, operation, range=(0, 255))
    draft.stage = "float"


def _read_normalize(operation: Any, draft: Draft) -> None:
    if draft.stage != "float":
        raise _refuse(operation, "it does not come right after the conversion to float")
    _set(draft, operation, mean=_numbers(operation.mean), std=_numbers(operation.std))
    draft.stage = "normalised"


def _numbers(values: Any) -> tuple[float, ...]:
    """Floats of a tensor, a list or one number; of float32 the shortest with the same bits."""
    if isinstance(values, torch.Tensor) and values.dtype == torch.float32:
        return tuple(float(str(number)) for number in values.reshape(-1).numpy())
    return tuple(torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist())


def _read_nothing(operation: Any, draft: Draft) -> None:
    """An operation that changes no RGB photo."""


def _read_to_image(operation: Any, draft: Draft) -> None:
    if draft.stage != "image" or draft.fields:
        raise _refuse(operation, "it is only supported as the first operation")


_READERS: dict[str, Callable[[Any, Draft], None]] = {
    "ImageClassification": _read_preset,
    "Resize": _read_resize,
    "ResizeKeepRatio": _read_keep_ratio,
    "CenterCrop": _read_crop,
    "CenterCropOrPad": _read_crop,
    "Grayscale": _read_grey,
    "ToTensor": _read_to_tensor,
    "MaybeToTensor": _read_to_tensor,
    "PILToTensor": _read_to_uint8,
    "MaybePILToTensor": _read_to_uint8,
    "ToImage": _read_to_uint8,
    "ConvertImageDtype": _read_to_float,
    "ToDtype": _read_to_float,
    "Normalize": _read_normalize,
    "RandomInvert": _read_invert,
    "ToPILImage": _read_to_image,
    "Identity": _read_nothing,
    "RGB": _read_nothing,
    "ToPureTensor": _read_nothing,
}
