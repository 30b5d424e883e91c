"""Statistics that several rooms need: the interval of a share."""

from __future__ import annotations

NORMAL_95 = 1.959963984540054
"""Standard errors of the normal distribution within which 95 % lie."""


def wilson_interval(
    count: float, total: float, *, standard_errors: float = NORMAL_95
) -> tuple[float, float]:
    """The interval of a share, `count` of `total`: Wilson (1927), without continuity correction.

    Args:
        count: May be fractional.
        total: At least 0; of nothing the share may be anything from 0 to 1.
        standard_errors: Of the normal distribution; by default those of 95 %.
    """
    if total == 0:
        return 0.0, 1.0
    share, square = count / total, standard_errors**2
    centre = share + square / (2 * total)
    width = standard_errors * (share * (1 - share) / total + square / (4 * total**2)) ** 0.5
    low, high = ((centre + side * width) / (1 + square / total) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)
