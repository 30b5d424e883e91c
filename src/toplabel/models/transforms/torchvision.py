"""A torchvision transform (v1 or v2, with timm's additions) in, its recipe out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from toplabel.errors import PreprocessError
from toplabel.models.transforms.torchvision_operations import Draft, class_name, read_operation
from toplabel.models.transforms.verify import verify
from toplabel.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


def from_transform(transform: Any) -> Preprocess:
    """The recipe of an evaluation transform, compared to the bit on drawn photos.

    Args:
        transform: A preset (`weights.transforms()`), `Compose` of v1 or v2, `nn.Sequential`, one
            operation, or a list of them.

    Raises:
        PreprocessError: An operation has no recipe, by itself or at its place; it is named.
    """
    draft = Draft()
    for operation in _flatten(transform):
        read_operation(operation, draft)
    recipe = _finish(draft)
    return verify(recipe, _caller(transform, recipe), name=type(transform).__name__)


def _flatten(transform: Any) -> Iterator[Any]:
    """The operations, one after the other, out of whatever holds them."""
    if isinstance(transform, list | tuple | torch.nn.Sequential):
        parts: Sequence[Any] = list(transform)
    elif class_name(transform) == "Compose":
        parts = transform.transforms
    else:
        yield transform
        return
    for part in parts:
        yield from _flatten(part)


def _caller(transform: Any, recipe: Preprocess) -> Callable[[Image.Image], NDArray[np.float32]]:
    """The transform as a function from a Pillow image to float32 (C, h, w)."""
    operations = list(_flatten(transform))
    takes_arrays = class_name(operations[0]) == "ToPILImage"

    def call(image: Image.Image) -> NDArray[np.float32]:
        import numpy as np

        state: Any = np.asarray(image) if takes_arrays else image
        for operation in operations:
            state = operation(state)
        tensor: NDArray[np.float32] = torch.as_tensor(state).numpy()
        return tensor

    return call


def _finish(draft: Draft) -> Preprocess:
    """The recipe, or what is missing for one."""
    fields = draft.fields
    if draft.stage not in ("float", "normalised"):
        raise PreprocessError(
            "the transform ends before the picture is a float tensor; expected ToTensor, or"
            " PILToTensor or ToImage and then ConvertImageDtype or ToDtype(torch.float32)"
        )
    fields.setdefault("resize_mode", "none")
    if "input_size" not in fields:
        if fields["resize_mode"] != "squash":
            raise PreprocessError(
                "the transform gives tensors of another size for pictures of another shape;"
                " expected a CenterCrop, or a Resize to (height, width), which changes nothing"
                " where pictures have that size already"
            )
        fields["input_size"] = fields["resize_size"]
    count = fields.pop("copies", 3)
    for name, default in (("mean", 0.0), ("std", 1.0)):
        numbers = fields.get(name, (default,))
        fields[name] = numbers * count if len(numbers) == 1 else numbers
    if fields["arithmetic"] == "divide":
        del fields["arithmetic"]  # as the convention does
    return Preprocess(**fields)
