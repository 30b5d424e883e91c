"""Behaviour: a network's answers to images in, what is the matter with them out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from toplabel.analysis.doctor.finding import Finding
from toplabel.bundle.reference import are_probabilities
from toplabel.bundle.trust import Repeatability, measure_repeatability

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

BATCH = 8
_SAME = 1e-4


def answer(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Its outputs, batch after batch: float32 (N, K)."""
    with torch.no_grad():
        rows = [
            network(torch.from_numpy(inputs[start : start + BATCH])).float().numpy()
            for start in range(0, len(inputs), BATCH)
        ]
    return np.concatenate(rows)


def look_at(network: nn.Module, inputs: NDArray[np.float32]) -> Iterator[Finding]:
    """Outputs that are probabilities already, and answers that are not the same twice.

    Args:
        network: In eval mode.
        inputs: At least two different ones, float32 (N, C, h, w).
    """
    inputs = inputs[:BATCH]
    alone = np.concatenate([answer(network, one[None]) for one in inputs])
    yield _outputs(alone)
    yield _repeats(
        measure_repeatability(
            lambda batch: answer(network, batch), inputs, alone, batch_sizes=(len(inputs),)
        )
    )


def _outputs(logits: NDArray[np.float32]) -> Finding:
    if not np.isfinite(logits).all():
        return Finding(
            topic="outputs",
            state="wrong",
            text="its outputs for ordinary photos are not all finite numbers",
            line="take an earlier checkpoint, or another dtype",
        )
    if are_probabilities(logits):
        return Finding(
            topic="outputs",
            state="wrong",
            text="its outputs are probabilities already: a softmax on top would flatten them",
            evidence=f"all at least 0, each row sums to 1 ({logits.shape[1]} outputs)",
            line="nothing to do: toplabel adds no second softmax where all rows sum to 1",
        )
    low, high = float(logits.min()), float(logits.max())
    return Finding(
        topic="outputs",
        state="fine",
        text=f"its {logits.shape[1]} outputs are logits",
        evidence=f"from {low:.3g} to {high:.3g}",
    )


def _repeats(found: Repeatability) -> Finding:
    evidence = f"by up to {{:.3g}}, where rounding explains {found.tolerance:.1e}"
    if not found.repeats:
        return Finding(
            topic="repeats",
            state="wrong",
            text="it answers differently when asked again: dropout, or another chance, is active in"
            " eval mode",
            evidence=evidence.format(found.repeated),
            line="in the network's forward: F.dropout(x, training=self.training)",
        )
    if not found.ignores_batch:
        return Finding(
            topic="repeats",
            state="wrong",
            text="its answer for an image depends on the others of its batch: a batch"
            " normalisation still uses the batch's own statistics",
            evidence=evidence.format(found.batched),
            line="call eval() on the whole network; track_running_stats=True in each BatchNorm",
        )
    return Finding(
        topic="repeats",
        state="fine",
        text="it gives the same answer twice, and in a batch",
        evidence=f"differences of at most {max(found.repeated, found.batched):.1e}",
    )
