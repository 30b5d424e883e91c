"""Pairing: two models' answers on the same images in, whether one is better out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.analysis.evaluate.metrics import Measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SURE = 0.05


@dataclass(frozen=True, slots=True)
class Pairing:
    """Model b against model a, image by image; what could not be labelled counts as wrong.

    Args:
        only_a: Images that only a labels rightly.
        only_b: Images that only b labels rightly.
        both: Images that both do.
        neither: Images that neither does.
        difference: b's top-1 less a's, in [-1, 1], with a Newcombe (1998) interval of 95 %.
        p: Of McNemar's exact test that they are equally good, two-sided.
    """

    only_a: int
    only_b: int
    both: int
    neither: int
    difference: Measure
    p: float

    def __str__(self) -> str:
        change = self.difference
        verdict = "no difference is shown"
        if self.p < _SURE:
            verdict = "the second is better" if change.value > 0 else "the second is worse"
        return (
            f"{verdict}: {100 * change.value:+.1f} points ({100 * change.low:+.1f} to"
            f" {100 * change.high:+.1f}); only the first is right on {self.only_a} images, only the"
            f" second on {self.only_b} (McNemar's exact test, p = {self.p:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        counts = {name: getattr(self, name) for name in ("only_a", "only_b", "both", "neither")}
        return counts | {"difference": self.difference.to_dict(), "p": self.p}


def pair(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Pairing:
    """Compare two models.

    Args:
        a: Shape (N,): whether the first is right on each image.
        b: The same of the second.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    both = int((a & b).sum())
    neither = len(a) - both - only_a - only_b
    p = float(binomtest(only_b, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return Pairing(only_a, only_b, both, neither, _newcombe(both, only_a, only_b, neither), p)


def _newcombe(both: int, only_a: int, only_b: int, neither: int) -> Measure:
    """Difference of paired proportions: Newcombe's method 10, without continuity correction."""
    n = both + only_a + only_b + neither
    of_a, of_b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = _wilson(of_a, n)
    low_b, high_b = _wilson(of_b, n)
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = 0.0 if product == 0 else (both * neither - only_a * only_b) / product**0.5
    difference = of_b - of_a
    down, up = of_b - low_b, high_a - of_a
    lower = (down**2 - 2 * phi * down * up + up**2) ** 0.5
    down, up = high_b - of_b, of_a - low_a
    upper = (down**2 - 2 * phi * down * up + up**2) ** 0.5
    return Measure(difference, difference - lower, difference + upper)


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054  # 95 %, two-sided
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return centre - half, centre + half
