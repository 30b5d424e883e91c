"""Mirrored and cropped copies of training images: their features, and whether a head gains by them.

A copy stays with its image: where the image is left out of a fit, so are its copies, and what is
predicted out of fold are the images as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from toplabel.analysis.evaluate.corruptions import Photo
from toplabel.analysis.evaluate.metrics import log_losses
from toplabel.errors import ModelError
from toplabel.image.reading import read_image
from toplabel.inference.scoring import probabilities
from toplabel.training.features import View, compute_features
from toplabel.training.out_of_fold import Examples, OutOfFold, Variants, predict_out_of_fold
from toplabel.training.result import Augmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from toplabel.image.options import ReadOptions
    from toplabel.inference.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """How a copy is made of an image.

    Args:
        mirrored: Left and right are swapped.
        area: The share of the image that is kept, in its shape, at a place that its pixels decide.
    """

    mirrored: bool
    area: float

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The copy of uint8 (H, W, 3): uint8 (h, w, 3)."""
        height, width = pixels.shape[:2]
        rows, columns = (max(1, round(side * self.area**0.5)) for side in (height, width))
        down, across = Photo(pixels).chance(str(self)).random(2)
        top, left = round(down * (height - rows)), round(across * (width - columns))
        copy = pixels[top : top + rows, left : left + columns]
        return np.ascontiguousarray(copy[:, ::-1] if self.mirrored else copy)

    def __str__(self) -> str:
        return f"{'mirrored ' if self.mirrored else ''}{self.area:g}"


COPIES = (
    Copy(mirrored=True, area=1),
    Copy(mirrored=False, area=0.75),
    Copy(mirrored=True, area=0.5),
)


def announce(images: int) -> None:
    """Say what it will cost, before it does."""
    logger.info(
        "augmenting: each of %s images goes through the network %d times instead of once, as"
        " itself, mirrored and cropped; what was computed before is used again",
        f"{images:,}",
        1 + len(COPIES),
    )


def compute_variants(
    predictor: Predictor,
    sources: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Variants:
    """The features of mirrored and cropped copies of N images.

    Args:
        predictor: The model.
        sources: N paths or URLs.
        progress: Called with the number of copies done, and of those that failed.

    Raises:
        ModelError: The model gives no features, or takes arrays that are no photos.
    """
    if isinstance(getattr(predictor.preprocess, "channels", "rgb"), int):
        raise ModelError(
            f"{predictor.name} takes arrays of {predictor.preprocess.num_channels} channels;"
            " augment=True mirrors and crops photos"
        )
    features, images = [], []
    for number, copy in enumerate(COPIES):
        before = number * len(sources)

        def shown(done: int, failed: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, failed)

        view = View(str(copy), partial(_copied, copy=copy, read=predictor.read))
        found = compute_features(predictor, sources, progress=shown, view=view)
        features.append(found.features)
        images.append(np.flatnonzero(found.readable))
    return Variants(np.concatenate(features), np.concatenate(images))


def _copied(source: object, *, copy: Copy, read: ReadOptions) -> Image:
    """The copy of an image, as one of Pillow: RGB, whatever is said of arrays."""
    from PIL import Image

    return Image.fromarray(copy(read_image(source, options=read).pixels))


def try_variants(
    examples: Examples, plain: OutOfFold, variants: Variants
) -> tuple[Examples, OutOfFold, Augmentation]:
    """The examples with their copies where these help, else as they are; and what the folds say.

    They help where they lower the out-of-fold log loss by more than its standard error, image by
    image, and cost no accuracy.

    Args:
        examples: The images.
        plain: What heads fitted on them say out of fold.
        variants: The copies.
    """
    augmented = replace(examples, variants=variants)
    found = predict_out_of_fold(augmented)
    losses, losses_without = (_losses(one, examples.targets) for one in (found, plain))
    gains = losses_without - losses
    right, right_without = (
        float((one.logits.argmax(axis=1) == examples.targets).mean()) for one in (found, plain)
    )
    clear = float(gains.mean()) > float(gains.std()) / len(gains) ** 0.5
    told = Augmentation(
        copies=len(variants.images),
        kept=clear and right >= right_without,
        accuracy=right,
        accuracy_without=right_without,
        loss=float(losses.mean()),
        loss_without=float(losses_without.mean()),
    )
    return (augmented, found, told) if told.kept else (examples, plain, told)


def _losses(found: OutOfFold, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = probabilities(found.logits / np.float32(found.temperature), "softmax")
    return log_losses(scores, targets)
