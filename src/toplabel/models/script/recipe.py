"""Recipe: a followed way from an image to a tensor in, the same as a `Preprocess` out.

Its geometry is read from the steps, its values are measured on plain colours, and the whole is
compared with the steps themselves on drawn photos. Where it cannot be expressed, the steps are the
preprocessing, as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toplabel.errors import PreprocessError
from toplabel.models.script.operations import Lost, Step, chain, drawn, replay
from toplabel.models.script.values import Made
from toplabel.models.transforms.verify import drawn_photos
from toplabel.preprocess.preprocess import Preprocess

_LUMA = np.array([0.299, 0.587, 0.114])
_RANGES = ((0.0, 1.0), (1.0, 0.0), (0.0, 255.0), (255.0, 0.0), (-1.0, 1.0), (1.0, -1.0))
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_FLATTENING = {
    *("reshape", "view", "flatten", "ravel", "squeeze", "unsqueeze", "float", "to", "type"),
    *("torch.tensor", "torch.as_tensor", "torch.from_numpy", "torch.Tensor", "torch.FloatTensor"),
    *("torch.flatten", "torch.reshape", "torch.squeeze", "torch.unsqueeze"),
    *("numpy.array", "numpy.asarray", "numpy.reshape", "numpy.ravel", "numpy.expand_dims"),
}
_QUIET = ("ToTensor", "Normalize", "Grayscale", "ToPILImage", "PILToTensor", "ConvertImageDtype")
_QUIET_V2 = ("ToImage", "ToDtype", "RGB", "Lambda")


@dataclass(frozen=True, eq=False)
class Way:
    """From an upright RGB image to what the network is called with.

    Args:
        last: The step that gives the image, of shape (C, H, W) but for leading ones.
        flat: The script flattens it after that.
        front: The (height, width) to which images are resized before all else.
    """

    last: Step
    flat: bool = False
    front: tuple[int, int] | None = None

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """float32 (C, h, w) of an upright RGB image.

        Raises:
            PreprocessError: A step fails on this image.
        """
        if self.last.origin.form.endswith("grey"):
            image = image.convert("L")  # as all images of such a data set are
        if self.front is not None and image.size != self.front[::-1]:
            image = image.resize(self.front[::-1], Image.Resampling.BILINEAR)
        try:
            value = replay(self.last, image)
        except Lost as lost:
            raise PreprocessError(str(lost)) from lost
        except Exception as error:
            raise PreprocessError(f"the script's preprocessing fails: {error}") from error
        return as_planes(value)


def way_of(last: Step) -> Way:
    """The way that ends in a step, without what only flattens its image."""
    flat = False
    while _spatial(last.samples[0]) is None and last.name in _FLATTENING:
        before = next(
            (one for one in (*last.args, *last.kwargs.values()) if isinstance(one, Step)), None
        )
        if before is None or not _same_numbers(before.samples[0], last.samples[0]):
            break
        last, flat = before, True
    return Way(last, flat)


def _same_numbers(one: Any, other: Any) -> bool:
    """Whether two arrays or tensors hold the same numbers in the same order, but for rounding."""
    first, second = (np.asarray(value, np.float64).reshape(-1) for value in (one, other))
    return first.shape == second.shape and np.allclose(first, second, rtol=1e-3, atol=1e-6)


def _spatial(value: Any) -> tuple[int, int] | None:
    """(height, width) of what is an image (C, H, W) but for leading ones."""
    shape = tuple(getattr(value, "shape", ()))
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) not in (2, 3) or min(shape[-2:]) < 4:
        return None
    return shape[-2], shape[-1]


def as_planes(value: Any) -> NDArray[np.float32]:
    """float32 (C, h, w) of a tensor or array with leading ones.

    Raises:
        PreprocessError: It has another shape.
    """
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] > 4:
        raise PreprocessError(
            f"the script's preprocessing gives shape {array.shape}; expected (C, h, w)"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def fixed_size(way: Way) -> tuple[int, int] | None:
    """The (height, width) that it gives whatever the image's size is; None where it varies."""
    found = set()
    for size in ((360, 452), (421, 347), (348, 370)):
        try:
            found.add(way(drawn(size)).shape[1:])
        except PreprocessError:
            return None
    return found.pop() if len(found) == 1 else None


