"""Options: what a training is to do beyond fitting a head to a folder of images."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from toplabel._internal.options import option
from toplabel.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

MIN_IMAGES = 3
"""Different images that each class needs."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a training is to do.

    Raises:
        UsageError: A value is not accepted.
    """

    prior: str | Mapping[str, float] | None = option(
        None,
        metavar="PRIOR",
        help="How frequent each class will be where the model is used: balanced, as-trained, or"
        " shares as cat=0.9,dog=0.1. By default balanced where the classes differ by more than 1.5"
        " times in their number of images, else as-trained.",
        python="Also a mapping of class names to shares.",
    )
    unknown: float = option(
        0.05,
        metavar="RATE",
        help="The share of images like these that may be flagged as unknown, so that images unlike"
        " them are.  [default: 0.05]",
    )
    no_unknown: bool = option(
        False,
        help="Flag nothing as unknown. Nothing of the training images is kept in the bundle then.",
    )
    augment: bool = option(
        False,
        help="Also try mirrored and cropped copies of the images, and train on them if images that"
        " are left out are predicted better. Takes four times as long.",
    )
    previous: str | os.PathLike[str] | None = option(
        None,
        flags=("--from",),
        metavar="BUNDLE",
        help="A bundle that was trained before: its classes are kept, and what it keeps of their"
        " images is trained on again beside the new ones.",
    )
    fine_tune: bool = option(
        False,
        help="Also train all of the network, in PyTorch, from the fitted head on; kept only where a"
        " held-out fifth of the images says that it is better. On a GPU where there is one; on a"
        " CPU it takes minutes to hours. Stopped, the same command goes on there.",
    )
    epochs: int | None = option(
        None, minimum=1, metavar="N", help="Of fine-tuning, at most.  [default: 10]"
    )
    learning_rate: float | None = option(
        None,
        minimum=0,
        metavar="RATE",
        help="Of the head in fine-tuning; the first layers have a tenth of it.  [default: 0.0003]",
    )
    minutes: float | None = option(
        None, minimum=0, metavar="N", help="That fine-tuning may take; it plans its epochs by it."
    )
    seed: int = option(
        0,
        minimum=0,
        metavar="N",
        help="Chooses how the images are divided into folds, and all that fine-tuning draws.",
    )

    def __post_init__(self) -> None:
        if not 0 < self.unknown <= 0.5:
            raise UsageError(f"got unknown={self.unknown!r}; expected a share above 0, at most 0.5")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise UsageError(f"got seed={self.seed!r}; expected a whole number, at least 0")
        self._check_fine_tuning()

    def _check_fine_tuning(self) -> None:
        if self.fine_tune and self.previous is not None:
            raise UsageError(
                "got fine_tune=True with previous=...: a bundle keeps features of its images, of"
                " which a network cannot learn; pass all images as data"
            )
        for name in ("epochs", "learning_rate", "minutes"):
            value = getattr(self, name)
            if value is None:
                continue
            if not self.fine_tune:
                raise UsageError(f"got {name}={value!r}, which is for fine_tune=True")
            whole = name == "epochs"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                kind = "a whole number" if whole else "a number"
                raise UsageError(f"got {name}={value!r}; expected {kind}")
            if not 0 < value < inf:
                raise UsageError(f"got {name}={value!r}; expected a number above 0")
