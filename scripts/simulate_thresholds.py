"""How often `calibrate(precision=...)` chooses a threshold whose precision is too low: at most 5 %.

    python scripts/simulate_thresholds.py [SIMULATIONS]

Four kinds of scores, each in 10,000 simulations of 300 and 1,000 images and precisions of 90 and
95 %. The precision at or above a threshold is computed on 400,000 images of the same kind. With it
how often no threshold was found, and the mean share of the images at or above those that were.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toplabel.analysis.thresholds import choose_threshold

Scores = NDArray[np.float64]
MANY = 400_000
KINDS: dict[str, tuple[Callable[[np.random.Generator, int], Scores], Callable[..., Scores]]] = {
    "calibrated": (lambda chance, n: chance.beta(5, 1, n), lambda scores, _: scores),
    "without meaning, just short of the precision": (
        lambda chance, n: chance.random(n),
        lambda scores, precision: np.full_like(scores, precision - 0.002),
    ),
    "of few values": (lambda chance, n: chance.beta(5, 1, n).round(1), lambda scores, _: scores),
    "too sure at the top": (
        lambda chance, n: chance.beta(8, 1, n),
        lambda scores, precision: np.where(scores > 0.97, precision - 0.01, scores),
    ),
}


def main() -> None:
    """Simulate, and print a line for each."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print("| scores | precision | images | too low | none found | share answered |")
    print("|---|---|---|---|---|---|")
    for name, (draw, chance_of) in KINDS.items():
        for precision in (0.9, 0.95):
            for images in (300, 1000):
                chance = np.random.default_rng(0)
                many = -np.sort(-draw(chance, MANY))
                reached = np.cumsum(chance_of(many, precision)) / np.arange(1, MANY + 1)
                low, shares = 0, []
                for _ in range(number):
                    scores = draw(chance, images)
                    right = chance.random(images) < chance_of(scores, precision)
                    threshold = choose_threshold(scores, right, precision=precision)
                    if threshold is not None:
                        last = int(np.searchsorted(-many, -threshold, side="right")) - 1
                        low += bool(reached[last] < precision)
                        shares.append((last + 1) / MANY)
                share = f"{np.mean(shares):.0%}" if shares else "-"
                print(
                    f"| {name} | {precision:.0%} | {images:,} | {low / number:.2%} |"
                    f" {1 - len(shares) / number:.1%} | {share} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
