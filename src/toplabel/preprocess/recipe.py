"""Preprocess: pixels in, tensor out, exactly as the model was trained to see them.

A recipe always comes with the weights or from the user, never from a default.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from toplabel.errors import ImageError, PreprocessError
from toplabel.preprocess import recipe_fields
from toplabel.preprocess.normalise import Arithmetic, lookup_tables, normalise
from toplabel.preprocess.resample import pad_to_window, resize_and_crop, to_grey
from toplabel.preprocess.sizes import Convention, crop_window, fitted_size
from toplabel.preprocess.window import Interpolation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path  # at run time it would cost 5 ms of every start

    from numpy.typing import NDArray

ResizeMode = Literal["shortest", "longest", "squash", "none"]

_ARITHMETIC: dict[Convention, Arithmetic] = {
    "torchvision": "divide",
    "timm": "divide",
    "hf": "multiply64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """What is done to a picture before a model sees it: resize, centre crop or pad, normalise.

    All sizes are (height, width) in pixels. Calling it makes a tensor of a picture.

    Args:
        input_size: What the model takes: the crop, padded where the picture is smaller.
        resize_mode: `shortest`: keep the proportions and cover `resize_size`; `longest`: keep
            them and fit into it; `squash`: exactly `resize_size`; `none`: do not resize.
        resize_size: Not with `none`.
        interpolation: The filter, by Pillow's name.
        antialias: Pillow always does; false only goes with `nearest`, where it means nothing.
        channels: `rgb`, `bgr`, `grey` (brightness, as many times as `mean` is long: 1 or 3), or
            the number of channels of arrays that are no photos.
        range: What pixel values 0 and 255 become before mean and std.
        mean: One for each channel, subtracted.
        std: One for each channel, divided by.
        pad_value: One for each channel, 0 to 255; a single one stands for all.
        convention: Whose rounding of sizes and offsets.
        arithmetic: How 0..255 becomes the range, to the last bit; `convention` is as that library
            does: see `toplabel.preprocess.normalise.Arithmetic`.
        std_again: Divided by once more after `std` (EfficientNet of transformers); else empty.
        schema: The version of this list of fields.

    Raises:
        PreprocessError: A field makes no sense; it says which, what was got, what is accepted.
    """

    input_size: tuple[int, int]
    resize_mode: ResizeMode = "shortest"
    resize_size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    channels: Literal["rgb", "bgr", "grey"] | int = "rgb"
    range: tuple[float, float] = (0, 1)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad_value: tuple[int, ...] = (0, 0, 0)
    convention: Convention = "torchvision"
    arithmetic: Arithmetic | Literal["convention"] = "convention"
    std_again: tuple[float, ...] = ()
    schema: int = 1

    def __post_init__(self) -> None:
        checked = recipe_fields.checked_fields({name: getattr(self, name) for name in _names()})
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def num_channels(self) -> int:
        """C, the channels of the tensor."""
        return len(self.mean)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an upright picture of this size is resized to."""
        if self.resize_mode == "none" or self.resize_size is None:
            return height, width
        if self.resize_mode == "squash":
            return self.resize_size
        cover = self.resize_mode == "shortest"
        return fitted_size((height, width), self.resize_size, self.convention, cover=cover)

    def resize_and_crop(
        self,
        pixels: NDArray[np.uint8],
        *,
        original_size: tuple[int, int] | None = None,
        scale: int = 1,
        max_pixels: int | None = None,
    ) -> NDArray[np.uint8]:
        """What the model sees, before it is normalised: uint8 (h, w, C), of `input_size`.

        C is 1 for `grey`; else the channels are the model's, in its order.

        Args:
            pixels: uint8 (H, W, 3), upright RGB; (H, W, C) where `channels` is a number.
            original_size: (height, width) of the picture where `pixels` are a scaled decode of it.
            scale: Of that decode: each of `pixels` stands for `scale` x `scale` of the picture.
            max_pixels: Limit for the resized picture.

        Raises:
            ImageError: `too_large` beyond the limit; `wrong_size` for another number of channels.
        """
        planes = self._planes(pixels)
        height, width = original_size or pixels.shape[:2]
        size = self.resized_size(height, width)
        if max_pixels is not None and size[0] * size[1] > max_pixels:
            raise ImageError(
                "too_large",
                f"got {width}x{height} pixels, which this model resizes to {size[1]}x{size[0]},"
                f" beyond the limit of {max_pixels} pixels; crop it, or raise the limit",
            )
        window = crop_window(size, self.input_size, self.convention)
        crop = resize_and_crop(
            planes,
            size=size,
            window=window,
            interpolation=self.interpolation,
            extent=None if scale == 1 else (height / scale, width / scale),
        )
        if self.channels == "bgr":
            crop = crop[..., ::-1]
        return pad_to_window(crop, window=window, pad_value=self.pad_value[: crop.shape[2]])

    def normalise(
        self, crops: NDArray[np.uint8], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The tensor of what `resize_and_crop` gave: float32 (C, h, w), in `out` where given."""
        tables = lookup_tables(
            limits=self.range,
            mean=self.mean,
            std=self.std,
            std_again=self.std_again,
            arithmetic=(
                _ARITHMETIC[self.convention] if self.arithmetic == "convention" else self.arithmetic
            ),
        )
        return normalise(crops, tables, out)

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        *,
        original_size: tuple[int, int] | None = None,
        scale: int = 1,
        max_pixels: int | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The tensor of a picture: float32 (C, h, w), equal to the bit to the library's own.

        Args:
            pixels: As `resize_and_crop` takes them.
            original_size: As there.
            scale: As there.
            max_pixels: As there.
            out: A slot of the batch, float32 (C, h, w), which is filled and returned.

        Raises:
            ImageError: As `resize_and_crop`.
        """
        crops = self.resize_and_crop(
            pixels, original_size=original_size, scale=scale, max_pixels=max_pixels
        )
        return self.normalise(crops, out=out)

    def _planes(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The channels that are resized: uint8 (H, W, 3), (H, W, 1) or (H, W, C)."""
        wanted = self.channels if isinstance(self.channels, int) else 3
        found = pixels.shape[2] if pixels.ndim == 3 else 1
        if found == 1 and self.channels == "grey":
            return pixels.reshape(*pixels.shape[:2], 1)
        if found != wanted:
            raise ImageError(
                "wrong_size", f"got pixels of {found} channels; the model expects {wanted}"
            )
        pixels = pixels.reshape(*pixels.shape[:2], found)
        return to_grey(pixels) if self.channels == "grey" else pixels

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data for JSON; fields that few need are left out at their default."""
        plain: dict[str, Any] = {"schema": self.schema}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _RARE and value == field.default:
                continue
            plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Preprocess:
        """The recipe that `to_dict` gave, or one written by hand.

        Raises:
            PreprocessError: A key is unknown or missing, or a value makes no sense.
        """
        required = [field.name for field in fields(cls) if field.default is MISSING]
        recipe_fields.check_keys(plain, known=_names(), required=required)
        return cls(**plain)

    def to_json(self) -> str:
        """The recipe as a JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """The recipe that a JSON object says.

        Raises:
            PreprocessError: It is no JSON object, or as `from_dict`.
        """
        return cls.from_dict(recipe_fields.parse_object(text))


_RARE = frozenset({"arithmetic", "std_again"})


def _names() -> list[str]:
    return [field.name for field in fields(Preprocess)]


def read_preprocess(path: str | Path) -> Preprocess:
    """The recipe in a JSON file.

    Raises:
        PreprocessError: The file cannot be read, or says no recipe.
    """
    try:
        return Preprocess.from_json(recipe_fields.read_text(path))
    except PreprocessError as error:
        raise PreprocessError(f"in {str(path)!r}: {error}") from error