def recipe_of(way: Way) -> Preprocess | None:
    """The same as a `Preprocess`; None where none does the same.

    Args:
        way: Of a fixed size.
    """
    try:
        geometry = _geometry(way)
        values = _values(way)
        if geometry is None or values is None:
            return None
        made = Preprocess(**geometry, **values)
        return made if _agrees(made, way) else None
    except PreprocessError:
        return None


def _geometry(way: Way) -> dict[str, Any] | None:
    """The resize and the crop, where there is at most one of each, on images of Pillow's."""
    fields: dict[str, Any] = {}
    if way.front is not None:
        fields = {"resize_mode": "squash", "resize_size": way.front, "interpolation": "bilinear"}
    size = fixed_size(way)
    for one in chain(way.last):
        before = next(
            (arg for arg in (*one.args, *one.kwargs.values()) if isinstance(arg, Step)), None
        )
        sample = before.samples[0] if before is not None else None
        last = one.name.rpartition(".")[2]
        if last == "Resize" and isinstance(sample, Image.Image) and isinstance(one.args[0], Made):
            found = _read_resize(one.args[0])
        elif last == "resize" and isinstance(sample, Image.Image):
            found = _read_pil(one)
        elif last == "CenterCrop" and isinstance(sample, Image.Image):
            fields.setdefault("crop", True)
            continue
        else:
            if _moves(one, sample):
                return None
            continue
        if found is None or "crop" in fields:
            return None
        if way.front is not None and found["resize_size"] == way.front:
            continue  # they have that size already
        if "resize_mode" in fields:
            return None
        fields |= found
    fields.pop("crop", None)
    if "resize_mode" not in fields:
        fields["resize_mode"] = "none"
    return fields | {"input_size": size}


def _moves(one: Step, sample: Any) -> bool:
    """Whether a step moves pixels in a way that no recipe has."""
    before = _spatial_of(sample)
    after = _spatial_of(one.samples[0])
    return before is not None and after is not None and before != after


def _spatial_of(value: Any) -> tuple[int, int] | None:
    if isinstance(value, Image.Image):
        return value.size[::-1]
    shape = tuple(getattr(value, "shape", ()))
    big = [side for side in shape if side > 4]
    return (big[0], big[1]) if len(big) == 2 else None


def _read_resize(made: Made) -> dict[str, Any] | None:
    from toplabel.models.script.operations import real

    transform = real(made)
    size, limit = transform.size, transform.max_size
    if limit is not None or size is None:
        return None
    sides = [size] if isinstance(size, int) else list(size)
    mode = transform.interpolation
    name = _FILTERS.get(mode, "") if isinstance(mode, int) else getattr(mode, "value", str(mode))
    return {
        "resize_mode": "shortest" if len(sides) == 1 else "squash",
        "resize_size": (sides[0], sides[-1]),
        "interpolation": "nearest" if name == "nearest-exact" else name,
    }


def _read_pil(one: Step) -> dict[str, Any] | None:
    from toplabel.models.script.operations import real

    size = real(one.args[1] if len(one.args) > 1 else one.kwargs.get("size"))
    given = one.args[2] if len(one.args) > 2 else one.kwargs.get("resample")
    if len(one.args) > 3 or set(one.kwargs) - {"size", "resample"}:
        return None
    mode = 3 if given is None else int(real(given))
    if mode not in _FILTERS or not isinstance(size, tuple | list):
        return None
    return {
        "resize_mode": "squash",
        "resize_size": (int(size[1]), int(size[0])),
        "interpolation": _FILTERS[mode],
    }


