"""Side: one of two ways to label a picture, and what each of its stages makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.errors import ImageError, UsageError
from toplabel.image.reading import read_image
from toplabel.inference.batch import Settings, label_chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.inference.engines import Engine, EngineName
    from toplabel.inference.predictor import Predictor

_PATH_NAMES = ("path", "file", "filename", "file_name", "image_path", "img_path")


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """What one side makes of a picture.

    Args:
        pixels: uint8 (H, W, C) as it is read; None where the user's function reads it itself.
        tensor: float32 (C, h, w), what the model is given.
        logits: float32 (K,), what it says.
        label: The best class's name.
        index: Its number.
        score: Its score.
    """

    pixels: NDArray[np.uint8] | None
    tensor: NDArray[np.float32]
    logits: NDArray[np.float32]
    label: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Side:
    """A model and how it is run.

    Args:
        predictor: The model.
        preprocess: The user's own way to make its input, instead of the recipe: a function of a
            PIL image, opened as scripts do (`Image.open(path).convert("RGB")`), or of the path
            where its first parameter is called so; it gives (C, h, w) or (1, C, h, w).
        name: For people.
    """

    predictor: Predictor
    preprocess: Callable[..., Any] | None = None
    name: str = ""

    def look(self, source: object) -> Stages:
        """What each stage makes of a picture.

        Raises:
            ImageError: It cannot be read or labelled.
            UsageError: The user's function gives no such tensor.
        """
        return self._by_recipe(source) if self.preprocess is None else self._by_function(source)

    def _by_recipe(self, source: object) -> Stages:
        """The same code as every prediction; of what it read twice, the last."""
        predictor = self.predictor
        recording = Recording(predictor.open_engine())
        settings = Settings(top_k=1, exact=predictor.exact, keep_logits=True, read=predictor.read)
        (prediction,) = label_chunk([(0, source)], recording, predictor.classifier, settings)
        if prediction.error is not None:
            raise ImageError(prediction.error.code, prediction.error.message)
        in_full = predictor.exact or recording.calls > 1
        sizes = None if in_full else predictor.preprocess.resized_size
        picture = read_image(source, options=predictor.read, resized_size=sizes)
        assert recording.tensor is not None
        assert prediction.logits is not None
        return Stages(
            picture.pixels,
            recording.tensor,
            prediction.logits,
            prediction.label or "",
            prediction.index or 0,
            prediction.score or 0.0,
        )

    def _by_function(self, source: object) -> Stages:
        assert self.preprocess is not None
        pixels, given = self._given(source)
        tensor = np.asarray(self.preprocess(given), np.float32)
        tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
        if tensor.ndim != 3:
            raise UsageError(
                f"{self.name} gives an array of shape {tensor.shape}; expected (C, h, w) or"
                " (1, C, h, w)"
            )
        logits = self.predictor.open_engine()(np.ascontiguousarray(tensor[None]))[0]
        scores = self.predictor.classifier.scores(logits)
        best = int(logits.argmax())
        return Stages(
            pixels, tensor, logits, self.predictor.labels[best], best, float(scores[best])
        )

    def _given(self, source: object) -> tuple[NDArray[np.uint8] | None, object]:
        """What the user's function is called with, and its pixels where it is a picture."""
        assert self.preprocess is not None
        try:
            first = next(iter(inspect.signature(self.preprocess).parameters), "")
        except (TypeError, ValueError):  # written in C
            first = ""
        if first in _PATH_NAMES:
            return None, source
        from PIL import Image

        try:
            with Image.open(source) as opened:  # type: ignore[arg-type]
                image = opened.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise ImageError("not_an_image", f"Pillow cannot read {source!r}: {error}") from error
        return np.asarray(image), image


class Recording:
    """An engine that remembers the last input of one picture, and how often it was asked."""

    def __init__(self, engine: Engine) -> None:
        self.name: EngineName = engine.name
        self.device = engine.device
        self._engine = engine
        self.calls = 0
        self.tensor: NDArray[np.float32] | None = None

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The engine's answer."""
        self.calls += 1
        self.tensor = batch[0].copy()
        return self._engine(batch)
