"""Divergence: what reached a layer against what it remembers of its training, resampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.analysis.doctor.batchnorm_stats import Moments, Stored

RESAMPLES = 200
_SEED = 0


def weights(photos: int) -> NDArray[np.float64]:
    """All photos, then `RESAMPLES` draws of as many with replacement: (R + 1, N), rows sum to 1."""
    chance = np.random.default_rng(_SEED)
    drawn = chance.multinomial(photos, np.full(photos, 1 / photos), size=RESAMPLES)
    return np.vstack([np.ones(photos), drawn]) / photos


def divergence(
    moments: Moments, remembered: Stored, shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """KL divergence of Gaussians, observed from remembered, mean over channels: (R,) nats.

    Args:
        moments: Of N photos.
        remembered: By the layer.
        shares: (R, N): how much each photo counts in each resample.
    """
    mean = shares @ moments.mean  # (R, D)
    variance = np.maximum(shares @ moments.square - mean**2, 1e-12)
    ratio = variance / remembered.variance
    shift = (mean - remembered.mean) ** 2 / remembered.variance
    return np.asarray(0.5 * (ratio + shift - 1 - np.log(ratio)).mean(axis=1))