def _values(way: Way) -> dict[str, Any] | None:
    """Channels, range, mean and std, measured on plain colours."""
    greys = np.arange(0, 256, 15)
    measured = np.stack([_plain(way, (v, v, v)) for v in greys.tolist()])  # (18, C)
    low, high = measured[0], measured[-1]
    spread = high - low
    expected = low + spread * (greys[:, None] / 255)
    scale = max(1e-6, float(np.abs(measured).max()))
    if not np.isfinite(measured).all() or np.abs(measured - expected).max() > 2e-3 * scale:
        return None
    if (spread == 0).any():
        return None
    pure = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    weights = np.stack([(_plain(way, colour) - low) / spread for colour in pure])  # (3, C)
    channels = _channels(weights)
    if channels is None:
        return None
    mean, std = _normalisation(way, len(low))
    before = np.stack([low, high]) * std + mean
    if np.ptp(before, axis=1).max() > 2e-3 * max(1.0, float(np.abs(before).max())):
        mean, std = -low / spread, 1 / spread
        limits = (0.0, 1.0)
    else:
        limits = _snapped(float(before[0].mean()), float(before[1].mean()))
    return {
        "channels": channels,
        "range": limits,
        "mean": tuple(map(float, mean)),
        "std": tuple(map(float, std)),
    }


def _plain(way: Way, colour: tuple[int, int, int]) -> NDArray[np.float64]:
    planes = way(Image.new("RGB", (300, 300), colour)).astype(np.float64)
    return planes[:, planes.shape[1] // 2, planes.shape[2] // 2]


def _channels(weights: NDArray[np.float64]) -> str | None:
    if weights.shape[1] == 3:
        if np.allclose(weights, np.eye(3), atol=0.01):
            return "rgb"
        if np.allclose(weights, np.eye(3)[::-1], atol=0.01):
            return "bgr"
    grey = np.allclose(weights, _LUMA[:, None], atol=0.01)
    return "grey" if grey and weights.shape[1] in (1, 3) else None


def _normalisation(way: Way, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and std of the one `Normalize`, else 0 and 1."""
    from toplabel.models.script.operations import real

    found = [
        one.args[0]
        for one in chain(way.last)
        if one.kind == "transform" and one.name.endswith(".Normalize")
    ]
    if len(found) == 1 and isinstance(found[0], Made) and found[0].name.startswith("torchvision"):
        transform = real(found[0])
        mean = np.asarray(transform.mean, np.float64).reshape(-1)
        std = np.asarray(transform.std, np.float64).reshape(-1)
        if {len(mean), len(std)} <= {1, channels}:
            return np.broadcast_to(mean, channels), np.broadcast_to(std, channels)
    return np.zeros(channels), np.ones(channels)


def _snapped(low: float, high: float) -> tuple[float, float]:
    for near in _RANGES:
        if np.allclose((low, high), near, atol=2e-4 * max(1, abs(near[0]), abs(near[1]))):
            return near
    return low, high


def _agrees(made: Preprocess, way: Way) -> bool:
    """Whether both give the same on drawn photos, but for the last bits."""
    for pixels in drawn_photos(((120, 161), (163, 110), (64, 64), (19, 75))):
        theirs = way(Image.fromarray(pixels))
        ours = made(pixels)
        if ours.shape != theirs.shape:
            return False
        scale = max(1.0, float(np.abs(theirs).max()))
        if np.abs(ours - theirs).max() > 1e-5 * scale:
            return False
    return True


def describe(way: Way) -> str:
    """Its steps, in a few words: `Grayscale, Resize, ToTensor, Normalize`."""
    hidden = ("unsqueeze", "[...]", "squeeze", "float", "FloatTensor", "from_numpy", "tensor", "to")
    words = []
    for one in chain(way.last)[1:]:
        last = one.name.rpartition(".")[2]
        if one.kind == "index" and (part := _slices(one.args[1])):
            words.append(part)
        if last in hidden or one.kind in ("attribute", "number", "index"):
            continue
        words.append(
            {"Div": "/", "Mult": "*", "Sub": "-", "Add": "+", "BitXor": "^"}.get(last, last)
        )
    return ", ".join(words) or "nothing"


def _slices(key: Any) -> str:
    """What a key cuts out of an image, as it is written; empty where it cuts nothing."""
    keys = key if isinstance(key, tuple) else (key,)
    cuts = [one for one in keys if isinstance(one, slice) and isinstance(one.stop, int)]
    return f"[{', '.join(f'{one.start or 0}:{one.stop}' for one in cuts)}]" if cuts else ""


def with_front(way: Way, size: tuple[int, int]) -> Way:
    """The same, after images are resized to (height, width)."""
    return replace(way, front=size)
