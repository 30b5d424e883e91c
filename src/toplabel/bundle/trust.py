"""Trust: a network as a function, and images, in; out whether each image has one answer.

A network with dropout left on answers differently each time. One that still normalises by its
batch's statistics answers differently in other company. Neither has *a* label for an image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toplabel.errors import ModelError

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A batch (N, C, H, W) -> its outputs (N, K); both float32."""

OF_SPREAD = 1e-4
"""What one computation done twice may differ by, of how far the outputs vary with the input."""

OF_LARGEST = 1e-5
"""And of the largest output: the order of additions changes with the size of the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """How far the outputs for the same images lie apart.

    Args:
        repeated: The largest difference when an image is given again.
        batched: The largest difference when it is given together with others.
        one_at_a_time: The network does not take batches of every size that was tried.
        tolerance: The largest difference that rounding explains.
    """

    repeated: float
    batched: float
    one_at_a_time: bool
    tolerance: float

    @property
    def repeats(self) -> bool:
        """The same image gets the same answer again."""
        return self.repeated <= self.tolerance

    @property
    def ignores_batch(self) -> bool:
        """The answer for an image does not depend on the other images of its batch."""
        return self.batched <= self.tolerance


def measure_repeatability(
    run: Run,
    inputs: NDArray[np.float32],
    outputs: NDArray[np.float32],
    *,
    batch_sizes: tuple[int, ...] = (2, 5),
    repeats: int = 2,
) -> Repeatability:
    """How far `outputs` are from those of further calls.

    Args:
        run: The network. An exception for a batch means that it takes one image at a time.
        inputs: At least two images, float32 (N, C, H, W).
        outputs: What `run` gave for each of them alone, float32 (N, K).
        batch_sizes: Of the batches to try; each holds the first of the images.
        repeats: How many of the images are given again.
    """
    repeated = [
        largest_difference(outputs[index : index + 1], run(inputs[index : index + 1]))
        for index in range(repeats)
    ]
    batched = [_difference_in_batch(run, inputs[:size], outputs[:size]) for size in batch_sizes]
    return Repeatability(
        repeated=max(repeated, default=0.0),
        batched=max((one for one in batched if one is not None), default=0.0),
        one_at_a_time=None in batched,
        tolerance=tolerance_of(outputs),
    )


def check_repeatability(
    run: Run,
    inputs: NDArray[np.float32],
    outputs: NDArray[np.float32],
    *,
    name: str,
    if_random: str,
    if_batch: str,
    batch_sizes: tuple[int, ...] = (2, 5),
    repeats: int = 2,
) -> bool:
    """Stop where an image has no single answer; else, whether images must be given one at a time.

    Args:
        run: As for `measure_repeatability`.
        inputs: As there.
        outputs: As there.
        batch_sizes: As there.
        repeats: As there.
        name: Of the model.
        if_random: What to do where the answer changes from call to call.
        if_batch: What to do where it depends on the batch.

    Raises:
        ModelError: It answers differently when asked again, or in a batch.
    """
    found = measure_repeatability(run, inputs, outputs, batch_sizes=batch_sizes, repeats=repeats)
    if not found.repeats:
        raise ModelError(
            f"{name} gives different outputs for the same image (by up to {found.repeated:.3g}):"
            f" something random is active, such as dropout; {if_random}"
        )
    if not found.ignores_batch:
        raise ModelError(
            f"the output of {name} for an image depends on the other images of its batch (it"
            f" differs by up to {found.batched:.3g}); {if_batch}"
        )
    return found.one_at_a_time


def have_scores(outputs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows (..., K) can be answers: no NaN, no plus infinity, and not minus infinity alone.

    Minus infinity is how a network leaves out a class.
    """
    return np.asarray(np.isfinite(outputs.max(axis=-1)))


def spread_of(outputs: NDArray[Any]) -> float:
    """How far outputs (N, K) vary with the input: the widest range of one; of finite values."""
    finite = np.isfinite(outputs)
    lowest = np.min(outputs, axis=0, where=finite, initial=np.inf)
    highest = np.max(outputs, axis=0, where=finite, initial=-np.inf)
    return float((highest - lowest).max(initial=0.0))


def tolerance_of(outputs: NDArray[np.float32]) -> float:
    """How much rounding may change outputs (N, K) such as these."""
    rows = outputs[have_scores(outputs)]
    if not len(rows):
        return 0.0
    largest = float(np.abs(rows[np.isfinite(rows)]).max(initial=0.0))
    return max(OF_SPREAD * spread_of(rows), OF_LARGEST * largest)


def largest_difference(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Of any two outputs; infinite where shapes differ, or one alone is not finite."""
    finite = np.isfinite(expected)
    if got.shape != expected.shape or not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    return float(np.abs(expected[finite] - got[finite]).max(initial=0.0))


def _difference_in_batch(
    run: Run, batch: NDArray[np.float32], alone: NDArray[np.float32]
) -> float | None:
    """None where the network does not take the batch, or gives no row for each image."""
    try:
        together = run(batch)
    except Exception:  # networks are other people's code, and each fails in its own way
        return None
    return None if together.shape != alone.shape else largest_difference(alone, together)
