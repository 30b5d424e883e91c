"""The guard of the fast decode: whose answer is close enough to a boundary to be read exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toplabel.inference.scoring import MULTI_LABEL_THRESHOLD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.bundle.model import Activation

MARGIN = 0.4
"""In logits (log odds). A scaled decode is trusted where it is farther from every boundary.

Of 828 photos whose scaled decode was compared with the full one, none changed the distance of its
first two logits by more than 0.32; 10 changed their label, all with the two at most 0.22 apart
(docs/benchmarks.md: `python -m benchmarks margin`).
"""


def is_close(
    logits: NDArray[np.float32],
    *,
    activation: Activation,
    threshold: float | None = None,
    temperature: float = 1.0,
) -> bool:
    """Whether a slightly different reading of the image could change the answer.

    Args:
        logits: Shape (K,), float32, of an image decoded at a reduced scale.
        activation: How they become scores.
        threshold: The score below which an answer is `unsure`, if there is one.
        temperature: What the logits are divided by before they become scores.
    """
    if not np.isfinite(logits).all():
        return True
    values = logits.astype(np.float64)
    if activation == "none":
        values = np.log(np.clip(values, 1e-12, None))
    first, second = np.partition(values, -2)[[-1, -2]] if len(values) > 1 else (values[0], -np.inf)
    if first - second < MARGIN:
        return True
    if activation == "sigmoid":
        boundary = _log_odds(MULTI_LABEL_THRESHOLD if threshold is None else threshold)
        return bool((np.abs(values - boundary) < MARGIN).any())
    if threshold is None:
        return False
    scaled = values / temperature
    others = np.logaddexp.reduce(np.delete(scaled, int(scaled.argmax())))  # -inf where none
    return bool(abs((scaled.max() - others) - _log_odds(threshold)) < MARGIN / temperature)


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, 1e-12), 1 - 1e-12)
    return float(np.log(clipped / (1 - clipped)))
