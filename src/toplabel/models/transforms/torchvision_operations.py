"""Operations of torchvision and timm, one after the other, noted in a draft of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from toplabel.errors import PreprocessError


@dataclass(slots=True)
class Draft:
    """A recipe as far as the operations read so far have said it.

    `stage` is what the picture is by then: "picture" (Pillow), "uint8" or "float" (a tensor), or
    "normalised".
    """

    stage: str = "picture"
    fields: dict[str, Any] = field(default_factory=dict)


def class_name(operation: Any) -> str:
    """The bare name of its class."""
    return type(operation).__name__


def _is_of_libraries(operation: Any) -> bool:
    """A class of torchvision or timm itself, so that its name says what it does."""
    return type(operation).__module__.split(".")[0] in ("torchvision", "timm", "torch")


def read_operation(operation: Any, draft: Draft) -> None:
    """Note in the draft what an operation does.

    Raises:
        PreprocessError: It has no recipe, by itself or at its place.
    """
    reader = _READERS.get(class_name(operation)) if _is_of_libraries(operation) else None
    if reader is None:
        raise PreprocessError(
            f"the operation {_describe(operation)} has no recipe; known are"
            f" {', '.join(sorted(_READERS))}. Use the evaluation transform, not the training one,"
            " or state the recipe as JSON"
        )
    reader(operation, draft)


def _describe(operation: Any) -> str:
    text = " ".join(repr(operation).split())
    return text if len(text) <= 80 else class_name(operation)


def _refuse(operation: Any, why: str) -> PreprocessError:
    return PreprocessError(f"the operation {_describe(operation)} has no recipe here: {why}")


def _set(draft: Draft, operation: Any, **said: Any) -> None:
    """Note what an operation says; a second one of its kind cannot be said."""
    if not draft.fields.keys().isdisjoint(said):
        raise _refuse(operation, "there is already one of its kind before it")
    draft.fields.update(said)


def _read_preset(operation: Any, draft: Draft) -> None:
    """`ImageClassification`, which is five operations in one."""
    _need_picture(operation, draft)
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


def _need_picture(operation: Any, draft: Draft) -> None:
    if draft.stage != "picture":
        raise _refuse(
            operation,
            "it comes after the conversion to a tensor, and tensors are resized by another"
            " arithmetic than pictures (their values differ by a few steps of 255); put it before"
            " ToTensor, PILToTensor or ToImage if that is how the model was trained",
        )
    if "input_size" in draft.fields:
        raise _refuse(operation, "it comes after the crop")


def _read_resize(operation: Any, draft: Draft) -> None:
    _need_picture(operation, draft)
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
    _need_picture(operation, draft)
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
    return "nearest" if name == "nearest-exact" else name  # one and the same for pictures


def _read_crop(operation: Any, draft: Draft) -> None:
    size = operation.size
    sides = [size] if isinstance(size, int) else list(size)
    crop = (sides[0], sides[-1])
    if draft.stage == "normalised" and _may_pad(draft.fields, crop):
        raise _refuse(operation, "it comes after Normalize, and would pad with another value")
    fill = getattr(operation, "fill", 0)
    if getattr(operation, "padding_mode", "constant") != "constant":
        raise _refuse(operation, f"padding_mode {operation.padding_mode!r} is not supported")
    if draft.stage != "picture" and fill not in (0, (0, 0, 0), [0, 0, 0]):
        raise _refuse(operation, "its fill would be of tensor values, after the conversion")
    values = tuple(fill) if isinstance(fill, list | tuple) else (fill,)
    _set(draft, operation, input_size=crop, pad_value=values)


def _may_pad(fields: dict[str, Any], crop: tuple[int, int]) -> bool:
    """Whether a picture can come out of the resize smaller than the crop."""
    if fields.get("resize_mode") not in ("shortest", "squash"):
        return True
    height, width = fields["resize_size"]
    return bool(height < crop[0] or width < crop[1])


def _read_grey(operation: Any, draft: Draft) -> None:
    if draft.stage != "picture":
        raise _refuse(operation, "it comes after the conversion to a tensor")
    if "resize_size" in draft.fields:
        raise _refuse(
            operation,
            "it comes after the resize, which rounds otherwise than before; if that is how the"
            " model was trained, state the recipe as JSON, and expect differences of one step",
        )
    _set(draft, operation, channels="grey", copies=operation.num_output_channels)


def _read_to_tensor(operation: Any, draft: Draft) -> None:
    """ToTensor: to a tensor and divided by 255, in one."""
    if draft.stage != "picture":
        raise _refuse(operation, "the picture is a tensor already")
    _set(draft, operation, arithmetic="divide")
    draft.stage = "float"


def _read_to_uint8(operation: Any, draft: Draft) -> None:
    if draft.stage != "picture":
        raise _refuse(operation, "the picture is a tensor already")
    draft.stage = "uint8"


def _read_to_float(operation: Any, draft: Draft) -> None:
    """ConvertImageDtype of v1 and v2, and ToDtype, whose `scale` may be off."""
    if operation.dtype != torch.float32:
        raise _refuse(operation, "only torch.float32 is supported")
    if draft.stage == "float":
        return  # nothing is left to convert
    if draft.stage != "uint8":
        raise _refuse(operation, "the picture is not a tensor yet")
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


def _read_to_picture(operation: Any, draft: Draft) -> None:
    if draft.stage != "picture" or draft.fields:
        raise _refuse(operation, "it is only understood as the first operation")


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
    "ToPILImage": _read_to_picture,
    "Identity": _read_nothing,
    "RGB": _read_nothing,
    "ToPureTensor": _read_nothing,
}
