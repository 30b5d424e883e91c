"""Recipe fields: as people write them in, of exact types out, or an error that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from toplabel.errors import PreprocessError
from toplabel.preprocess.normalise import Arithmetic
from toplabel.preprocess.sizes import Convention
from toplabel.preprocess.window import Interpolation

if TYPE_CHECKING:
    from pathlib import Path

_CHOICES: dict[str, tuple[str, ...]] = {
    "resize_mode": ("shortest", "longest", "squash", "none"),
    "interpolation": get_args(Interpolation),
    "convention": get_args(Convention),
    "arithmetic": ("convention", *get_args(Arithmetic)),
}
_COLOURS = ("rgb", "bgr", "grey")
_MAX_SIDE = 1 << 16
_MAX_VALUES = 64_000_000  # of a tensor: 256 MB


def checked_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe, each of its exact type.

    Raises:
        PreprocessError: One makes no sense, alone or with the others.
    """
    checked: dict[str, Any] = {name: _choice(name, given[name]) for name in _CHOICES}
    checked["schema"] = _schema(given["schema"])
    checked["input_size"] = _size("input_size", given["input_size"])
    checked["resize_size"] = _resize_size(given["resize_size"], checked["resize_mode"])
    checked["antialias"] = _antialias(given["antialias"], checked["interpolation"])
    checked["range"] = _range(given["range"])
    checked["channels"] = channels = _channels(given["channels"])
    counts = _accepted_counts(channels)
    checked["mean"] = mean = _numbers("mean", given["mean"], counts)
    checked["std"] = _divisors("std", given["std"], (len(mean),))
    height, width = checked["input_size"]
    if len(mean) * height * width > _MAX_VALUES:
        raise PreprocessError(
            f"got an input_size of {height}x{width} with {len(mean)} channels; expected a tensor of"
            f" at most {_MAX_VALUES:,} values"
        )
    again = given["std_again"]
    checked["std_again"] = _divisors("std_again", again, (len(mean),)) if again else ()
    checked["pad_value"] = _pad_value(given["pad_value"], len(mean), grey=channels == "grey")
    return checked


def check_keys(plain: object, *, known: Sequence[str], required: Sequence[str]) -> None:
    """Stop at a key that no recipe has, or one that every recipe must have.

    Raises:
        PreprocessError: There is one.
    """
    if not isinstance(plain, Mapping):
        raise PreprocessError(f"got {type(plain).__name__} as a recipe; expected a JSON object")
    for key in plain:
        if key not in known:
            raise PreprocessError(f"unknown key {key!r} in the recipe; {_advice(key, known)}")
    for key in required:
        if key not in plain:
            raise PreprocessError(
                f"no {key!r} in the recipe; it must have {', '.join(required)}, from what the model"
                " was trained with"
            )


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        PreprocessError: It is none.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PreprocessError(f"got a recipe that is no JSON: {error}") from error
    if not isinstance(plain, dict):
        raise PreprocessError(f"got {type(plain).__name__} as a recipe; expected a JSON object")
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
        raise PreprocessError("got a file that is no UTF-8 text; expected JSON") from error


def _advice(key: object, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # only where something is wrong already

    close = get_close_matches(str(key), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _wrong(name: str, value: object, accepted: str) -> PreprocessError:
    return PreprocessError(f"got {name} {value!r}; expected {accepted}")


def _choice(name: str, value: object) -> str:
    choices = _CHOICES[name]
    if not isinstance(value, str) or value not in choices:
        raise _wrong(name, value, " or ".join(repr(choice) for choice in choices))
    return value


def _schema(value: object) -> int:
    if type(value) is not int or value != 1:
        raise _wrong("schema", value, "1, the only one so far; a newer toplabel may know more")
    return value


def _is_whole(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _size(name: str, value: object) -> tuple[int, int]:
    accepted = "(height, width) as two whole numbers of pixels from 1 to 65536"
    items = _items(name, value, accepted)
    if len(items) != 2 or not all(_is_whole(item, 1, _MAX_SIDE) for item in items):
        raise _wrong(name, value, accepted)
    return items[0], items[1]


def _resize_size(value: object, mode: str) -> tuple[int, int] | None:
    if mode == "none":
        if value is not None:
            raise _wrong("resize_size", value, "none, as resize_mode is 'none'")
        return None
    if value is None:
        raise _wrong("resize_size", value, f"(height, width), as resize_mode is {mode!r}")
    return _size("resize_size", value)


def _antialias(value: object, interpolation: str) -> bool:
    if type(value) is not bool:
        raise _wrong("antialias", value, "true or false")
    if not value and interpolation != "nearest":
        raise _wrong(
            "antialias",
            value,
            f"true with interpolation {interpolation!r}: pictures are resized by Pillow, which"
            " always smooths; tensors resized without it cannot be matched to the bit",
        )
    return value


def _range(value: object) -> tuple[float, float]:
    low, high = _numbers("range", value, (2,))
    if low == high:
        raise _wrong("range", value, "two different numbers, what 0 and 255 become")
    return low, high


def _channels(value: object) -> str | int:
    if value in _COLOURS and isinstance(value, str):
        return value
    if _is_whole(value, 1, _MAX_SIDE) and isinstance(value, int):
        return value
    raise _wrong("channels", value, "'rgb', 'bgr', 'grey' or a number of channels")


def _accepted_counts(channels: str | int) -> tuple[int, ...]:
    if isinstance(channels, int):
        return (channels,)
    return (1, 3) if channels == "grey" else (3,)


def _divisors(name: str, value: object, counts: tuple[int, ...]) -> tuple[float, ...]:
    numbers = _numbers(name, value, counts)
    if 0 in numbers:
        raise _wrong(name, value, "numbers other than 0, as they are divided by")
    return numbers


def _numbers(name: str, value: object, counts: tuple[int, ...]) -> tuple[float, ...]:
    accepted = f"a list of {' or '.join(map(str, counts))} finite numbers"
    items = _items(name, value, accepted)
    try:
        numbers = tuple(float(item) for item in items if not isinstance(item, str | bool))
    except (TypeError, ValueError, OverflowError):
        raise _wrong(name, value, accepted) from None
    if len(numbers) != len(items) or len(numbers) not in counts:
        raise _wrong(name, value, accepted)
    if not all(map(math.isfinite, numbers)):
        raise _wrong(name, value, accepted)
    return numbers


def _pad_value(value: object, count: int, *, grey: bool) -> tuple[int, ...]:
    accepted = f"1 or {count} whole numbers from 0 to 255"
    items = _items("pad_value", value, accepted)
    if not items or not all(_is_whole(item, 0, 255) for item in items):
        raise _wrong("pad_value", value, accepted)
    if len(set(items)) == 1:
        return (items[0],) * count
    if grey or len(items) != count:
        raise _wrong("pad_value", value, accepted)
    return tuple(items)


def _items(name: str, value: object, accepted: str) -> list[Any]:
    if isinstance(value, str | bytes | Mapping):
        raise _wrong(name, value, accepted)
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise _wrong(name, value, accepted) from None
