"""Prepared tensors as people have them in, one checked batch (N, C, H, W) out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.errors import UsageError
from toplabel.image.reading import is_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.preprocess.custom import AnyPreprocess

_KEYS = ("pixel_values", "image", "images", "input")  # of batches that are dicts
_BEYOND = 0.5  # of the span of prepared values: what resizing after the normalisation may add
_FAR_BEYOND = 10.0  # from which on they are surely something else, such as 0 to 255


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """Inputs of a network.

    Args:
        tensors: float32 (N, C, H, W).
        single: One was given, without the dimension of a batch.
        warning: What is odd about their values; "" where nothing is.
    """

    tensors: NDArray[np.float32]
    single: bool
    warning: str = ""


def prepared_batch(given: object, preprocess: AnyPreprocess) -> PreparedBatch:
    """The batch, after checks of its type, shape and values.

    Args:
        given: As `Predictor.predict_tensor` takes it.
        preprocess: The model's own, which says what shape and values its input has.

    Raises:
        UsageError: It is no such batch; says what was got and what is accepted.
    """
    array = _array(given)
    shape = (preprocess.num_channels, *preprocess.input_size)
    single = array.ndim == 3
    if array.ndim not in (3, 4) or array.shape[-3:] != shape:
        last = array.ndim in (3, 4) and array.shape[-3:] == (*shape[1:], shape[0])
        hint = "; put the channels first: permute(0, 3, 1, 2)" if last else ""
        raise UsageError(
            f"got a tensor of shape {tuple(array.shape)}; expected (N, {shape[0]}, {shape[1]},"
            f" {shape[2]}), or {shape} for one image{hint}"
        )
    if array.dtype.kind != "f":
        raise UsageError(
            f"got a tensor of {array.dtype}; expected float32, prepared as the network was trained;"
            " pass images that are not prepared to the model itself: model(image)"
        )
    tensors = np.ascontiguousarray(array[None] if single else array, np.float32)
    return PreparedBatch(tensors, single, _check_values(tensors, preprocess))


def _array(given: object) -> NDArray[Any]:
    """The images' tensor as an array, out of what a DataLoader or a Dataset gives."""
    if isinstance(given, Mapping):
        found = next((given[key] for key in _KEYS if key in given), None)
        if found is None:
            raise UsageError(
                f"got a dict with {', '.join(map(str, given)) or 'nothing in it'}; expected"
                f" {' or '.join(_KEYS)} among its keys"
            )
        return _array(found)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes) and given:
        if all(_is_array(one) and one.ndim == 3 for one in given):
            return np.stack([_array(one) for one in given])
        return _array(given[0])  # (images, targets)
    if is_tensor(given):
        tensor: Any = given
        tensor = tensor.detach().cpu()
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    if isinstance(given, np.ndarray):
        return given
    raise UsageError(
        f"got {type(given).__name__}; expected a float32 tensor or array (N, C, H, W), or a"
        " DataLoader's batch (images, targets); images that are not prepared go to the model"
        " itself: model(image)"
    )


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def _check_values(tensors: NDArray[np.float32], preprocess: AnyPreprocess) -> str:
    """What is odd about the values, in words; those that are not finite are not looked at.

    Raises:
        UsageError: They are surely not prepared.
    """
    ends = np.array([0, 255], np.uint8).reshape(1, 2, 1)
    limits = preprocess.normalise(np.repeat(ends, preprocess.num_channels, axis=2))
    low, high = float(limits.min()), float(limits.max())
    finite = tensors[np.isfinite(tensors)]
    if not finite.size:
        return ""
    least, most, span = float(finite.min()), float(finite.max()), high - low
    got = f"got values from {least:.4g} to {most:.4g}; the model's preprocessing gives {low:.4g} to"
    got += f" {high:.4g}"
    beyond = max(low - least, most - high)
    if beyond > _FAR_BEYOND * span:
        raise UsageError(
            f"{got}: the tensor is not prepared; scale and normalise it, or pass images to the"
            " model itself: model(image)"
        )
    if beyond > _BEYOND * span:
        return f"{got}: is the tensor prepared in another way, or twice?"
    if low < -_BEYOND and least >= 0 and most <= 1:
        return f"{got}: is the tensor scaled, but not normalised?"
    return ""
