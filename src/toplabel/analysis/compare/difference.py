"""Differing: two arrays in, whether and how they differ out, in words where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEARLY = 0.03
"""Of the standard deviation: mean differences that decoders and filters make."""

_EXPLAINED = 0.01
"""Of the spread: what may be left where a simple change explains a difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two arrays differ.

    Args:
        largest: Of the absolute differences; infinity where the shapes differ.
        mean: Of them.
        share: Of the values that differ at all.
        words: What explains it, where something simple does.
    """

    largest: float
    mean: float
    share: float
    words: str = ""

    def __str__(self) -> str:
        why = f": {self.words}" if self.words else ""
        if not np.isfinite(self.largest):
            return f"differ{why}"
        return (
            f"differ by up to {self.largest:.3g}, {self.mean:.3g} on average, in {self.share:.0%}"
            f" of the values{why}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; null where shapes differ."""
        return {k: v if v == v and v != np.inf else None for k, v in asdict(self).items()}


def of_pixels(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Difference | None:
    """How pictures (H, W, C) differ; None where they are equal."""
    if np.array_equal(a, b):
        return None
    words = _turned(a, b) or ("B has the channels in the opposite order" if _flipped(a, b) else "")
    if a.shape != b.shape:
        sizes = f"A is {a.shape[1]}x{a.shape[0]}, B {b.shape[1]}x{b.shape[0]} pixels"
        scaled = ""
        if not words and abs(a.shape[0] / b.shape[0] - a.shape[1] / b.shape[1]) < 0.02:
            scaled = " (one is decoded at a smaller scale)"
        return Difference(np.inf, np.inf, 1.0, words or sizes + scaled)
    return _measured(a, b, words)


_TURNS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "turned by 180 degrees": lambda p: p[::-1, ::-1],
    "turned by 90 degrees": lambda p: np.rot90(p, 1),
    "turned by 270 degrees": lambda p: np.rot90(p, -1),
    "mirrored": lambda p: p[:, ::-1],
    "mirrored upside down": lambda p: p[::-1],
    "mirrored along a diagonal": lambda p: p.transpose(1, 0, 2),
    "mirrored along the other diagonal": lambda p: p[::-1, ::-1].transpose(1, 0, 2),
}


def _turned(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> str:
    for words, turn in _TURNS.items():
        turned = turn(a)
        if turned.shape == b.shape and np.abs(turned.astype(np.int16) - b).mean() < 2:
            return f"B is A {words}: one of them does not look at the EXIF orientation"
    return ""


def _flipped(a: NDArray[Any], b: NDArray[Any]) -> bool:
    same = a.shape == b.shape and a.shape[-1] == 3
    return same and float(np.abs(a[..., ::-1].astype(np.float64) - b).mean()) < 1e-3 * 255


def of_tensors(a: NDArray[np.float32], b: NDArray[np.float32]) -> Difference | None:
    """How inputs (C, h, w) differ; None where they do by rounding at most."""
    if a.shape != b.shape:
        return Difference(np.inf, np.inf, 1.0, f"A has the shape {a.shape}, B {b.shape}")
    spread = max(float(np.ptp(a)), float(np.ptp(b)), 1e-12)
    if float(np.abs(a - b).max()) <= 1e-6 * spread:
        return None
    return _measured(a, b, _explained(a, b))


def _explained(a: NDArray[np.float32], b: NDArray[np.float32]) -> str:
    """A change of colours or values that makes B of A, or that there is none so simple."""
    if _relative(a, b) < _NEARLY:
        return "little: another decoder, filter or rounding"
    if len(a) == 3 and _relative(a[::-1], b) < _EXPLAINED:
        return "B has the channels in the opposite order"
    for reverse, words in ((False, ""), (True, " of the channels in the opposite order")):
        source = a[::-1] if reverse else a
        fits = [np.polyfit(one.ravel(), two.ravel(), 1) for one, two in zip(source, b, strict=True)]
        made = np.stack(
            [scale * one + shift for one, (scale, shift) in zip(source, fits, strict=True)]
        )
        if _relative(made, b) < _EXPLAINED:
            scales = "/".join(f"{scale:.3g}" for scale, _ in fits)
            shifts = "/".join(f"{shift:+.3g}" for _, shift in fits)
            return (
                f"B is A x {scales} {shifts}{words}: another range, mean or std, or the channels"
                " are normalised in another order"
            )
    return "not by its values alone: another resizing, crop or filter"


def _relative(made: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(made - b).mean()) / max(float(b.std()), 1e-12)


def of_logits(a: NDArray[np.float32], b: NDArray[np.float32]) -> Difference | None:
    """How outputs (K,) differ; None where they agree as two engines do (1e-4 of their spread)."""
    if a.shape != b.shape:
        return Difference(np.inf, np.inf, 1.0, f"A has {len(a)} classes, B {len(b)}")
    allowed = 1e-4 * max(1.0, float(np.ptp(a)))
    return None if float(np.abs(a - b).max()) <= allowed else _measured(a, b, "")


def _measured(a: NDArray[Any], b: NDArray[Any], words: str) -> Difference:
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return Difference(float(apart.max()), float(apart.mean()), float((apart > 0).mean()), words)
