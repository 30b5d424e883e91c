"""A bundle that was trained before in; its classes and what it keeps of their images, out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toplabel.bundle.unknown import unit_rows
from toplabel.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.bundle import Bundle

logger = logging.getLogger(__name__)

_SAME = 0.999
"""Cosine of an image's features, and of what is kept of them in 8 bits."""

_BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Previous:
    """What is trained on again of a bundle.

    Args:
        names: The class names of its K outputs.
        features: float32 (M, D), of images that it keeps.
        targets: int (M,), their classes.
        weights: float64 (M,): how many images of its training each stands for.
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, bundle: Bundle) -> Previous:
        """What a bundle keeps.

        Raises:
            ModelError: It was not trained by toplabel, or keeps nothing of its images.
        """
        if bundle.training is None:
            raise ModelError(
                f"{bundle.name} does not come from toplabel train; expected previous=... a bundle"
                " that does. To train on the features of another model, pass it as model=..."
            )
        if not bundle.memories:
            raise ModelError(
                f"{bundle.name} keeps nothing of its training images (no_unknown=True), and would"
                " forget them; train on all images, old and new"
            )
        memories = bundle.memories.values()
        features = np.concatenate([memory.features for memory in memories])
        targets = np.concatenate([memory.targets for memory in memories])
        rows = np.bincount(targets, minlength=len(bundle.labels))
        counts = bundle.training.get("classes", {})
        images = np.array([counts.get(name, 0) for name in bundle.labels.names], np.float64)
        shares = np.where(rows > 0, np.maximum(images, rows) / np.maximum(rows, 1), 0.0)
        return cls(bundle.labels.names, features, targets, shares[targets])

    def without(self, features: NDArray[np.float32]) -> Previous:
        """The same without the images whose features are given: these come again.

        Args:
            features: float32 (N, D).
        """
        again = np.zeros(len(self.targets), np.bool_)
        rows = unit_rows(self.features)
        for start in range(0, len(features), _BLOCK):
            again |= (rows @ unit_rows(features[start : start + _BLOCK]).T > _SAME).any(axis=1)
        if again.any():
            logger.info("%s of the new images were trained on before", f"{int(again.sum()):,}")
        kept = ~again
        return Previous(self.names, self.features[kept], self.targets[kept], self.weights[kept])
