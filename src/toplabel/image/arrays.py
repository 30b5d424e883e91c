"""Arrays: NumPy arrays and torch tensors in, pixels out; torch is recognised, never imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toplabel.errors import ImageError
from toplabel.image.decoded_image import DecodedImage, Pixels, check_pixels
from toplabel.image.failures import from_decoder
from toplabel.image.options import ReadOptions
from toplabel.image.ranges import OVERSHOOT, invisible, nearly_black, overshoot, unfilled

_SHAPES = "(H, W, 3), (H, W), (H, W, 1) or (H, W, 4)"


def image_of_array(array: NDArray[Any], *, options: ReadOptions) -> DecodedImage:
    """A NumPy array as an image.

    Args:
        array: (H, W, 3) RGB, (H, W) or (H, W, 1) grey, (H, W, 4) RGB and alpha, composited on
            white; a batch of one of these; other channel counts pass through. uint8 0..255,
            uint16 0..65535, bool, or floats 0..1, which may overshoot by a rounding error.
        options: With `bgr` the channels are blue, green, red; arrays of `channels` channels pass
            through unchanged.

    Raises:
        ImageError: `wrong_size` for another shape, `unsupported_format` for other values,
            `non_finite`, `too_large`.
    """
    try:
        array = _channels_last(np.asarray(array))
        check_pixels(array.shape[0], array.shape[1], max_pixels=options.max_pixels)
        pixels, warnings = _bytes(array)
        if pixels.shape[2] != options.channels:
            warnings += _doubts(pixels) if not warnings else ()
            pixels = _rgb(pixels, bgr=options.bgr)
    except Exception as error:
        raise from_decoder(error, format_name="array") from error
    pixels = np.ascontiguousarray(pixels)
    return DecodedImage(pixels, pixels.shape[0], pixels.shape[1], warnings=warnings)


def image_of_tensor(tensor: Any, *, options: ReadOptions) -> DecodedImage:
    """A torch tensor of shape (3, H, W) or (1, 3, H, W) as an image; values as for arrays.

    Raises:
        ImageError: As `image_of_array`.
    """
    try:
        array = _array_of_tensor(tensor)
    except ImageError:
        raise
    except Exception as error:  # quantized, sparse, meta and whatever else torch thinks of
        raise ImageError(
            "unsupported_format",
            f"this tensor cannot be converted to an array ({error}); expected a dense uint8 or"
            " float tensor of shape (3, H, W)",
        ) from error
    return image_of_array(array, options=options)


def _array_of_tensor(tensor: Any) -> NDArray[Any]:
    """(H, W, C) or (H, W) of a (C, H, W), (1, C, H, W) or (H, W) tensor."""
    tensor = tensor.detach().cpu()
    if "bfloat16" in str(tensor.dtype):  # NumPy has none
        tensor = tensor.float()
    array: NDArray[Any] = np.asarray(tensor.numpy())
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3:
        if array.shape[2] in (1, 3, 4) and array.shape[0] > 4:
            raise ImageError(
                "wrong_size",
                f"got a tensor of shape {tuple(array.shape)}; expected (3, H, W); use"
                " tensor.permute(2, 0, 1)",
            )
        return np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        return array
    raise ImageError(
        "wrong_size",
        f"got a tensor of shape {tuple(tensor.shape)}; expected (3, H, W) or (1, 3, H, W);"
        " pass the images of a batch one by one",
    )


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W, C), or an error that names what is wrong with the shape."""
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise ImageError(
            "wrong_size",
            f"got an array of shape {shape}; expected {_SHAPES}; pass the images of a batch"
            " one by one",
        )
    if 0 in array.shape:
        raise ImageError("empty", f"got an array of shape {shape}; it has no pixels")
    if array.shape[0] in (1, 3) and array.shape[2] > 4 and array.shape[1] > 4:
        raise ImageError(
            "wrong_size",
            f"got an array of shape {shape}; expected {_SHAPES}, with the channels last; use"
            " numpy.moveaxis(array, 0, -1)",
        )
    return array


def _bytes(array: NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    """Samples as 0..255, scaled, never clipped; and what is doubtful about their range."""
    if array.dtype == np.uint8:
        return array, ()
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), ()
    if array.dtype == np.uint16:
        colours = array[:, :, :3] if array.shape[2] == 4 else array
        scaled = np.asarray((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return scaled, unfilled(float(colours.max()), 65_535)
    if array.dtype.kind == "f":
        return _float_bytes(array)
    raise ImageError(
        "unsupported_format",
        f"got an array of {array.dtype}; expected uint8 (0 to 255), uint16 (0 to 65535) or floats"
        " (0 to 1); use array.astype(numpy.uint8) if its values are 0 to 255",
    )


def _float_bytes(array: NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("non_finite", "some values are NaN or infinite; expected 0 to 1")
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        hint = "pass them before normalization"
        if low >= 0 and high <= 255:
            hint = "divide them by 255" if high > 2 else "scale them to that range"
        raise ImageError(
            "unsupported_format",
            f"got floats from {low:g} to {high:g}; expected 0 to 1; {hint}",
        )
    if low < 0 or high > 1:
        array = array.clip(0, 1)
    scaled: Pixels = np.rint(array * array.dtype.type(255)).astype(np.uint8)
    return scaled, overshoot(low, high) or unfilled(high, 1)


def _doubts(pixels: Pixels) -> tuple[str, ...]:
    """What is doubtful about an image of 8 bits: nothing to be seen, or next to nothing."""
    channels = pixels.shape[2]
    if channels not in (1, 3, 4):
        return ()
    if channels == 4 and invisible(float(pixels[len(pixels) // 2, :, 3].max())):
        found = invisible(float(pixels[:, :, 3].max()))
        if found:
            return found
    return nearly_black(pixels[:, :, :3])


def _rgb(array: Pixels, *, bgr: bool) -> Pixels:
    """(H, W, 3) RGB of 1, 3 and 4 channels; others as they are. C-contiguous."""
    channels = array.shape[2]
    if bgr and channels in (3, 4):
        array = array[:, :, (2, 1, 0, 3)[:channels]]
    if channels == 1:
        array = np.repeat(array, 3, axis=2)
    elif channels == 4:
        colour, alpha = array[:, :, :3].astype(np.uint16), array[:, :, 3:].astype(np.uint16)
        array = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(array)
