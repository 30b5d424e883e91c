"""CustomPreprocess: the user's own code in place of a `Preprocess`, run as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel._internal.platform import fork_safe
from toplabel._internal.text import first_line
from toplabel.errors import ImageError, PreprocessError
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

Lock = Any


@dataclass(frozen=True, kw_only=True, eq=False)
class CustomPreprocess:
    """What is done to an image before a model sees it, by code that cannot be written down as data.

    It is called for one image at a time, whole and upright. Comes from what `preprocess=` is given.

    Args:
        name: What it is, for people: `mine.py:transform`, or its class or function.
        function: Maps uint8 (H, W, 3), RGB, to float32 (C, h, w).
        shape: The (C, h, w) that it gives for every image.
        values: The smallest and the largest value that it gave for drawn photos.
        digest: Of its tensors for drawn photos; another function has another.
    """

    name: str
    function: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    shape: tuple[int, int, int]
    values: tuple[float, float]
    digest: str
    _turn: Lock = field(default_factory=lambda: fork_safe(threading.Lock()), repr=False)

    @property
    def num_channels(self) -> int:
        """C, the channels of the tensor."""
        return self.shape[0]

    @property
    def input_size(self) -> tuple[int, int]:
        """The (height, width) of the tensor."""
        return self.shape[1:]

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """The image's own size: what is resized to is not known, so that all of it is decoded."""
        return height, width

    @property
    def stand_in(self) -> Preprocess:
        """A `Preprocess` with tensors of the same shape and values, for pixels that are drawn.

        A program is made and checked with such. For an image its tensors mean nothing.
        """
        count = self.num_channels
        channels: Any = {1: "grey", 3: "rgb"}.get(count, count)
        return Preprocess(
            input_size=self.input_size,
            resize_mode="none",
            channels=channels,
            range=self.values,
            mean=(0.0,) * count,
            std=(1.0,) * count,
        )

    def normalise(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A tensor for pixels that are drawn, not an image's: (h, w, C) -> float32 (C, h, w)."""
        return self.stand_in.normalise(crops)

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        *,
        original_size: tuple[int, int] | None = None,
        scale: int = 1,
        max_pixels: int | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The tensor of an image: float32 (C, h, w).

        Args:
            pixels: uint8 (H, W, 3), upright RGB, at full size.
            original_size, scale, max_pixels: As of `Preprocess`; not used.
            out: A slot of the batch, float32 (C, h, w), which is filled and returned.

        Raises:
            ImageError: `internal` where the code fails on this image, `wrong_size` where its tensor
                has another shape than for other images, `non_finite` for NaN and infinity.
        """
        with self._turn:
            tensor = self._call(pixels)
            if out is None:
                return tensor.copy()
            out[...] = tensor
            return out

    def _call(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            tensor = self.function(pixels)
        except MemoryError:
            raise
        except PreprocessError as error:
            raise ImageError("wrong_size", str(error)) from error
        except Exception as error:
            reason = first_line(error, named=True)
            raise ImageError(
                "internal", f"the preprocessing {self.name} failed on this image: {reason}"
            ) from error
        if tensor.shape != self.shape:
            raise ImageError(
                "wrong_size",
                f"the preprocessing {self.name} gave a tensor of shape {tensor.shape} for this"
                f" image; expected {self.shape}, as for others",
            )
        if not np.isfinite(tensor).all():
            raise ImageError(
                "non_finite",
                f"the preprocessing {self.name} gave NaN or infinity for this image",
            )
        return tensor

    def to_dict(self) -> dict[str, Any]:
        """What tells it from others, as plain data; it cannot be made again from this."""
        return {"custom": self.name, "shape": list(self.shape), "digest": self.digest}


AnyPreprocess = Preprocess | CustomPreprocess
