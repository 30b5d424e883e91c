"""Preprocess: pixels in, tensor out, exactly as the model was trained to see them.

A preprocessing always comes with the weights or from the user, never from a default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from toplabel._internal.options import suggests_names
from toplabel.errors import ImageError, PreprocessError
from toplabel.preprocess.resample import (
    Convention,
    Interpolation,
    crop_window,
    fitted_size,
    pad_to_window,
    resize_and_crop,
    to_grey,
)

if TYPE_CHECKING:
    from pathlib import Path  # at run time it would cost 5 ms of every start

    from numpy.typing import NDArray

ResizeMode = Literal["shortest", "longest", "squash", "none"]

Invert = Literal[False, "before_resize", "after_resize"]
"""Where dark becomes light, 255 - x: of the image, as `PIL.ImageOps.invert` does before the other
steps (of the brightness, where the model sees grey), or of what is resized, cropped and padded. A
resize rounds the two differently, and padding is inverted only by the second."""

Arithmetic = Literal["divide", "multiply", "multiply64"]
"""How 0..255 becomes the range: `divide` x / 255 in float32 (torchvision and timm), `multiply`
x * (1 / 255) in float32 (torchvision's v2 ToDtype), `multiply64` the same in float64, then
rounded to float32 (transformers). They differ in the last bit."""

MAX_RESIZED_PIXELS = 120_000_000
"""Largest resized image, as where 36 x 65535 pixels become 256 x 466026 before the crop."""

_ARITHMETIC: dict[Convention, Arithmetic] = {
    "torchvision": "divide",
    "timm": "divide",
    "hf": "multiply64",
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "resize_mode": get_args(ResizeMode),
    "interpolation": get_args(Interpolation),
    "convention": get_args(Convention),
    "arithmetic": ("convention", *get_args(Arithmetic)),
}
_COLOURS = ("rgb", "bgr", "grey")
_RARE = frozenset({"arithmetic", "invert", "std_again"})  # left out of JSON at their default
_LEAST_SPAN, _MOST_SPAN = 0.25, 256.0  # of the values after mean and std
_MAX_SIDE = 1 << 16
_MAX_VALUES = 64_000_000  # of a tensor: 256 MB


class RangeMismatch(PreprocessError):
    """Mean and std are those of another range of values."""


@suggests_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """What is done to an image before a model sees it: resize, centre crop or pad, normalise.

    All sizes are (height, width) in pixels. Calling it makes a tensor of an image.

    Args:
        input_size: What the model takes: the crop, padded where the image is smaller.
        resize_mode: `shortest`: keep the proportions and cover `resize_size`; `longest`: keep
            them and fit into it; `squash`: exactly `resize_size`; `none`: do not resize.
        resize_size: Not with `none`.
        interpolation: The filter, by Pillow's name.
        antialias: Pillow always does; false only goes with `nearest`, where it means nothing.
        channels: `rgb`, `bgr`, `grey` (brightness, as many times as `mean` is long: 1 or 3), or
            the number of channels of arrays that are not photos.
        range: What pixel values 0 and 255 become before mean and std.
        mean: One for each channel, subtracted.
        std: One for each channel, divided by.
        pad_value: One for each channel, 0 to 255; a single one stands for all.
        convention: Whose rounding of sizes and offsets.
        arithmetic: How 0..255 becomes the range, to the last bit; `convention` is as that library
            does: see `toplabel.preprocess.preprocess.Arithmetic`.
        invert: Dark becomes light, 255 - x: `before_resize` (or True) as `PIL.ImageOps.invert`
            does first, `after_resize` of what was resized and padded; for models of light strokes
            on dark and images of ink on paper.
        std_again: Divided by once more after `std` (EfficientNet of transformers); else empty.
        schema: The version of this list of fields.

    Raises:
        PreprocessError: A field is invalid; the message has its name and what is accepted. Mean and
            std that do not fit the range are refused, too.
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
    invert: bool | Literal["before_resize", "after_resize"] = False
    std_again: tuple[float, ...] = ()
    schema: int = 1

    def __post_init__(self) -> None:
        checked = _checked_fields({name: getattr(self, name) for name in _names()})
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def num_channels(self) -> int:
        """C, the channels of the tensor."""
        return len(self.mean)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an upright image of this size is resized to."""
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
        max_pixels: int = MAX_RESIZED_PIXELS,
    ) -> NDArray[np.uint8]:
        """What the model sees, before it is normalised: uint8 (h, w, C), of `input_size`.

        C is 1 for `grey`; else the channels are the model's, in its order.

        Args:
            pixels: uint8 (H, W, 3), upright RGB; (H, W, C) where `channels` is a number.
            original_size: (height, width) of the image where `pixels` are a scaled decode of it.
            scale: Of that decode: each of `pixels` stands for `scale` x `scale` of the image.
            max_pixels: Limit for the resized image.

        Raises:
            ImageError: `too_large` beyond the limit; `wrong_size` for another number of channels.
        """
        planes = self._planes(pixels)
        height, width = original_size or pixels.shape[:2]
        size = self.resized_size(height, width)
        if size[0] * size[1] > max_pixels:
            raise ImageError(
                "too_large",
                f"this model resizes {width} x {height} pixels to {size[1]} x {size[0]}, more than"
                f" {max_pixels:,} (max_pixels); crop the image or raise the limit",
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
        """The tensor of what `resize_and_crop` gave: float32 (C, h, w), in `out` where given.

        Every value is looked up. A model has 256 answers per channel, so that the tables have the
        library's own bits by construction. A single plane serves every channel.
        """
        tables = self.tables()
        height, width, planes = crops.shape
        if out is None:
            out = np.empty((len(tables), height, width), np.float32)
        for channel, table in enumerate(tables):
            plane = crops[..., channel if planes > 1 else 0]
            np.take(table, plane, out=out[channel], mode="clip")  # "clip" spares a buffer
        return out

    def tables(self) -> NDArray[np.float32]:
        """What `normalise` makes of each of the 256 values in each channel: float32 (C, 256)."""
        return lookup_tables(
            inverted=self.invert == "after_resize",
            limits=self.range,
            mean=self.mean,
            std=self.std,
            std_again=self.std_again,
            arithmetic=(
                _ARITHMETIC[self.convention] if self.arithmetic == "convention" else self.arithmetic
            ),
        )

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        *,
        original_size: tuple[int, int] | None = None,
        scale: int = 1,
        max_pixels: int = MAX_RESIZED_PIXELS,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The tensor of an image: float32 (C, h, w), equal to the bit to the library's own.

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
        """What is resized: uint8 (H, W, 3), (H, W, 1) or (H, W, C)."""
        planes = self._channels_of(pixels)
        return ~planes if self.invert == "before_resize" else planes  # 255 - x

    def _channels_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        wanted = self.channels if isinstance(self.channels, int) else 3
        found = pixels.shape[2] if pixels.ndim == 3 else 1
        if found == 1 and self.channels == "grey":
            return pixels.reshape(*pixels.shape[:2], 1)
        if found != wanted:
            raise ImageError(
                "wrong_size", f"got an image with {found} channels; the model expects {wanted}"
            )
        pixels = pixels.reshape(*pixels.shape[:2], found)
        return to_grey(pixels) if self.channels == "grey" else pixels

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; fields that few need are left out at their default."""
        plain: dict[str, Any] = {"schema": self.schema}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _RARE and value == field.default:
                continue
            plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Preprocess:
        """The preprocessing that `to_dict` gave, or one written by hand.

        Raises:
            PreprocessError: A key is unknown or missing, or a value is invalid.
        """
        required = [field.name for field in fields(cls) if field.default is MISSING]
        _check_keys(plain, known=_names(), required=required)
        return cls(**plain)

    def to_json(self) -> str:
        """A JSON object, which `from_json` reads."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """The preprocessing in a JSON object.

        Raises:
            PreprocessError: It is not a JSON object, or as `from_dict`.
        """
        return cls.from_dict(parse_object(text))


def _names() -> list[str]:
    return [field.name for field in fields(Preprocess)]


def read_preprocess(path: str | Path) -> Preprocess:
    """The preprocessing in a JSON file.

    Raises:
        PreprocessError: The file cannot be read, or holds no preprocessing.
    """
    try:
        return Preprocess.from_json(read_text(path))
    except PreprocessError as error:
        raise PreprocessError(f"in {str(path)!r}: {error}") from error


@lru_cache(maxsize=32)
def lookup_tables(
    *,
    inverted: bool,
    limits: tuple[float, float],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    std_again: tuple[float, ...],
    arithmetic: Arithmetic,
) -> NDArray[np.float32]:
    """What each of the 256 values becomes in each channel: float32 (C, 256), not writable."""
    values = scaled_values(limits, arithmetic)
    tables = (values - _column(mean)) / _column(std)  # (C, 256), float32 throughout
    if std_again:
        tables = tables / _column(std_again)
    if inverted:
        tables = tables[:, ::-1].copy()
    tables.flags.writeable = False
    return tables


def scaled_values(limits: tuple[float, float], arithmetic: Arithmetic) -> NDArray[np.float32]:
    """What 0 to 255 become before mean and std: float32 (256,)."""
    low, span = limits[0], limits[1] - limits[0]
    values = np.arange(256, dtype=np.float32)
    if span == 255:
        scaled = values
    elif arithmetic == "divide" and span == 1:
        scaled = values / np.float32(255)
    elif arithmetic == "multiply":
        scaled = values * np.float32(span / 255)
    else:
        scaled = (values.astype(np.float64) * (span / 255)).astype(np.float32)
    return scaled + np.float32(low) if low else scaled


def _column(numbers: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32)[:, None]


def _checked_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, each of its exact type."""
    checked = {**given, "std_again": ()}
    for name, choices in _CHOICES.items():
        value = given[name]
        valid = isinstance(value, str) and value in choices
        _require(valid, name, value, " or ".join(map(repr, choices)))
    checked["invert"] = _invert(given["invert"])
    schema = given["schema"]
    valid = type(schema) is int and schema == 1
    _require(valid, "schema", schema, "1; a newer toplabel may support others")
    _check_antialias(given["antialias"], given["interpolation"])
    checked["input_size"] = height, width = _size("input_size", given["input_size"])
    checked["resize_size"] = _resize_size(given["resize_size"], given["resize_mode"])
    checked["range"] = low, high = _numbers("range", given["range"], (2,))
    _require(low != high, "range", given["range"], "two different numbers: what 0 and 255 become")
    checked["mean"] = mean = _numbers("mean", given["mean"], _counts(given["channels"]))
    count = len(mean)
    for name in ("std", "std_again") if given["std_again"] else ("std",):
        checked[name] = divisors = _numbers(name, given[name], (count,))
        accepted = "numbers other than 0, since values are divided by them"
        _require(0 not in divisors, name, given[name], accepted)
    _check_values(mean, checked["std"], checked["std_again"], low=low, high=high)
    if count * height * width > _MAX_VALUES:
        raise PreprocessError(
            f"got an input_size of {height}x{width} with {count} channels; expected a tensor of at"
            f" most {_MAX_VALUES:,} values"
        )
    checked["pad_value"] = _pad_value(given["pad_value"], count, grey=given["channels"] == "grey")
    return checked


def _check_values(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    std_again: tuple[float, ...],
    *,
    low: float,
    high: float,
) -> None:
    """Refuse a mean and std of another range than the values have; a network would see one colour.

    A mean lies among the values, or near. What std makes of their span is at least a quarter of
    1, and at most 255, as where values of 0 to 1 are multiplied by 255 again.
    """
    span = abs(high - low)
    for channel, center in enumerate(mean):
        divisor = abs(std[channel] * (std_again[channel] if std_again else 1.0))
        if center == 0 and divisor == 1:
            continue  # the values as they are
        inside = min(low, high) - span <= center <= max(low, high) + span
        if inside and _LEAST_SPAN <= span / divisor <= _MOST_SPAN:
            continue
        ends = " and ".join(f"{(value - center) / divisor:.4g}" for value in (low, high))
        kind = "0 to 255" if max(map(abs, mean)) > 1 or max(std) > 1 else "0 to 1"
        raise RangeMismatch(
            f"got mean {list(mean)} and std {list(std)} with range [{low:g}, {high:g}], which do"
            f" not fit: black and white would become {ends}. They look like those of values from"
            f" {kind}: give range, mean and std of one kind, such as range [0, 255] with a mean of"
            " 123.675, or range [0, 1] with 0.485"
        )


def _check_keys(plain: object, *, known: Sequence[str], required: Sequence[str]) -> None:
    """Refuse unknown and missing keys."""
    if not isinstance(plain, Mapping):
        raise PreprocessError(
            f"got {type(plain).__name__} as preprocessing; expected a JSON object"
        )
    for key in plain:
        if key not in known:
            raise PreprocessError(
                f"unknown key {key!r} in the preprocessing; {_advice(key, known)}"
            )
    for key in required:
        if key not in plain:
            raise PreprocessError(
                f"the preprocessing has no {key!r}; required are {', '.join(required)}, with the"
                " values used in training"
            )


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        PreprocessError: It is not one.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PreprocessError(f"the preprocessing is not valid JSON: {error}") from error
    if not isinstance(plain, dict):
        raise PreprocessError(
            f"got {type(plain).__name__} as preprocessing; expected a JSON object"
        )
    return plain


def read_text(path: str | Path) -> str:
    """The text of a file.

    Raises:
        PreprocessError: It cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise PreprocessError(f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PreprocessError("the file is not UTF-8 text; expected JSON") from error


def _advice(key: object, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # only where something is wrong already

    close = get_close_matches(str(key), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _require(valid: bool, name: str, value: object, accepted: str) -> None:
    if not valid:
        raise PreprocessError(f"got {name} {value!r}; expected {accepted}")


def _is_whole(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _invert(value: object) -> Invert:
    if type(value) is bool:
        return "before_resize" if value else False
    accepted = "false, 'before_resize' or 'after_resize'"
    _require(value in get_args(Invert)[1:], "invert", value, accepted)
    return value  # type: ignore[return-value]


def _check_antialias(value: object, interpolation: str) -> None:
    _require(type(value) is bool, "antialias", value, "true or false")
    accepted = (
        f"true with interpolation {interpolation!r}: images are resized by Pillow, which always"
        " antialiases; resizing tensors without it cannot be reproduced to the bit"
    )
    _require(bool(value) or interpolation == "nearest", "antialias", value, accepted)


def _size(name: str, value: object) -> tuple[int, int]:
    accepted = "(height, width) as two whole numbers of pixels from 1 to 65536"
    items = _items(name, value, accepted)
    valid = len(items) == 2 and all(_is_whole(item, 1, _MAX_SIDE) for item in items)
    _require(valid, name, value, accepted)
    return items[0], items[1]


def _resize_size(value: object, mode: str) -> tuple[int, int] | None:
    if mode == "none":
        _require(value is None, "resize_size", value, "none with resize_mode 'none'")
        return None
    accepted = f"(height, width) with resize_mode {mode!r}"
    _require(value is not None, "resize_size", value, accepted)
    return _size("resize_size", value)


def _counts(channels: object) -> tuple[int, ...]:
    """How many numbers `mean` may have."""
    if isinstance(channels, str) and channels in _COLOURS:
        return (1, 3) if channels == "grey" else (3,)
    accepted = "'rgb', 'bgr', 'grey' or a number of channels"
    _require(_is_whole(channels, 1, _MAX_SIDE), "channels", channels, accepted)
    return (channels,)  # type: ignore[return-value]


def _numbers(name: str, value: object, counts: tuple[int, ...]) -> tuple[float, ...]:
    accepted = f"a list of {' or '.join(map(str, counts))} finite numbers"
    items = _items(name, value, accepted)
    try:
        numbers = tuple(float(item) for item in items if not isinstance(item, str | bool))
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    valid = len(numbers) == len(items) and len(numbers) in counts and all(map(isfinite, numbers))
    _require(valid, name, value, accepted)
    return numbers


def _pad_value(value: object, count: int, *, grey: bool) -> tuple[int, ...]:
    accepted = f"1 or {count} whole numbers from 0 to 255"
    items = _items("pad_value", value, accepted)
    one = len(set(map(repr, items))) == 1
    valid = all(_is_whole(item, 0, 255) for item in items)
    _require(valid and (one or (len(items) == count and not grey)), "pad_value", value, accepted)
    return (items[0],) * count if one else tuple(items)


def _items(name: str, value: object, accepted: str) -> list[Any]:
    try:
        items = None if isinstance(value, str | bytes | Mapping) else list(value)  # type: ignore[call-overload]
    except TypeError:
        items = None
    _require(items is not None, name, value, accepted)
    return items or []
